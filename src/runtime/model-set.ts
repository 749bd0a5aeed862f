import type { ModelDefinition } from "../../models/definition.ts";
import { Fault } from "../core/faults.ts";
import { bytesToLoad, definitionOf, type ModelSource } from "../engine/load.ts";
import { command } from "../engine/messages.ts";
import type { EngineSlot } from "./engines.ts";
import type { Entries } from "./entries.ts";
import type { StageModel } from "./pipeline-plan.ts";
import { PipelineSet } from "./pipeline-set.ts";
import { isPipeline, type PipelineDefinition, ServedPipeline } from "./pipelines.ts";
import { servedModel } from "./served-model.ts";
import { tell } from "./tell.ts";
import type { LoadOptions, ModelInfo, UnloadOptions } from "./types.ts";
import { compareVersions, idle, infoOf, type Version, type Versions } from "./versions.ts";

export interface ModelSetSettings {
  /** Bytes of all engines; `Infinity` for none. */
  readonly memoryLimit: number;
  /** Finds a model and checks that engines can be given it: before they run, and without disturbing this thread. */
  readonly sourceOf: FindSource;
  readonly sourceWhileRunning: FindSource;
}

type FindSource = (model: string | ModelDefinition) => Promise<ModelSource>;

/** The models and pipelines of a runtime: brings them to its engines and takes them out, while requests are with them. */
export class ModelSet {
  readonly pipelines = new PipelineSet();
  readonly #versions: Versions;
  readonly #engines: readonly EngineSlot[];
  readonly #entries: Entries;
  readonly #settings: ModelSetSettings;
  /** Bytes that engines hold of no model yet, of those that are being loaded. */
  #promisedBytes = 0;

  constructor(
    versions: Versions,
    engines: readonly EngineSlot[],
    entries: Entries,
    settings: ModelSetSettings,
  ) {
    this.#versions = versions;
    this.#engines = engines;
    this.#entries = entries;
    this.#settings = settings;
  }

  get infos(): readonly ModelInfo[] {
    const { infos } = this.pipelines;
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
    for (const definition of pipelines) this.pipelines.add(new ServedPipeline(definition, infos));
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
    if (this.pipelines.has(definition.name))
      throw new Fault("INVALID_REQUEST", `'${definition.name}' is the name of a pipeline`);
    this.#checkStages(infoOf(definition));
    const served = await servedModel(definition);
    if (this.#entries.isClosed)
      throw new Fault("SHUTTING_DOWN", "the runtime is closing and loads no more models");
    const bytes = this.#bytesToLoad(definition);
    const version = this.#versions.add("module" in source ? source : { definition }, served);
    this.#promisedBytes += bytes;
    const loads = await Promise.allSettled(this.#engines.map((engine) => engine.load(version)));
    this.#promisedBytes -= bytes;
    const refused = loads.find(({ status }) => status === "rejected") as PromiseRejectedResult | undefined;
    const loaded = loads.map((load) => (load.status === "fulfilled" ? load.value : undefined)).find(Boolean);
    if (refused || !loaded || this.#entries.isClosed) {
      await this.#takeOut(version);
      if (this.#entries.isClosed)
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
    this.pipelines.checkUsersOf(model.name, [model, ...infos]);
  }

  /** Loads the models that lie in its folder, and announces it. */
  async #loadPipeline(definition: PipelineDefinition, drainMs: number): Promise<ModelInfo> {
    const { name, program, parts = [] } = definition;
    const infos = () => this.#versions.infos;
    if (infos().some((info) => info.name === name))
      throw new Fault("INVALID_REQUEST", `pipeline '${name}' has the name of a model`);
    const own = this.pipelines.find(name)?.parts ?? [];
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
      const replaced = this.pipelines.add(pipeline);
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
    const kept = this.pipelines.find(pipeline.info.name)?.parts ?? [];
    const gone = pipeline.parts.filter((part) => !kept.includes(part));
    await Promise.all(gone.map((part) => this.unload(part, { drainMs })));
  }

  async unload(model: string, { version, drainMs = DRAIN_MS }: UnloadOptions = {}): Promise<void> {
    if (this.pipelines.has(model)) {
      const gone = this.pipelines.named(model, version);
      for (const one of gone) this.pipelines.remove(one);
      await Promise.all(gone.map((one) => this.#retirePipeline(one, drainMs)));
      return;
    }
    const versions = this.#versions.named(model, version);
    const leaving = new Set(versions.map(({ served }) => served.definition.version));
    const left = this.#versions.infos.filter((info) => info.name !== model || !leaving.has(info.version));
    this.pipelines.checkUsersOf(model, left);
    for (const one of versions) this.#versions.withdraw(one);
    await Promise.all(versions.map((one) => this.#retire(one, drainMs)));
  }

  /** About what all engines will hold of a model. Throws OVERLOADED where that is more than the limit leaves. */
  #bytesToLoad(definition: ModelDefinition): number {
    const { memoryLimit } = this.#settings;
    const engines = this.#engines.length;
    const bytes = bytesToLoad(definition) * engines;
    const held = bytesOf(this.#engines) + this.#promisedBytes;
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
    for (const entry of this.#entries) if (entry.version === version) tell(entry, command.CANCEL);
    await idle(version, EVICTION_MS);
    await this.#takeOut(version);
  }

  /** Asks all that are with a version to leave: sessions with their state. */
  #evict(version: Version): void {
    const isSession = version.served.definition.program.kind === "session";
    for (const entry of this.#entries) {
      if (entry.version !== version) continue;
      entry.isEvicted = true;
      // A pipeline has no use for the state of one stage.
      tell(entry, isSession && !entry.isStage ? command.SUSPEND : command.CANCEL);
    }
  }

  async #takeOut(version: Version): Promise<void> {
    version.state = "unloading";
    this.#versions.remove(version);
    await Promise.all(this.#engines.map((engine) => engine.unload(version.number)));
  }
}

export const DRAIN_MS = 10_000;
/** How long an engine may take to end what it was asked to end. */
const EVICTION_MS = 5000;

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

/** What engines hold. */
export function bytesOf(engines: readonly EngineSlot[]): number {
  return engines.reduce((sum, { link }) => sum + (link?.counters().bytes ?? 0), 0);
}
