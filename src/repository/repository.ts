import { resolve, sep } from "node:path";
import { Fault } from "../core/faults.ts";
import type { Runtime } from "../runtime/types.ts";
import { type IndexEntry, type Keeping, KeptModel, type RepositoryEvent } from "./kept-model.ts";
import { type FoundVersion, scanRepository } from "./scan.ts";
import { type Watch, watchRepository } from "./watch.ts";

/**
 * Who decides what is loaded.
 *
 * - `none`: all models, once, at the start.
 * - `watch`: all models, and again whenever their files change.
 * - `explicit`: clients, by load and unload.
 */
export type ModelControl = "none" | "watch" | "explicit";

export interface RepositorySettings {
  readonly dir: string;
  readonly runtime: Pick<Runtime, "load" | "unload">;
  readonly control: ModelControl;
  /** Models to load at the start where clients decide; `*` for all. @default none */
  readonly initial?: readonly string[];
  /** Newest versions of each model to have loaded; 1 or more. @default 1 */
  readonly versions?: number;
  /** How long requests may go on with a version that is unloaded, in milliseconds. @default 10 000 */
  readonly drainMs?: number;
  /** Hears what happens to models. @default nobody */
  readonly tell?: (event: RepositoryEvent) => void;
}

/** A folder of models, of which a runtime has some loaded. Names that clients give are looked up among the folder's own. */
export class ModelRepository {
  readonly #settings: RepositorySettings;
  readonly #keeping: Keeping;
  readonly #models = new Map<string, KeptModel>();
  #watch: Watch | undefined;
  #hasStarted = false;

  constructor(settings: RepositorySettings) {
    const { runtime, versions = 1, drainMs = 10_000, tell = () => {} } = settings;
    const dir = resolve(settings.dir);
    this.#settings = { ...settings, dir };
    // Clients are told of files as they lie in the repository, not where that is.
    const publicText = (text: string) =>
      text.replaceAll(`${dir}${sep}`, "").replaceAll(dir, "the repository");
    this.#keeping = { runtime, versions, drainMs, tell, publicText };
  }

  /** Loads what is to be loaded at the start. Rejects with the first refusal, unless it watches: then a model may come later. */
  async start(): Promise<void> {
    const { dir, control, initial = [] } = this.#settings;
    if (control === "watch") {
      this.#watch = await watchRepository(dir, (names) => this.#follow(names));
    }
    const found = await this.#scan();
    const all = control !== "explicit" || initial.includes("*");
    for (const name of all ? [] : initial) {
      if (!found.has(name)) throw this.#missing(name, found.keys());
    }
    const chosen = [...found].filter(([name]) => all || initial.includes(name));
    const refusals = await this.#syncAll(chosen);
    if (control !== "watch" && refusals.length > 0) throw refusals[0];
    this.#hasStarted = true;
  }

  /** Loads models one after the other, those again that waited for one that came later; answers why the rest were refused. */
  async #syncAll(
    models: readonly (readonly [string, readonly FoundVersion[]])[],
  ): Promise<readonly unknown[]> {
    let left = models;
    for (;;) {
      const refused: { readonly model: (typeof left)[number]; readonly error: unknown }[] = [];
      for (const model of left) {
        await this.#modelOf(model[0])
          .sync(model[1])
          .catch((error) => refused.push({ model, error }));
      }
      const waiting = refused.filter(({ model: [name] }) => this.#modelOf(name).isWaiting);
      if (waiting.length === 0 || refused.length === left.length) return refused.map(({ error }) => error);
      left = refused.map(({ model }) => model);
    }
  }

  /** Whether all models of the start are warm, or refused where it watches. */
  isReady(): boolean {
    return this.#hasStarted;
  }

  index(): readonly IndexEntry[] {
    return [...this.#models.values()].flatMap(({ index }) => index);
  }

  /** Loads a model's newest versions where their files have changed since they were loaded. */
  async load(name: string): Promise<void> {
    this.#mustBeExplicit();
    const found = await this.#scan();
    const versions = found.get(name);
    if (!versions || versions.length === 0) throw this.#missing(name, found.keys());
    await this.#modelOf(name).sync(versions);
  }

  async unload(name: string): Promise<void> {
    this.#mustBeExplicit();
    const model = this.#models.get(name);
    if (!model) throw new Fault("MODEL_NOT_FOUND", `failed to unload '${name}', there is no such model`);
    await model.unload();
  }

  async close(): Promise<void> {
    await this.#watch?.close();
  }

  /** All models of the folder; also notes those that are new. */
  async #scan(): ReturnType<typeof scanRepository> {
    const { dir } = this.#settings;
    const found = await scanRepository(dir).catch((cause) => {
      throw new Fault("INVALID_REQUEST", `'${dir}' cannot be read as a folder of models: ${cause.message}`, {
        cause,
      });
    });
    for (const name of found.keys()) this.#modelOf(name);
    return found;
  }

  #modelOf(name: string): KeptModel {
    let model = this.#models.get(name);
    if (!model) {
      model = new KeptModel(name, this.#keeping);
      this.#models.set(name, model);
    }
    return model;
  }

  /** Brings models whose files changed into line. A folder that is there without a version is half written. */
  async #follow(names: Iterable<string>): Promise<void> {
    const found = await this.#scan();
    const concerned = new Set(names);
    // What came or went may be what others waited for: a stage of a pipeline, or a pipeline that kept a stage.
    for (const [name, model] of this.#models)
      if (model.isWaiting || (model.isLoaded && !found.has(name))) concerned.add(name);
    const models = [...concerned].flatMap((name) => {
      const versions = found.get(name) ?? [];
      const isHalfWritten = found.has(name) && versions.length === 0;
      return this.#models.has(name) && !isHalfWritten ? [[name, versions] as const] : [];
    });
    await this.#syncAll(models);
    // A stage that went together with its pipeline may have been asked first, and was kept.
    const kept = models.filter(([name, versions]) => versions.length === 0 && this.#modelOf(name).isLoaded);
    await this.#syncAll(kept);
  }

  #mustBeExplicit(): void {
    if (this.#settings.control === "explicit") return;
    throw new Fault(
      "UNAVAILABLE",
      "explicit model load / unload is not allowed if polling is enabled: the server was started without --model-control explicit",
    );
  }

  #missing(name: string, known: Iterable<string>): Fault {
    const names = [...known].join(", ") || "none";
    return new Fault(
      "MODEL_NOT_FOUND",
      `failed to load '${name}', failed to poll from model repository: it has ${names}`,
    );
  }
}
