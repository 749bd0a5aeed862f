import type { Scheduler } from "../../scheduler/scheduler.ts";
import type { ChainInput, ChainPlan } from "./chain-plan.ts";
import { type LightRequests, readLightOptions } from "./light-requests.ts";
import type { LoadedModel } from "./model.ts";
import type { PacketReader, PacketWriter } from "./packet.ts";
import { CHAIN, grown, type QuietRuns } from "./quiet.ts";
import { EngineRun, type Request } from "./request.ts";
import { ValueArena } from "./value-arena.ts";

/** The runs of light requests that are chains. */
export class Chains {
  readonly #requests: LightRequests;
  readonly #quiet: QuietRuns;
  /** Tokens of all requests, and vectors of those that have begun: to have those of all there would double them. */
  readonly #tokens = new ValueArena((length) => new Int32Array(length));
  readonly #vectors = new ValueArena((length) => new Float32Array(length));
  /** By subgraph: where the kernel's outputs have its last step. */
  #row = new Int32Array(INITIAL);
  /** By input of the record that is read: where its values begin. */
  readonly #found: number[] = [];

  constructor(requests: LightRequests, quiet: QuietRuns) {
    this.#requests = requests;
    this.#quiet = quiet;
  }

  /**
   * Takes in the request whose options and inputs `reader` is before. Answers false, and leaves the reader anywhere, where it must
   * be an object: for what it wants, or since something is wrong with it.
   */
  admit(
    id: number,
    model: LoadedModel,
    plan: ChainPlan,
    reader: PacketReader,
    scheduler: Scheduler,
    arrival: number,
    nowMs: number,
  ): boolean {
    const options = readLightOptions(id, reader);
    const steps = options ? this.#findInputs(plan, reader) : 0;
    if (!options || steps === 0) return false;
    const { priority, timeoutMs } = options;
    // One that cannot be in time is refused as an object is.
    if (steps * model.profiles[plan.cell]!.stepMs > timeoutMs) return false;
    const type = model.firstType + plan.cell;
    const subgraph = scheduler.addRun(type, steps, priority, arrival, nowMs + timeoutMs);
    if (subgraph >= this.#row.length) this.#row = grown(this.#row, new Int32Array(2 * subgraph));
    this.#quiet.add(subgraph, CHAIN, NO_SLOT, 0, steps);
    for (let i = 0; i < plan.inputs.length; i++) {
      const { at, isInteger, size } = plan.inputs[i]!;
      const from = this.#found[i]!;
      if (isInteger && size === 1) {
        const first = this.#keep(reader, from, steps);
        this.#quiet.give(subgraph, at, this.#tokens.values, first);
      } else this.#quiet.give(subgraph, at, isInteger ? reader.words : reader.allFloats, from);
    }
    this.#requests.add(subgraph, { id, model, options, arrival, admittedMs: nowMs });
    return true;
  }

  begin(subgraph: number, { inputs }: ChainPlan, slot: number, nowMs: number): void {
    this.#quiet.slot[subgraph] = slot;
    this.#requests.start(subgraph, nowMs);
    for (let i = 0; i < inputs.length; i++) if (!inputs[i]!.isInteger) this.#bringNear(subgraph, inputs[i]!);
  }

  /** A packet is long out of the caches: to fetch all steps of a request at once is far quicker than one at a time. */
  #bringNear(subgraph: number, { at, size }: ChainInput): void {
    const { values, first } = this.#quiet.input(at);
    const length = this.#quiet.steps[subgraph]! * size;
    const from = first[subgraph]!;
    const to = this.#vectors.take(length);
    this.#vectors.values.set(values[subgraph]!.subarray(from, from + length), to);
    this.#quiet.give(subgraph, at, this.#vectors.values, to);
  }

  /** The last step has run: its outputs are in this row of the kernel's. */
  end(subgraph: number, row: number): void {
    this.#row[subgraph] = row;
  }

  /** Writes the answer and forgets the request; answers its slot. */
  answer(subgraph: number, plan: ChainPlan, outbox: PacketWriter, nowMs: number): number {
    const place = { cell: plan.cell, outputs: plan.outputs, row: this.#row[subgraph]! };
    this.#requests.answer(subgraph, outbox, nowMs, this.#quiet.steps[subgraph]!, place);
    this.#forget(subgraph, plan);
    return this.#quiet.slot[subgraph]!;
  }

  /** Makes an object of a request, which stays where it is. */
  toObject(subgraph: number, plan: ChainPlan): Request {
    const quiet = this.#quiet;
    const request = this.#requests.toObject(subgraph);
    const [slot, done, steps] = [quiet.slot[subgraph]!, quiet.done[subgraph]!, quiet.steps[subgraph]!];
    const inputs = plan.inputs
      .toSorted((a, b) => a.at - b.at)
      .map(({ at, size }) => {
        const { values, first } = quiet.input(at);
        const from = first[subgraph]!;
        return values[subgraph]!.slice(from, from + steps * size);
      });
    this.#forget(subgraph, plan);
    const run = new EngineRun(request, plan.cell, inputs, []);
    const progress = { subgraph, slot, done, position: done, steps };
    Object.assign(run, { ...progress, outputs: plan.outputs, isQuiet: true });
    request.runs = [run];
    request.open = 1;
    if (done > 0 && done < steps) quiet.enter(run);
    return request;
  }

  #forget(subgraph: number, { inputs }: ChainPlan): void {
    const quiet = this.#quiet;
    for (let i = 0; i < inputs.length; i++) {
      const { at, isInteger, size } = inputs[i]!;
      const first = quiet.input(at).first[subgraph]!;
      const length = quiet.steps[subgraph]! * size;
      if (!isInteger && quiet.slot[subgraph] !== NO_SLOT) this.#vectors.give(first, length);
      else if (isInteger && size === 1) this.#tokens.give(first, length);
    }
    quiet.remove(subgraph, inputs.length);
    this.#requests.remove(subgraph);
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
    const at = this.#tokens.take(steps);
    const { values } = this.#tokens;
    for (let step = 0; step < steps; step++) values[at + step] = words[from + step]!;
    return at;
  }
}

const INITIAL = 1024;
const NO_SLOT = -1;

export function areBelow(symbols: number, words: Int32Array, from: number, count: number): boolean {
  for (let at = from; at < from + count; at++) if (words[at]! < 0 || words[at]! >= symbols) return false;
  return true;
}
