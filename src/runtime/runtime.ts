import type { ModelDefinition } from "../../models/definition.ts";
import { Fault, faultCodes } from "../core/faults.ts";
import { sizeOf, type Tensor } from "../core/tensor.ts";
import { command, event, writeOptions } from "../engine/messages.ts";
import { type EngineMeters, readMeters } from "../engine/meters.ts";
import { PacketReader, type PacketWriter } from "../engine/packet.ts";
import { EngineSlot, leastLoaded } from "./engines.ts";
import type { Link, LinkEvents } from "./link.ts";
import { engineOptions } from "./options.ts";
import type { PipelineSession } from "./pipeline-session.ts";
import type { Open, Submit } from "./pipeline-stage.ts";
import { handleOf, type PipelineDefinition, ServedPipeline } from "./pipelines.ts";
import type { ServedModel } from "./served-model.ts";
import { OpenSession } from "./session.ts";
import { packState, unpackState } from "./state.ts";
import { StepTexts } from "./step-texts.ts";
import { resultOf, stepsOf } from "./stream.ts";
import type {
  Handle,
  Listener,
  ModelInfo,
  RequestOptions,
  Result,
  Runtime,
  RuntimeStats,
  Session,
  SessionHandle,
  StepOutput,
  Value,
  Values,
} from "./types.ts";
import { inputSpecs, outputSpecs, outputValue, tensorsOf } from "./values.ts";

/** A request or session between its acceptance and its end. */
interface Entry {
  readonly id: number;
  readonly model: ServedModel;
  readonly engine: EngineSlot;
  readonly listener: Listener;
  /** Whether it is a stage of a pipeline, which is counted in its place. */
  readonly isStage: boolean;
  /** The texts among its steps, once there is a step. */
  texts?: StepTexts;
}

/** Serves models with engines; requests go to the engine that has least to do and stay there. */
export class EngineRuntime implements Runtime {
  models: readonly ModelInfo[] = [];
  readonly #served: readonly ServedModel[];
  readonly #pipelines: readonly ServedPipeline[];
  readonly #engines: readonly EngineSlot[];
  readonly #maxActive: number;
  readonly #entries: (Entry | undefined)[] = [];
  readonly #freeIds: number[] = [];
  #accepted = 0;
  #completed = 0;
  #failed = 0;
  /** Who waits for meters, by the number of the question. */
  readonly #asked = new Map<number, (meters: EngineMeters) => void>();
  #asks = 0;
  #closing = false;
  #drained: (() => void) | undefined;

  constructor(
    served: readonly ServedModel[],
    pipelines: readonly PipelineDefinition[],
    open: (events: LinkEvents) => Promise<Link>,
    settings: { readonly engines: number; readonly maxActive: number },
  ) {
    this.#served = served;
    const models = served.map(({ definition }) => infoOf(definition));
    this.#pipelines = pipelines.map((definition) => new ServedPipeline(definition, models));
    this.#maxActive = settings.maxActive;
    const events = {
      packet: (packet: ArrayBuffer) => this.#hear(packet),
      died: (slot: EngineSlot, reason: string) => this.#lose(slot, reason),
    };
    this.#engines = Array.from({ length: settings.engines }, (_, i) => new EngineSlot(i, open, events));
  }

