import type { ModelDefinition } from "../../models/definition.ts";
import { checkWholeGraph } from "../../models/whole-graph.ts";
import { Fault, faultCodes } from "../core/faults.ts";
import { sizeOf, type Tensor } from "../core/tensor.ts";
import { bytesToLoad, definitionOf, type ModelSource } from "../engine/load.ts";
import { command, event, writeOptions } from "../engine/messages.ts";
import { type EngineMeters, readMeters } from "../engine/meters.ts";
import { PacketReader, type PacketWriter } from "../engine/packet.ts";
import { EngineSlot, leastLoaded, type OpenLink } from "./engines.ts";
import { engineOptions } from "./options.ts";
import type { StageModel } from "./pipeline-plan.ts";
import type { PipelineSession } from "./pipeline-session.ts";
import { PipelineSet } from "./pipeline-set.ts";
import type { Open, Submit } from "./pipeline-stage.ts";
import { handleOf, isPipeline, type PipelineDefinition, ServedPipeline } from "./pipelines.ts";
import { servedModel } from "./served-model.ts";
import { OpenSession } from "./session.ts";
import { packState, unpackState } from "./state.ts";
import { StepTexts } from "./step-texts.ts";
import { resultOf, stepsOf } from "./stream.ts";
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
  Usage,
  Value,
  Values,
  WatchedStep,
  Watcher,
} from "./types.ts";
import { outputValue, tensorsOf } from "./values.ts";
import { compareVersions, infoOf, type Version, Versions } from "./versions.ts";

/** A request or session between its acceptance and its end. */
interface Entry {
  readonly id: number;
  /** Counts entries, from 1; an `id` is used again. */
  readonly serial: number;
  readonly version: Version;
  readonly engine: EngineSlot;
  readonly listener: Listener;
  /** Whether it is a stage of a pipeline, which is counted in its place. */
  readonly isStage: boolean;
  /** Set once it has to leave, because its version is unloaded. */
  isEvicted: boolean;
  /** The texts among its steps, once there is a step. */
  texts?: StepTexts;
}

export interface EngineRuntimeSettings {
  readonly engines: number;
  readonly maxActive: number;
  /** `Infinity` for none. */
  readonly memoryLimit: number;
  /** Finds a model and checks that engines can be given it: before they run, and without disturbing this thread. */
  readonly sourceOf: FindSource;
  readonly sourceWhileRunning: FindSource;
}

type FindSource = (model: string | ModelDefinition) => Promise<ModelSource>;

/** Serves models with engines; requests go to the engine that has least to do and stay there. */
export class EngineRuntime implements Runtime {
  readonly #versions = new Versions();
  readonly #pipelines = new PipelineSet();
  readonly #engines: readonly EngineSlot[];
  readonly #settings: EngineRuntimeSettings;
  /** Bytes that engines hold of no model yet, of those that are being loaded. */
  #promisedBytes = 0;
  readonly #entries: (Entry | undefined)[] = [];
  readonly #freeIds: number[] = [];
  /** The buffers that were set, for engines that are started again. */
  readonly #buffers = new Map<Version, BufferChange>();
  readonly #watchers = new Set<Watcher>();
  #lastSerial = 0;
  #accepted = 0;
  #completed = 0;
  #failed = 0;
  /** Who waits for meters, by the number of the question. */
  readonly #asked = new Map<number, (meters: EngineMeters) => void>();
  #asks = 0;
  #closing = false;
  #drained: (() => void) | undefined;

  constructor(open: OpenLink, settings: EngineRuntimeSettings) {
    this.#settings = settings;
    const events = {
      packet: (packet: ArrayBuffer, slot: EngineSlot) => this.#hear(packet, slot),
      up: (slot: EngineSlot) => this.#retell(slot),
      died: (slot: EngineSlot, reason: string) => this.#lose(slot, reason),
    };
    this.#engines = Array.from(
      { length: settings.engines },
      (_, i) => new EngineSlot(i, open, () => this.#versions.wanted, events),
    );
  }

