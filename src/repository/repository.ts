import { resolve, sep } from "node:path";
import { Fault } from "../core/faults.ts";
import type { Runtime } from "../runtime/types.ts";
import { type IndexEntry, type Keeping, KeptModel, type RepositoryEvent } from "./kept-model.ts";
import { scanRepository } from "./scan.ts";
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
    for (const [name, versions] of found) {
      if (!all && !initial.includes(name)) continue;
      const synced = this.#modelOf(name).sync(versions);
      await (control === "watch" ? synced.catch(() => {}) : synced);
    }
    this.#hasStarted = true;
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
    for (const name of names) {
      const model = this.#models.get(name);
      const versions = found.get(name);
      if (!model || versions?.length === 0) continue;
      // It was told who listens.
      await model.sync(versions ?? []).catch(() => {});
    }
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
