import type { ModelDefinition } from "../../models/definition.ts";
import { checkWholeGraph } from "../../models/whole-graph.ts";
import { Fault } from "../core/faults.ts";
import { command, writeOptions } from "../engine/messages.ts";
import type { EngineMeters } from "../engine/meters.ts";
import { EngineEvents } from "./engine-events.ts";
import { EngineSlot, leastLoaded, type OpenLink } from "./engines.ts";
import { Entries } from "./entries.ts";
import { requestHandle, sessionHandle } from "./handles.ts";
import { MeterQuestions } from "./meter-questions.ts";
import { bytesOf, DRAIN_MS, ModelSet, type ModelSetSettings } from "./model-set.ts";
import { engineOptions } from "./options.ts";
import type { PipelineSession } from "./pipeline-session.ts";
import type { Open, Submit } from "./pipeline-stage.ts";
import { handleOf } from "./pipelines.ts";
import { OpenSession } from "./session.ts";
import { unpackState } from "./state.ts";
import { resultOf, stepsOf } from "./stream.ts";
import { tell, tellBuffers, writeTensors } from "./tell.ts";
import type {
  BufferChange,
  Handle,
  Listener,
  LoadOptions,
  ModelInfo,
  RequestOptions,
  Result,
  Runtime,
  RuntimeStats,
  Session,
  SessionHandle,
  StepOutput,
  UnloadOptions,
  Values,
  Watcher,
} from "./types.ts";
import { tensorsOf } from "./values.ts";
import { Versions } from "./versions.ts";
import { Watchers } from "./watchers.ts";

export interface EngineRuntimeSettings extends ModelSetSettings {
  readonly engines: number;
  readonly maxActive: number;
}

/** Serves models with engines; requests go to the engine that has least to do and stay there. */
export class EngineRuntime implements Runtime {
  readonly #versions = new Versions();
  readonly #engines: readonly EngineSlot[];
  readonly #entries: Entries;
  readonly #models: ModelSet;
  readonly #watchers: Watchers;
  readonly #meters = new MeterQuestions();