  get models(): readonly ModelInfo[] {
    const { infos } = this.#pipelines;
    return infos.length > 0 ? [...infos, ...this.#versions.infos] : this.#versions.infos;
  }

  /** Starts all engines with these models; stops them again where one cannot start. */
  async start(models: readonly (string | ModelDefinition)[]): Promise<void> {
    const sources = await Promise.all(models.map(this.#settings.sourceOf));
    const { single, pipelines } = await divide(sources);
    const definitions = await Promise.all(single.map(definitionOf));
    const names = new Set<string>();
    for (const { name } of [...definitions, ...pipelines]) {
      if (names.has(name)) throw new Fault("INVALID_REQUEST", `two models are named '${name}'`);
      names.add(name);
    }
    const infos = definitions.map(infoOf);
    for (const definition of pipelines) this.#pipelines.add(new ServedPipeline(definition, infos));
    const served = await Promise.all(definitions.map(servedModel));
    const versions = served.map((model, i) => {
      this.#promisedBytes += this.#bytesToLoad(model.definition);
      return this.#versions.add(single[i]!, model);
    });
    try {
      await Promise.all(this.#engines.map((engine) => engine.start()));
    } catch (error) {
      await Promise.all(this.#engines.map((engine) => engine.stop()));
      throw error;
    } finally {
      this.#promisedBytes = 0;
    }
    const { loaded } = this.#engines[0]!.link!;
    for (const version of versions) this.#versions.announce(version, loaded.get(version.number)!.cells);
  }

  async load(
    model: string | ModelDefinition,
    { version: wanted, drainMs = DRAIN_MS }: LoadOptions = {},
  ): Promise<ModelInfo> {
    const source = await this.#settings.sourceWhileRunning(model);
    const found = await definitionOf(source);
    const definition = wanted === undefined ? found : { ...found, version: wanted };
    if (isPipeline(definition)) return this.#loadPipeline(definition, drainMs);
    if (this.#pipelines.has(definition.name))
      throw new Fault("INVALID_REQUEST", `'${definition.name}' is the name of a pipeline`);
    this.#checkStages(infoOf(definition));
    const served = await servedModel(definition);
    if (this.#closing) throw new Fault("SHUTTING_DOWN", "the runtime is closing and loads no more models");
    const bytes = this.#bytesToLoad(definition);
    const version = this.#versions.add("module" in source ? source : { definition }, served);
    this.#promisedBytes += bytes;
    const loads = await Promise.allSettled(this.#engines.map((engine) => engine.load(version)));
    this.#promisedBytes -= bytes;
    const refused = loads.find(({ status }) => status === "rejected") as PromiseRejectedResult | undefined;
    const loaded = loads.map((load) => (load.status === "fulfilled" ? load.value : undefined)).find(Boolean);
    if (refused || !loaded || this.#closing) {
      await this.#takeOut(version);
      if (this.#closing)
        throw new Fault("SHUTTING_DOWN", "the runtime was closed while the model was loading");
      throw refused?.reason ?? new Fault("MODEL_NOT_READY", "no engine is up; they are being started again");
    }
    const replaced = this.#versions.announce(version, loaded.cells);
    // Whoever began on it finishes on it; nobody waits for that here.
    if (replaced) void this.#retire(replaced, drainMs);
    return this.#versions.infoOf(version);
  }

  /** Throws INVALID_REQUEST where a pipeline would not fit a model that is to be the newest of its name. */
  #checkStages(model: StageModel & { readonly version: string }): void {
    const { infos } = this.#versions;
    const newest = infos.find(({ name }) => name === model.name);
    if (newest && compareVersions(model.version, newest.version) < 0) return;
    this.#pipelines.checkUsersOf(model.name, [model, ...infos]);
  }

  /** Loads the models that lie in its folder, and announces it. */
  async #loadPipeline(definition: PipelineDefinition, drainMs: number): Promise<ModelInfo> {
    const { name, program, parts = [] } = definition;
    const infos = () => this.#versions.infos;
    if (infos().some((info) => info.name === name))
      throw new Fault("INVALID_REQUEST", `pipeline '${name}' has the name of a model`);
    const own = this.#pipelines.find(name)?.parts ?? [];
    const foreign = parts.find(
      (part) => !own.includes(part.name) && infos().some((info) => info.name === part.name),
    );
    if (foreign)
      throw new Fault(
        "INVALID_REQUEST",
        `pipeline '${name}' holds a model '${foreign.name}', which is served already`,
      );
    const loaded: string[] = [];
    try {
      for (const part of parts) {
        await this.load(part, { drainMs });
        loaded.push(part.name);
      }
      const missing = program.stages.find(({ model }) => !infos().some((info) => info.name === model));
      if (missing)
        throw new Fault(
          "MODEL_NOT_READY",
          `pipeline '${name}' has a stage of model '${missing.model}', which is not loaded`,
        );
      const pipeline = new ServedPipeline(definition, infos());
      const replaced = this.#pipelines.add(pipeline);
      if (replaced) void this.#retirePipeline(replaced, drainMs);
      return { ...pipeline.info, cells: [] };
    } catch (error) {
      const fresh = loaded.filter((part) => !own.includes(part));
      await Promise.all(fresh.map((part) => this.unload(part, { drainMs })));
      throw error;
    }
  }

  /** Waits for who is with a pipeline that nobody new gets, and lets those of its own models go that no other has taken over. */
  async #retirePipeline(pipeline: ServedPipeline, drainMs: number): Promise<void> {
    await pipeline.retire(drainMs);
    const kept = this.#pipelines.find(pipeline.info.name)?.parts ?? [];
    const gone = pipeline.parts.filter((part) => !kept.includes(part));
    await Promise.all(gone.map((part) => this.unload(part, { drainMs })));
  }

  async unload(model: string, { version, drainMs = DRAIN_MS }: UnloadOptions = {}): Promise<void> {
    if (this.#pipelines.has(model)) {
      const gone = this.#pipelines.named(model, version);
      for (const one of gone) this.#pipelines.remove(one);
      await Promise.all(gone.map((one) => this.#retirePipeline(one, drainMs)));
      return;
    }
    const versions = this.#versions.named(model, version);
    const leaving = new Set(versions.map(({ served }) => served.definition.version));
    const left = this.#versions.infos.filter((info) => info.name !== model || !leaving.has(info.version));
    this.#pipelines.checkUsersOf(model, left);
    for (const one of versions) this.#versions.withdraw(one);
    await Promise.all(versions.map((one) => this.#retire(one, drainMs)));
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
    const pipeline = this.#pipelines.find(model, options.version);
    if (!pipeline) return this.#submit(model, inputs, options, listener, false);
    refuseStreaming(model, pipeline.info.streaming, false);
    const submit: Submit = (...stage) => this.#submit(...stage, true);
    const wishes = stageOptions(options);
    return this.#counted(listener, (counted) => pipeline.submit(submit, inputs, wishes, counted));
  }

  open(
    model: string,
    options: RequestOptions & { readonly state?: string },
    listener: Listener,
  ): SessionHandle {
    const pipeline = this.#pipelines.find(model, options.version);
    if (!pipeline) return this.#open(model, options, listener, false);
    refuseStreaming(model, pipeline.info.streaming, true);
    const open: Open = (...stage) => this.#open(...stage, true);
    const begin = (heard: Listener, opened: (counted: Listener) => PipelineSession): SessionHandle =>
      handleOf(pipeline, this.#counted(heard, opened), begin);
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
    const entry = this.#accept(version, listener, isStage);
    const writer = this.#command(entry, command.SUBMIT);
    writer.int(version.number);
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
    const version = this.#versions.find(model, options.version);
    const { definition } = version.served;
    refuseStreaming(model, definition.program.kind === "session", true);
    const wishes = engineOptions(options, true);
    const state =
      options.state === undefined ? undefined : unpackState(definition, options.state, stateSize(definition));
    const entry = this.#accept(version, listener, isStage);
    const writer = this.#command(entry, command.OPEN);
    writer.int(version.number);
    writeOptions(writer, wishes);
    writer.int(state ? 1 : 0);
    if (state) writer.values(state);
    return this.#sessionHandle(entry, options);
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
    this.#buffers.set(version, change);
    for (const slot of this.#engines) if (slot.link) this.#tellBuffers(slot, version, change);
  }

  #tellBuffers(slot: EngineSlot, { number }: Version, { buffers, eager }: BufferChange): void {
    const { writer } = slot;
    writer.int(command.BUFFERS);
    writer.int(0);
    writer.int(number);
    writer.int(eager ? 1 : 0);
    writer.int(buffers.length);
    for (const { upTo = -1, maxBatch, timeoutMs } of buffers) {
      writer.int(upTo);
      writer.int(maxBatch);
      writer.double(timeoutMs);
    }
  }

  #retell(slot: EngineSlot): void {
    for (const [version, change] of this.#buffers) this.#tellBuffers(slot, version, change);
    if (this.#watchers.size > 0) this.#tellWatched(slot);
  }

  get #active(): number {
    return this.#accepted - this.#completed - this.#failed;
  }

  stats(): RuntimeStats {
    let cells = 0;
    let tasks = 0;
    let rows = 0;
    let restarts = 0;
    let bytes = 0;
    for (const { link, restarts: count } of this.#engines) {
      restarts += count;
      const counters = link?.counters();
      cells += counters?.cells ?? 0;
      tasks += counters?.tasks ?? 0;
      rows += counters?.rows ?? 0;
      bytes += counters?.bytes ?? 0;
    }
    return {
      engines: this.#engines.length,
      active: this.#active,
      accepted: this.#accepted,
      completed: this.#completed,
      failed: this.#failed,
      cells,
      tasks,
      rows,
      restarts,
      bytes,
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

  watch(watcher: Watcher): () => void {
    this.#watchers.add(watcher);
    if (this.#watchers.size === 1) for (const slot of this.#engines) this.#tellWatched(slot);
    return () => {
      if (!this.#watchers.delete(watcher) || this.#watchers.size > 0) return;
      for (const slot of this.#engines) this.#tellWatched(slot);
    };
  }

  async close(drainMs = DRAIN_MS): Promise<void> {
    this.#closing = true;
    if (this.#active > 0 && drainMs > 0) {
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

  /** About what all engines will hold of a model. Throws OVERLOADED where that is more than the limit leaves. */
  #bytesToLoad(definition: ModelDefinition): number {
    const { engines, memoryLimit } = this.#settings;
    const bytes = bytesToLoad(definition) * engines;
    const held = this.stats().bytes + this.#promisedBytes;
    if (held + bytes <= memoryLimit) return bytes;
    const { name, version } = definition;
    throw new Fault(
      "OVERLOADED",
      `version ${version} of model '${name}' takes ${bytes} bytes on ${engines} engines, ${held} of the memory limit of ${memoryLimit} bytes are taken: unload a model, run fewer engines or raise the limit`,
    );
  }

  /** Waits for who is with a version that nobody new gets, ends those who stay longer, and frees it. */
  async #retire(version: Version, drainMs: number): Promise<void> {
    await idle(version, drainMs);
    if (version.active > 0) {
      this.#evict(version);
      await idle(version, EVICTION_MS);
    }
    // A session whose reader is so slow that it is paused never gets to its end.
    for (const entry of this.#entries) if (entry?.version === version) this.#command(entry, command.CANCEL);
    await idle(version, EVICTION_MS);
    await this.#takeOut(version);
  }

  /** Asks all that are with a version to leave: sessions with their state. */
  #evict(version: Version): void {
    const isSession = version.served.definition.program.kind === "session";
    for (const entry of this.#entries) {
      if (entry?.version !== version) continue;
      entry.isEvicted = true;
      // A pipeline has no use for the state of one stage.
      this.#command(entry, isSession && !entry.isStage ? command.SUSPEND : command.CANCEL);
    }
  }

  async #takeOut(version: Version): Promise<void> {
    version.state = "unloading";
    this.#versions.remove(version);
    this.#buffers.delete(version);
    await Promise.all(this.#engines.map((engine) => engine.unload(version.number)));
  }

  #checkAdmission(): void {
    if (this.#closing) throw new Fault("SHUTTING_DOWN", "the runtime is closing and takes no more requests");
    const { maxActive } = this.#settings;
    if (this.#active >= maxActive) {
      throw new Fault("OVERLOADED", `${maxActive} requests and sessions are active, which is the most`);
    }
  }

  /** Stages belong to a pipeline that was admitted, and go on while the runtime drains. */
  #accept(version: Version, listener: Listener, isStage: boolean, engine?: EngineSlot): Entry {
    if (!isStage) this.#checkAdmission();
    const slot = engine ?? leastLoaded(this.#engines);
    const id = this.#freeIds.pop() ?? this.#entries.length;
    const entry: Entry = {
      id,
      serial: ++this.#lastSerial,
      version,
      engine: slot,
      listener,
      isStage,
      isEvicted: false,
    };
    this.#entries[id] = entry;
    slot.active++;
    version.active++;
    if (!isStage) this.#accepted++;
    return entry;
  }

  /** Begins a pipeline, which is one request or session however many stages it has. */
  #counted<Begun>(listener: Listener, begin: (counted: Listener) => Begun): Begun {
    this.#checkAdmission();
    const begun = begin({
      ...listener,
      done: (result) => this.#count(true, () => listener.done(result)),
      suspended: (state, evicted) => this.#count(true, () => listener.suspended?.(state, evicted)),
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

  #tellWatched({ link, writer }: EngineSlot): void {
    if (!link) return;
    writer.int(command.WATCH);
    writer.int(NO_REQUEST);
    writer.int(this.#watchers.size > 0 ? 1 : 0);
    writer.double(performance.now());
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
        const tensors = tensorsOf(entry.version.served, inputs, true);
        if (isOpen()) writeTensors(this.#command(entry, command.PUSH), tensors);
        return tensors[0]?.shape[0] ?? 0;
      },
      end: () => tell(command.END),
      marker: (marker) => {
        if (isOpen()) this.#command(entry, command.MARKER).int(marker);
      },
      suspend: () => tell(command.SUSPEND),
      fork: (listener) => {
        if (!isOpen()) throw new Fault("SESSION_NOT_FOUND", "the session to fork has ended");
        const child = this.#accept(entry.version, listener, entry.isStage, entry.engine);
        const writer = this.#command(entry, command.FORK);
        writer.int(child.id);
        writeOptions(writer, engineOptions(options, true));
        return this.#sessionHandle(child, options);
      },
    };
  }

  /** Tells listeners what an engine says. */
  #hear(packet: ArrayBuffer, slot: EngineSlot): void {
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
        if (entry?.version.served.definition.program.kind === "session") entry.listener.consumed?.(1);
      } else if (kind === event.DONE) {
        const usage = { cells: reader.int(), queueMs: reader.double(), computeMs: reader.double() };
        const outputs = readOutputs(reader, entry);
        if (!entry) continue;
        const rest = entry.texts?.rest();
        if (rest) entry.listener.output?.(rest);
        this.#end(entry, () => entry.listener.done({ outputs, usage }), true, usage);
      } else if (kind === event.FAILED) {
        const fault = new Fault(faultCodes[reader.int()]!, reader.text());
        if (entry) this.#end(entry, () => entry.listener.failed(entry.isEvicted ? unloaded(entry) : fault));
      } else if (kind === event.MARKER) {
        const marker = reader.int();
        entry?.listener.marker?.(marker);
      } else if (kind === event.STEP) {
        const step = this.#readWatched(reader, slot.index);
        for (const watcher of this.#watchers) watcher.step(step);
      } else {
        const values = reader.floats();
        if (entry) this.#suspended(entry, values);
      }
    }
  }

  #readWatched(reader: PacketReader, engine: number): WatchedStep {
    const definition = this.#versions.numbered(reader.int())?.served.definition;
    const cell = definition?.cells[reader.int()]?.name ?? "";
    const [startMs, ms, rows, steps] = [reader.double(), reader.double(), reader.int(), reader.int()];
    const leftOut = { tasks: reader.int(), cells: reader.double() };
    const requests = Array.from({ length: reader.int() }, () => this.#entries[reader.int()]?.serial ?? 0);
    return { engine, model: definition?.name ?? "", cell, startMs, ms, rows, steps, requests, leftOut };
  }

  #suspended(entry: Entry, values: Float32Array): void {
    const { listener, version, isEvicted } = entry;
    const tell = () => {
      if (!listener.suspended) listener.failed(unloaded(entry));
      else
        listener.suspended(packState(version.served.definition, values), isEvicted ? "replaced" : undefined);
    };
    this.#end(entry, tell, !isEvicted);
  }

  /** Lets a request go, then says its last word; `usage` where it came to a result. */
  #end(entry: Entry, tell: () => void, isSuccess = false, usage?: Usage): void {
    this.#entries[entry.id] = undefined;
    this.#freeIds.push(entry.id);
    entry.engine.active--;
    entry.version.active--;
    if (this.#watchers.size > 0) this.#tellEnded(entry, usage);
    if (entry.isStage) tell();
    else this.#count(isSuccess, tell);
    if (entry.version.active === 0) entry.version.onIdle?.();
  }

  /** Counts what has ended, and says its last word. */
  #count(isSuccess: boolean, tell: () => void): void {
    if (isSuccess) this.#completed++;
    else this.#failed++;
    tell();
    if (this.#drained && this.#active === 0) this.#drained();
  }

  #tellEnded({ serial, version, isStage }: Entry, usage: Usage | undefined): void {
    const { definition } = version.served;
    const isRequest = definition.program.kind !== "session" && !isStage;
    const ms = usage && isRequest ? usage.queueMs + usage.computeMs : undefined;
    for (const watcher of this.#watchers) watcher.ended(serial, definition.name, ms);
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

/** What engines run, and the pipelines of that; models in a pipeline's folder are served as if they had been named too. */
async function divide(
  named: readonly ModelSource[],
): Promise<{ readonly single: readonly ModelSource[]; readonly pipelines: readonly PipelineDefinition[] }> {
  const single: ModelSource[] = [];
  const pipelines: PipelineDefinition[] = [];
  for (const source of named) {
    const definition = await definitionOf(source);
    if (!isPipeline(definition)) single.push(source);
    else {
      pipelines.push(definition);
      single.push(...(definition.parts ?? []).map((part) => ({ definition: part })));
    }
  }
  return { single, pipelines };
}

/** Options for the stages of a pipeline: the version was its own. */
function stageOptions<Options extends RequestOptions>({
  version: _,
  ...options
}: Options): Omit<Options, "version"> {
  return options;
}

const DRAIN_MS = 10_000;
/** How long an engine may take to end what it was asked to end. */
const EVICTION_MS = 5000;

function unloaded({ version: { served } }: Entry): Fault {
  const { name, version } = served.definition;
  return new Fault(
    "MODEL_NOT_READY",
    `version ${version} of model '${name}' was unloaded before the request was done`,
  );
}

/** Resolves once no request is with a version, or after `ms`. */
function idle(version: Version, ms: number): Promise<void> {
  return new Promise((resolve) => {
    if (version.active === 0) return resolve();
    const end = () => {
      clearTimeout(timer);
      version.onIdle = undefined;
      resolve();
    };
    const timer = setTimeout(end, ms);
    version.onIdle = end;
  });
}

/** Throws INVALID_REQUEST where a session is wanted of a model for requests, or the other way round. */
function refuseStreaming(model: string, streaming: boolean, wanted: boolean): void {
  if (streaming === wanted) return;
  const [takes, not] = streaming ? ["sessions", "single requests"] : ["single requests", "sessions"];
  throw new Fault("INVALID_REQUEST", `model '${model}' takes ${takes}, not ${not}`);
}

/** Stands where other commands have the number of a request. */
const NO_REQUEST = -1;

function writeTensors(writer: PacketWriter, tensors: readonly Tensor[]): void {
  writer.int(tensors.length);
  tensors.forEach(({ shape, data }, at) => {
    writer.int(at);
    writer.tensor(shape, data);
  });
}

/** The outputs of a whole request. */
function readOutputs(reader: PacketReader, entry: Entry | undefined): Values {
  return readValues(reader, (output, tensor) => entry && outputValue(entry.version.served, output, tensor));
}

function readStep(reader: PacketReader, entry: Entry | undefined, step: number): Values {
  if (!entry) return readValues(reader, () => undefined);
  entry.texts ??= new StepTexts(entry.version.served);
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
