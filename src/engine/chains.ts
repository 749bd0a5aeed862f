import type { ModelDefinition } from "../../models/definition.ts";
import type { Scheduler } from "../../scheduler/scheduler.ts";
import { sizeOf } from "../core/tensor.ts";
import { type EngineOptions, event, readOptions } from "./messages.ts";
import type { LoadedModel } from "./model.ts";
import type { OutputLists, RunOutput } from "./outputs.ts";
import type { PacketReader, PacketWriter } from "./packet.ts";
import { CHAIN, grown, type QuietRuns } from "./quiet.ts";
import { EngineRun, Request } from "./request.ts";
import { TokenArena } from "./token-arena.ts";

/** What requests of a model look like that are one run of one cell and answered by its last step. */
export interface ChainPlan {
  /** Index among the model's cells. */
  readonly cell: number;
  /** In the order of the model's inputs. */
  readonly inputs: readonly ChainInput[];
  readonly outputs: readonly RunOutput[];
}

interface ChainInput {
  /** Among the cell's inputs. */
  readonly at: number;
  readonly isInteger: boolean;
  /** Of one step. */
  readonly shape: readonly number[];
  readonly size: number;
  /** Tokens are below this; 0 where any number is allowed. */
  readonly symbols: number;
}

/** The plan of a model; undefined where requests can be more than one run, or have outputs of every step. */
export function chainPlan(definition: ModelDefinition, lists: OutputLists): ChainPlan | undefined {
  const { program, cells, inputs, outputs } = definition;
  if (program.kind !== "chain" || program.collect !== "last") return undefined;
  const cell = cells.findIndex(({ name }) => name === program.cell);
  const spec = cells[cell];
  if (!spec?.writes || spec.reads !== 1 || spec.inputs.length !== inputs.length) return undefined;
  const { body } = spec;
  const symbols = "embedding" in body ? (body.embedding?.rows ?? 0) : 0;
  const planned = inputs.map(({ name }): ChainInput => {
    const at = spec.inputs.findIndex((input) => input.name === name);
    const { dtype, shape } = spec.inputs[at]!;
    return {
      at,
      isInteger: dtype === "int32",
      shape,
      size: sizeOf(shape),
      symbols: name === "token" ? symbols : 0,
    };
  });
  let given: readonly RunOutput[] = [];
  for (const { name } of outputs) given = lists.with(given, cell, name, name, false);
  return { cell, inputs: planned, outputs: given };
}

/**
 * Requests of models that have a plan, as rows of numbers from their admission to their answer: most requests of most
 * models. An object is made of one only when somebody cancels or pauses it. With a time limit, or steps that are
 * streamed, it is one from the start.
 */
export class Chains {
  /** How many there are. */
  count = 0;
  readonly #quiet: QuietRuns;
  readonly #arena = new TokenArena();
  /** By subgraph, here and below. */
  #id = new Int32Array(INITIAL);
  #arrival = new Float64Array(INITIAL);
  #admittedMs = new Float64Array(INITIAL);
  #startedMs = new Float64Array(INITIAL);
  /** Where the kernel's outputs have its last step. */
  #row = new Int32Array(INITIAL);
  readonly #options: EngineOptions[] = [];
  readonly #model: LoadedModel[] = [];
  /** By number of the request: its subgraph and 1, or 0. */
  #subgraphs = new Int32Array(INITIAL);
  /** By input of the record that is read: where its values begin. */
  readonly #found: number[] = [];

  constructor(quiet: QuietRuns) {
    this.#quiet = quiet;
  }

  /**
   * Takes in the request whose options and inputs `reader` is before. Answers false, and leaves the reader there, where it must be
   * an object: for what it wants, or since something is wrong with it.
   */
  admit(
    id: number,
    model: LoadedModel,
    reader: PacketReader,
    scheduler: Scheduler,
    arrival: number,
    nowMs: number,
  ): boolean {
    const { chain } = model;
    if (!chain || id >= MOST_IDS) return false;
    const start = reader.position;
    const options = readOptions(reader);
    const isPlain = !options.stream && options.timeoutMs === Number.POSITIVE_INFINITY;
    const steps = isPlain ? this.#findInputs(chain, reader) : 0;
    if (steps === 0) {
      reader.position = start;
      return false;
    }
    const { priority } = options;
    const subgraph = scheduler.addRun(model.firstType + chain.cell, steps, priority, arrival);
    this.#makeRoom(subgraph, id);
    this.#quiet.add(subgraph, CHAIN, NO_SLOT, 0, steps);
    for (let i = 0; i < chain.inputs.length; i++) {
      const { at, isInteger, size } = chain.inputs[i]!;
      const from = this.#found[i]!;
      if (isInteger && size === 1)
        this.#quiet.give(subgraph, at, this.#arena.tokens, this.#keep(reader, from, steps));
      else this.#quiet.give(subgraph, at, isInteger ? reader.words : reader.allFloats, from);
    }
    this.#id[subgraph] = id;
    this.#arrival[subgraph] = arrival;
    this.#admittedMs[subgraph] = nowMs;
    this.#options[subgraph] = options;
    this.#model[subgraph] = model;
    this.#subgraphs[id] = subgraph + 1;
    this.count++;
    return true;
  }

  /** The request's number. */
  idOf(subgraph: number): number {
    return this.#id[subgraph]!;
  }

  modelOf(subgraph: number): LoadedModel {
    return this.#model[subgraph]!;
  }

  /** The subgraph of a request, where it is one of these. */
  find(id: number): number | undefined {
    const found = this.#subgraphs[id] ?? 0;
    return found === 0 ? undefined : found - 1;
  }