  constructor(open: OpenLink, settings: EngineRuntimeSettings) {
    const versions = this.#versions;
    const engines: EngineSlot[] = [];
    this.#engines = engines;
    const watchers = new Watchers(engines);
    this.#watchers = watchers;
    const entries = new Entries(settings.maxActive, (entry, usage) => watchers.ended(entry, usage));
    this.#entries = entries;
    this.#models = new ModelSet(versions, engines, entries, settings);
    const events = new EngineEvents({ entries, versions, watchers, meters: this.#meters });
    for (let i = 0; i < settings.engines; i++)
      engines.push(new EngineSlot(i, open, () => versions.wanted, events));
  }

  get models(): readonly ModelInfo[] {
    return this.#models.infos;
  }

  /** Starts all engines with these models; stops them again where one cannot start. */
  start(models: readonly (string | ModelDefinition)[]): Promise<void> {
    return this.#models.start(models);
  }

  load(model: string | ModelDefinition, options: LoadOptions = {}): Promise<ModelInfo> {
    return this.#models.load(model, options);
  }

  unload(model: string, options: UnloadOptions = {}): Promise<void> {
    return this.#models.unload(model, options);
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
    const pipeline = this.#models.pipelines.find(model, options.version);
    if (!pipeline) return this.#submit(model, inputs, options, listener, false);
    refuseStreaming(model, pipeline.info.streaming, false);
    const submit: Submit = (...stage) => this.#submit(...stage, true);
    const wishes = stageOptions(options);
    return this.#entries.counted(listener, (counted) => pipeline.submit(submit, inputs, wishes, counted));
  }

  open(
    model: string,
    options: RequestOptions & { readonly state?: string },
    listener: Listener,
  ): SessionHandle {
    const pipeline = this.#models.pipelines.find(model, options.version);
    if (!pipeline) return this.#open(model, options, listener, false);
    refuseStreaming(model, pipeline.info.streaming, true);
    const open: Open = (...stage) => this.#open(...stage, true);
    const begin = (heard: Listener, opened: (counted: Listener) => PipelineSession): SessionHandle =>
      handleOf(pipeline, this.#entries.counted(heard, opened), begin);
    const wishes = stageOptions(options);
    return begin(listener, (counted) => pipeline.open(open, wishes, counted));
  }

  #submit(
    model: string,
    inputs: Values,
    options: RequestOptions,
    listener: Listener,
    isStage: boolean,
  ): Handle {
    const version = this.#versions.find(model, options.version);
    const { served } = version;
    refuseStreaming(model, served.definition.program.kind === "session", false);
    const wishes = engineOptions(options, listener.output !== undefined);
    const tensors = tensorsOf(served, inputs, false);
    const entry = this.#entries.accept(version, listener, isStage, () => leastLoaded(this.#engines));
    const writer = tell(entry, command.SUBMIT);
    writer.int(version.number);
    writeOptions(writer, wishes);
    writeTensors(writer, tensors);
    return requestHandle(this.#entries, entry);
  }

  #open(
    model: string,
    options: RequestOptions & { readonly state?: string },
    listener: Listener,
    isStage: boolean,
  ): SessionHandle {
    const version = this.#versions.find(model, options.version);
    const { definition } = version.served;
    refuseStreaming(model, definition.program.kind === "session", true);
    const wishes = engineOptions(options, true);
    const state = options.state === undefined ? undefined : unpackState(definition, options.state);
    const entry = this.#entries.accept(version, listener, isStage, () => leastLoaded(this.#engines));
    const writer = tell(entry, command.OPEN);
    writer.int(version.number);
    writeOptions(writer, wishes);
    writer.int(state ? 1 : 0);
    if (state) writer.values(state);
    return sessionHandle(this.#entries, entry, options);
  }

  setBuffers(model: string, change: BufferChange): void {
    const version = this.#versions.find(model);
    const { definition } = version.served;
    if (definition.program.kind !== "graph")
      throw new Fault("INVALID_REQUEST", `model '${model}' has no buffers: it is no whole graph`);
    const { program } = definition;
    change.buffers.forEach(({ maxBatch, timeoutMs }, i) => {
      if (!Number.isInteger(maxBatch) || maxBatch < 1 || !(timeoutMs >= 0 && timeoutMs <= 60_000))
        throw new Fault(
          "INVALID_REQUEST",
          `buffer ${i} of model '${model}' has maxBatch ${maxBatch} and timeoutMs ${timeoutMs}`,
        );
    });
    if (change.buffers.length === 0) throw new Fault("INVALID_REQUEST", `model '${model}' needs a buffer`);
    checkWholeGraph(`buffers of '${model}'`, { ...program, ...change }, definition.cells);
    version.buffers = change;
    for (const slot of this.#engines) if (slot.link) tellBuffers(slot, version, change);
  }

  stats(): RuntimeStats {
    const total = { cells: 0, tasks: 0, rows: 0, restarts: 0 };
    for (const { link, restarts } of this.#engines) {
      const { cells = 0, tasks = 0, rows = 0 } = link?.counters() ?? {};
      total.restarts += restarts;
      total.cells += cells;
      total.tasks += tasks;
      total.rows += rows;
    }
    return {
      engines: this.#engines.length,
      ...this.#entries.counts,
      ...total,
      bytes: bytesOf(this.#engines),
    };
  }

  meters(): Promise<ReadonlyMap<number, EngineMeters>> {
    return this.#meters.ask(this.#engines);
  }

  watch(watcher: Watcher): () => void {
    return this.#watchers.add(watcher);
  }

  async close(drainMs = DRAIN_MS): Promise<void> {
    await this.#entries.close(drainMs);
    for (const entry of this.#entries)
      this.#entries.fail(entry, new Fault("SHUTTING_DOWN", "the runtime was closed"));
    await Promise.all(this.#engines.map((engine) => engine.stop()));
  }
}

/** Options for the stages of a pipeline: the version was its own. */
function stageOptions<Options extends RequestOptions>({
  version: _,
  ...options
}: Options): Omit<Options, "version"> {
  return options;
}

/** Throws INVALID_REQUEST where a session is wanted of a model for requests, or the other way round. */
function refuseStreaming(model: string, streaming: boolean, wanted: boolean): void {
  if (streaming === wanted) return;
  const [takes, not] = streaming ? ["sessions", "single requests"] : ["single requests", "sessions"];
  throw new Fault("INVALID_REQUEST", `model '${model}' takes ${takes}, not ${not}`);
}