  /** Starts all engines; stops them again where one cannot start. */
  async start(): Promise<void> {
    try {
      await Promise.all(this.#engines.map((engine) => engine.start()));
    } catch (error) {
      await Promise.all(this.#engines.map((engine) => engine.stop()));
      throw error;
    }
    const { cells } = this.#engines[0]!.link!;
    const models = this.#served.map(({ definition }, i) => ({ ...infoOf(definition), cells: cells[i]! }));
    this.models = [...this.#pipelines.map(({ info }) => ({ ...info, cells: [] })), ...models];
  }

  run(
    model: string,
    inputs: Values,
    options: RequestOptions & { readonly signal?: AbortSignal } = {},
  ): Promise<Result> {
    return resultOf((listener) => this.submit(model, inputs, options, listener), options.signal);
  }

  stream(
    model: string,
    inputs: Values,
    options: RequestOptions & { readonly signal?: AbortSignal } = {},
  ): AsyncIterable<StepOutput> {
    return stepsOf((listener) => this.submit(model, inputs, options, listener), options.signal);
  }

  session(model: string, options: RequestOptions & { readonly state?: string } = {}): Session {
    return new OpenSession((listener) => this.open(model, options, listener));
  }

  submit(model: string, inputs: Values, options: RequestOptions, listener: Listener): Handle {
    const pipeline = this.#pipelines.find(({ info }) => info.name === model);
    if (!pipeline) return this.#submit(model, inputs, options, listener, false);
    refuseStreaming(model, pipeline.info.streaming, false);
    const submit: Submit = (...stage) => this.#submit(...stage, true);
    return this.#counted(listener, (counted) => pipeline.submit(submit, inputs, options, counted));
  }

  open(
    model: string,
    options: RequestOptions & { readonly state?: string },
    listener: Listener,
  ): SessionHandle {
    const pipeline = this.#pipelines.find(({ info }) => info.name === model);
    if (!pipeline) return this.#open(model, options, listener, false);
    refuseStreaming(model, pipeline.info.streaming, true);
    const open: Open = (...stage) => this.#open(...stage, true);
    const begin = (heard: Listener, opened: (counted: Listener) => PipelineSession): SessionHandle =>
      handleOf(this.#counted(heard, opened), begin);
    return begin(listener, (counted) => pipeline.open(open, options, counted));
  }

  #submit(
    model: string,
    inputs: Values,
    options: RequestOptions,
    listener: Listener,
    isStage: boolean,
  ): Handle {
    const served = this.#find(model);
    refuseStreaming(model, served.definition.program.kind === "session", false);
    const wishes = engineOptions(options, listener.output !== undefined);
    const tensors = tensorsOf(served, inputs, false);
    const entry = this.#accept(served, listener, isStage);
    const writer = this.#command(entry, command.SUBMIT);
    writer.int(this.#served.indexOf(served));
    writeOptions(writer, wishes);
    writeTensors(writer, tensors);
    return this.#handle(entry);
  }

  #open(
    model: string,
    options: RequestOptions & { readonly state?: string },
    listener: Listener,
    isStage: boolean,
  ): SessionHandle {
    const served = this.#find(model);
    const { definition } = served;
    refuseStreaming(model, definition.program.kind === "session", true);
    const wishes = engineOptions(options, true);
    const state =
      options.state === undefined ? undefined : unpackState(definition, options.state, stateSize(definition));
    const entry = this.#accept(served, listener, isStage);
    const writer = this.#command(entry, command.OPEN);
    writer.int(this.#served.indexOf(served));
    writeOptions(writer, wishes);
    writer.int(state ? 1 : 0);
    if (state) writer.values(state);
    return this.#sessionHandle(entry, options);
  }

  stats(): RuntimeStats {
    let cells = 0;
    let tasks = 0;
    let rows = 0;
    let restarts = 0;
    for (const { link, restarts: count } of this.#engines) {
      restarts += count;
      const counters = link?.counters();
      cells += counters?.cells ?? 0;
      tasks += counters?.tasks ?? 0;
      rows += counters?.rows ?? 0;
    }
    return {
      engines: this.#engines.length,
      active: this.#accepted - this.#completed - this.#failed,
      accepted: this.#accepted,
      completed: this.#completed,
      failed: this.#failed,
      cells,
      tasks,
      rows,
      restarts,
    };
  }

  async meters(): Promise<ReadonlyMap<number, EngineMeters>> {
    const meters = new Map<number, EngineMeters>();
    const ask = (engine: EngineSlot) =>
      new Promise<void>((resolve) => {
        const id = this.#asks++ & 0x7fffffff;
        const end = () => {
          clearTimeout(timer);
          this.#asked.delete(id);
          resolve();
        };
        const timer = setTimeout(end, METERS_MS);
        this.#asked.set(id, (counted) => {
          meters.set(engine.index, counted);
          end();
        });
        const { writer } = engine;
        writer.int(command.METERS);
        writer.int(id);
      });
    await Promise.all(this.#engines.filter(({ link }) => link).map(ask));
    return meters;
  }

  async close(drainMs = 10_000): Promise<void> {
    this.#closing = true;
    if (this.stats().active > 0 && drainMs > 0) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, drainMs);
        this.#drained = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
    for (const entry of this.#entries) {
      if (entry)
        this.#end(entry, () => entry.listener.failed(new Fault("SHUTTING_DOWN", "the runtime was closed")));
    }
    await Promise.all(this.#engines.map((engine) => engine.stop()));
  }

  #find(model: string): ServedModel {
    const served = this.#served.find(({ definition }) => definition.name === model);
    if (served) return served;
    const known = this.models.map(({ name }) => name).join(", ");
    throw new Fault("MODEL_NOT_FOUND", `there is no model '${model}'; there are ${known || "none"}`);
  }

  #checkAdmission(): void {
    if (this.#closing) throw new Fault("SHUTTING_DOWN", "the runtime is closing and takes no more requests");
    if (this.stats().active >= this.#maxActive) {
      throw new Fault("OVERLOADED", `${this.#maxActive} requests and sessions are active, which is the most`);
    }
  }

  /** Stages belong to a pipeline that was admitted, and go on while the runtime drains. */
  #accept(model: ServedModel, listener: Listener, isStage: boolean, engine?: EngineSlot): Entry {
    if (!isStage) this.#checkAdmission();
    const slot = engine ?? leastLoaded(this.#engines);
    const id = this.#freeIds.pop() ?? this.#entries.length;
    const entry: Entry = { id, model, engine: slot, listener, isStage };
    this.#entries[id] = entry;
    slot.active++;
    if (!isStage) this.#accepted++;
    return entry;
  }

  /** Begins a pipeline, which is one request or session however many stages it has. */
  #counted<Begun>(listener: Listener, begin: (counted: Listener) => Begun): Begun {
    this.#checkAdmission();
    const begun = begin({
      ...listener,
      done: (result) => this.#count(true, () => listener.done(result)),
      suspended: (state) => this.#count(true, () => listener.suspended?.(state)),
      failed: (fault) => this.#count(false, () => listener.failed(fault)),
    });
    this.#accepted++;
    return begun;
  }

  #command(entry: Entry, kind: number): PacketWriter {
    const { writer } = entry.engine;
    writer.int(kind);
    writer.int(entry.id);
    return writer;
  }