  /** Numbers of all requests of a model. */
  of(model: LoadedModel): readonly number[] {
    const ids: number[] = [];
    this.#subgraphs.forEach((found, id) => {
      if (found > 0 && this.#model[found - 1] === model) ids.push(id);
    });
    return ids;
  }

  begin(subgraph: number, slot: number, nowMs: number): void {
    this.#quiet.slot[subgraph] = slot;
    this.#startedMs[subgraph] = nowMs;
  }

  /** The last step has run: its outputs are in this row of the kernel's. */
  end(subgraph: number, row: number): void {
    this.#row[subgraph] = row;
  }

  /** Writes the answer and forgets the request; answers its slot. */
  answer(subgraph: number, outbox: PacketWriter, nowMs: number): number {
    const { chain, kernel } = this.#model[subgraph]!;
    const outputs = kernel.outputs(chain!.cell);
    const row = this.#row[subgraph]!;
    const startedMs = this.#startedMs[subgraph]!;
    outbox.int(event.DONE);
    outbox.int(this.#id[subgraph]!);
    outbox.int(this.#quiet.steps[subgraph]!);
    outbox.double(startedMs - this.#admittedMs[subgraph]!);
    outbox.double(nowMs - startedMs);
    outbox.int(chain!.outputs.length);
    for (let i = 0; i < chain!.outputs.length; i++) {
      const { output, cellOutput, shape, size } = chain!.outputs[i]!;
      outbox.int(output);
      outbox.tensor(shape, outputs[cellOutput]!, row * size, size);
    }
    this.#forget(subgraph, chain!);
    return this.#quiet.slot[subgraph]!;
  }

  /** Makes an object of a request, which stays where it is. */
  toObject(subgraph: number): Request {
    const quiet = this.#quiet;
    const model = this.#model[subgraph]!;
    const { chain } = model;
    const id = this.#id[subgraph]!;
    const request = new Request(
      id,
      model,
      this.#options[subgraph]!,
      this.#arrival[subgraph]!,
      this.#admittedMs[subgraph]!,
    );
    const [slot, done, steps] = [quiet.slot[subgraph]!, quiet.done[subgraph]!, quiet.steps[subgraph]!];
    if (slot !== NO_SLOT) request.startedMs = this.#startedMs[subgraph]!;
    const inputs = chain!.inputs
      .toSorted((a, b) => a.at - b.at)
      .map(({ at, size }) => {
        const { values, first } = quiet.input(at);
        const from = first[subgraph]!;
        return values[subgraph]!.slice(from, from + steps * size);
      });
    this.#forget(subgraph, chain!);
    const run = new EngineRun(request, chain!.cell, inputs, []);
    Object.assign(run, {
      subgraph,
      slot,
      done,
      position: done,
      steps,
      outputs: chain!.outputs,
      isQuiet: true,
    });
    request.runs = [run];
    request.open = 1;
    if (done > 0 && done < steps) quiet.enter(run);
    return request;
  }

  #forget(subgraph: number, { inputs }: ChainPlan): void {
    const quiet = this.#quiet;
    for (let i = 0; i < inputs.length; i++) {
      const { at, isInteger, size } = inputs[i]!;
      if (isInteger && size === 1) this.#arena.give(quiet.input(at).first[subgraph]!, quiet.steps[subgraph]!);
    }
    quiet.remove(subgraph, inputs.length);
    this.#subgraphs[this.#id[subgraph]!] = 0;
    this.count--;
  }

  /** Goes past the inputs; answers their steps, or 0 where they are not as the plan says. */
  #findInputs({ inputs }: ChainPlan, reader: PacketReader): number {
    if (reader.int() !== inputs.length) return 0;
    let steps = 0;
    for (let i = 0; i < inputs.length; i++) {
      const input = inputs[i]!;
      if (reader.int() !== i) return 0;
      if ((reader.int() === 1) !== input.isInteger || reader.int() !== input.shape.length + 1) return 0;
      const length = reader.int();
      if (i > 0 && length !== steps) return 0;
      steps = length;
      for (let dim = 0; dim < input.shape.length; dim++) if (reader.int() !== input.shape[dim]) return 0;
      const values = reader.int();
      if (values !== steps * input.size) return 0;
      this.#found[i] = reader.position;
      if (input.symbols > 0 && !areBelow(input.symbols, reader.words, reader.position, values)) return 0;
      reader.position += values;
    }
    return steps;
  }

  /** Copies tokens to where they stay. */
  #keep({ words }: PacketReader, from: number, steps: number): number {
    const at = this.#arena.take(steps);
    const { tokens } = this.#arena;
    for (let step = 0; step < steps; step++) tokens[at + step] = words[from + step]!;
    return at;
  }

  #makeRoom(subgraph: number, id: number): void {
    while (subgraph >= this.#id.length) {
      const length = this.#id.length * 2;
      this.#id = grown(this.#id, new Int32Array(length));
      this.#arrival = grown(this.#arrival, new Float64Array(length));
      this.#admittedMs = grown(this.#admittedMs, new Float64Array(length));
      this.#startedMs = grown(this.#startedMs, new Float64Array(length));
      this.#row = grown(this.#row, new Int32Array(length));
    }
    while (id >= this.#subgraphs.length)
      this.#subgraphs = grown(this.#subgraphs, new Int32Array(this.#subgraphs.length * 2));
  }
}

const INITIAL = 1024;
const NO_SLOT = -1;
/** Runtimes use small numbers again; a request with a larger one is an object. */
const MOST_IDS = 2 ** 24;

function areBelow(symbols: number, words: Int32Array, from: number, count: number): boolean {
  for (let at = from; at < from + count; at++) if (words[at]! < 0 || words[at]! >= symbols) return false;
  return true;
}