  #handle(entry: Entry): Handle {
    const tell = (kind: number) => {
      if (this.#entries[entry.id] === entry) this.#command(entry, kind);
    };
    return {
      cancel: () => tell(command.CANCEL),
      pause: () => tell(command.PAUSE),
      resume: () => tell(command.RESUME),
    };
  }

  #sessionHandle(entry: Entry, options: RequestOptions): SessionHandle {
    const isOpen = () => this.#entries[entry.id] === entry;
    const tell = (kind: number) => {
      if (isOpen()) this.#command(entry, kind);
    };
    return {
      ...this.#handle(entry),
      push: (inputs) => {
        const tensors = tensorsOf(entry.model, inputs, true);
        if (isOpen()) writeTensors(this.#command(entry, command.PUSH), tensors);
      },
      end: () => tell(command.END),
      marker: (marker) => {
        if (isOpen()) this.#command(entry, command.MARKER).int(marker);
      },
      suspend: () => tell(command.SUSPEND),
      fork: (listener) => {
        if (!isOpen()) throw new Fault("SESSION_NOT_FOUND", "the session to fork has ended");
        const child = this.#accept(entry.model, listener, entry.isStage, entry.engine);
        const writer = this.#command(entry, command.FORK);
        writer.int(child.id);
        writeOptions(writer, engineOptions(options, true));
        return this.#sessionHandle(child, options);
      },
    };
  }

  /** Tells listeners what an engine says. */
  #hear(packet: ArrayBuffer): void {
    const reader = new PacketReader(packet);
    while (!reader.isDone) {
      const kind = reader.int();
      const id = reader.int();
      if (kind === event.METERS) {
        this.#asked.get(id)?.(readMeters(reader));
        continue;
      }
      const entry = this.#entries[id];
      if (kind === event.OUTPUT) {
        const step = reader.int();
        const outputs = readStep(reader, entry, step);
        entry?.listener.output?.({ step, outputs });
        if (entry?.model.definition.program.kind === "session") entry.listener.consumed?.(1);
      } else if (kind === event.DONE) {
        const usage = { cells: reader.int(), queueMs: reader.double(), computeMs: reader.double() };
        const outputs = readOutputs(reader, entry);
        if (!entry) continue;
        const rest = entry.texts?.rest();
        if (rest) entry.listener.output?.(rest);
        this.#end(entry, () => entry.listener.done({ outputs, usage }), true);
      } else if (kind === event.FAILED) {
        const fault = new Fault(faultCodes[reader.int()]!, reader.text());
        if (entry) this.#end(entry, () => entry.listener.failed(fault));
      } else if (kind === event.MARKER) {
        const marker = reader.int();
        entry?.listener.marker?.(marker);
      } else {
        const values = reader.floats();
        if (entry)
          this.#end(entry, () => entry.listener.suspended?.(packState(entry.model.definition, values)), true);
      }
    }
  }

  /** Lets a request go, then says its last word. */
  #end(entry: Entry, tell: () => void, isSuccess = false): void {
    this.#entries[entry.id] = undefined;
    this.#freeIds.push(entry.id);
    entry.engine.active--;
    if (entry.isStage) tell();
    else this.#count(isSuccess, tell);
  }

  /** Counts what has ended, and says its last word. */
  #count(isSuccess: boolean, tell: () => void): void {
    if (isSuccess) this.#completed++;
    else this.#failed++;
    tell();
    if (this.#drained && this.stats().active === 0) this.#drained();
  }

  #lose(engine: EngineSlot, reason: string): void {
    for (const entry of this.#entries) {
      if (entry?.engine !== engine) continue;
      const message = `engine ${engine.index} died and took the request with it: ${reason}`;
      this.#end(entry, () => entry.listener.failed(new Fault("INTERNAL", message)));
    }
  }
}

/** Longest wait for an engine's meters: one that takes longer is in a long step, or dead. */
const METERS_MS = 1000;

function infoOf(definition: ModelDefinition): Omit<ModelInfo, "cells"> {
  const { name, version, description, program, example } = definition;
  return {
    name,
    version,
    description,
    program: program.kind,
    streaming: program.kind === "session",
    inputs: inputSpecs(definition),
    outputs: outputSpecs(definition),
    ...(example ? { example } : {}),
  };
}

/** Throws INVALID_REQUEST where a session is wanted of a model for requests, or the other way round. */
function refuseStreaming(model: string, streaming: boolean, wanted: boolean): void {
  if (streaming === wanted) return;
  const [takes, not] = streaming ? ["sessions", "single requests"] : ["single requests", "sessions"];
  throw new Fault("INVALID_REQUEST", `model '${model}' takes ${takes}, not ${not}`);
}

function writeTensors(writer: PacketWriter, tensors: readonly Tensor[]): void {
  writer.int(tensors.length);
  tensors.forEach(({ shape, data }, at) => {
    writer.int(at);
    writer.tensor(shape, data);
  });
}

/** The outputs of a whole request. */
function readOutputs(reader: PacketReader, entry: Entry | undefined): Values {
  return readValues(reader, (output, tensor) => entry && outputValue(entry.model, output, tensor));
}

function readStep(reader: PacketReader, entry: Entry | undefined, step: number): Values {
  if (!entry) return readValues(reader, () => undefined);
  entry.texts ??= new StepTexts(entry.model);
  const { texts } = entry;
  return readValues(reader, (output, tensor) => texts.value(step, output, tensor));
}

function readValues(
  reader: PacketReader,
  read: (output: number, tensor: Tensor) => readonly [string, Value] | undefined,
): Values {
  const outputs: Record<string, Value> = {};
  for (let count = reader.int(); count > 0; count--) {
    const named = read(reader.int(), reader.tensor());
    if (named) outputs[named[0]] = named[1];
  }
  return outputs;
}

function stateSize({ cells }: ModelDefinition): number {
  const sizes = new Map(
    cells.flatMap(({ states }) => states.map(({ name, shape }) => [name, sizeOf(shape)])),
  );
  return [...sizes.values()].reduce((sum, size) => sum + size, 0);
}
