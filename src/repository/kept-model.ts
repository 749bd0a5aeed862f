import { Mutex } from "async-mutex";
import { Fault } from "../core/faults.ts";
import { readOnThread } from "../runtime/read.ts";
import type { ModelInfo, Runtime } from "../runtime/types.ts";
import { compareVersions } from "../runtime/versions.ts";
import { type FoundVersion, signatureOf } from "./scan.ts";

/** One line of a repository's index, in Triton's words. */
export interface IndexEntry {
  readonly name: string;
  /** Left out while nobody knows. */
  readonly version?: string;
  /** "" where it never was loaded. */
  readonly state: "READY" | "UNAVAILABLE" | "LOADING" | "UNLOADING" | "";
  /** Why it is in that state; "" where nothing is to say. */
  readonly reason: string;
}

/** What happened to a version of a model. */
export type RepositoryEvent =
  | { readonly kind: "loaded"; readonly name: string; readonly version: string; readonly ms: number }
  | { readonly kind: "unloaded"; readonly name: string; readonly version: string }
  | {
      readonly kind: "refused";
      readonly name: string;
      readonly version: string | undefined;
      readonly reason: string;
    };

export interface Keeping {
  readonly runtime: Pick<Runtime, "load" | "unload">;
  /** Newest versions of a model to have loaded. */
  readonly versions: number;
  /** How long requests may go on with a version that is unloaded, in milliseconds. */
  readonly drainMs: number;
  readonly tell: (event: RepositoryEvent) => void;
  /** Makes the text of an error fit for clients. */
  readonly publicText: (text: string) => string;
}

/** What is known of one version's folder. */
interface Kept {
  /** As the runtime has it; undefined where it never was loaded. */
  version: string | undefined;
  state: IndexEntry["state"];
  reason: string;
  /** Signature of the files that were loaded. */
  loaded: string | undefined;
  /** Files that were refused, and why. */
  refused: { readonly signature: string; readonly fault: Fault } | undefined;
}

/** One model of a repository: brings what the runtime has into line with what the folder holds, one change at a time. */
export class KeptModel {
  readonly name: string;
  readonly #keeping: Keeping;
  readonly #mutex = new Mutex();
  /** By the folder's version, "" for a model without. */
  readonly #kept = new Map<string, Kept>();

  constructor(name: string, keeping: Keeping) {
    this.name = name;
    this.#keeping = keeping;
  }

  get index(): readonly IndexEntry[] {
    const known = [...this.#kept].sort(([a], [b]) => compareVersions(b, a));
    if (known.length === 0) return [{ name: this.name, state: "", reason: "" }];
    return known.map(([key, { version = key, state, reason }]) => ({
      name: this.name,
      ...(version === "" ? {} : { version }),
      state,
      reason,
    }));
  }

  /**
   * Loads the newest versions where their files have changed, then lets older ones go. Rejects with the fault that kept a
   * version out; what was loaded before then stays, and its files are not tried again until they change.
   */
  sync(found: readonly FoundVersion[]): Promise<void> {
    return this.#mutex.runExclusive(async () => {
      const wanted = found.slice(0, this.#keeping.versions);
      let refusal: unknown;
      // Oldest first: a request never sees a version come back that it had seen replaced.
      for (const one of [...wanted].reverse()) {
        await this.#load(one).catch((error) => {
          refusal = error;
        });
      }
      if (refusal) throw refusal;
      const stay = new Set(wanted.map(({ version = "" }) => version));
      for (const [key, kept] of this.#kept) {
        // It was told why one must stay.
        if (!stay.has(key)) void this.#unload(key, kept).catch(() => {});
      }
    });
  }

  /** Whether a version waits for something other than its files to change, such as a stage of a pipeline. */
  get isWaiting(): boolean {
    return [...this.#kept.values()].some(
      ({ state, loaded, refused, reason }) =>
        state === "UNAVAILABLE" && loaded === undefined && !refused && reason !== UNLOADED,
    );
  }

  /** Whether the runtime has a version of it. */
  get isLoaded(): boolean {
    return [...this.#kept.values()].some(({ loaded }) => loaded !== undefined);
  }

  /** Unloads all versions; resolves when nothing of them is left. Throws MODEL_NOT_FOUND where none is loaded. */
  async unload(): Promise<void> {
    const gone = await this.#mutex.runExclusive(async () => {
      const loaded = [...this.#kept].filter(([, { loaded: signature }]) => signature !== undefined);
      if (loaded.length === 0)
        throw new Fault("MODEL_NOT_FOUND", `failed to unload '${this.name}', no version of it is loaded`);
      return { all: Promise.all(loaded.map(([key, kept]) => this.#unload(key, kept))) };
    });
    await gone.all;
  }

  async #load({ version, folder }: FoundVersion): Promise<void> {
    const { runtime, drainMs, tell, publicText } = this.#keeping;
    const key = version ?? "";
    const kept = this.#kept.get(key) ?? newlyFound();
    this.#kept.set(key, kept);
    const before = kept.state;
    const startMs = performance.now();
    let signature = "";
    try {
      signature = await signatureOf(folder);
      if (signature === kept.loaded) return;
      if (signature === kept.refused?.signature) throw kept.refused.fault;
      if (before !== "READY") kept.state = "LOADING";
      const definition = await readOnThread(folder);
      if (definition.name !== this.name) {
        throw new Fault(
          "INVALID_REQUEST",
          `its model.json names it '${definition.name}', a model is named as its folder in the repository`,
        );
      }
      if ((await signatureOf(folder)) !== signature)
        throw new Fault("MODEL_NOT_READY", "its files changed while they were read");
      const info = await runtime.load(definition, { drainMs, ...(version === undefined ? {} : { version }) });
      this.#loaded(kept, info, signature);
      tell({ kind: "loaded", name: this.name, version: info.version, ms: performance.now() - startMs });
    } catch (error) {
      if (error === kept.refused?.fault) throw error;
      const { code, message } = Fault.from(error);
      const reason = publicText(message);
      const which = version === undefined ? "" : ` version ${version}`;
      const fault = new Fault(code, `failed to load '${this.name}'${which}: ${reason}`, { cause: error });
      // What is not the files' fault may go better next time.
      kept.refused = code === "INVALID_REQUEST" ? { signature, fault } : undefined;
      kept.state = before === "READY" ? "READY" : "UNAVAILABLE";
      kept.reason = before === "READY" ? `its files have changed and were refused: ${reason}` : reason;
      tell({ kind: "refused", name: this.name, version: version ?? kept.version, reason });
      throw fault;
    }
  }

  #loaded(kept: Kept, { version }: ModelInfo, signature: string): void {
    const before = kept.version;
    kept.version = version;
    kept.state = "READY";
    kept.reason = "";
    kept.loaded = signature;
    kept.refused = undefined;
    // A folder without versions whose model.json has another one now.
    if (before !== undefined && before !== version) void this.#retire(before);
  }

  /** Takes a version from new requests at once; resolves when nothing of it is left. */
  async #unload(key: string, kept: Kept): Promise<void> {
    // The same version may now come from another folder, which has taken its place.
    const isTaken = [...this.#kept].some(
      ([other, { version, loaded }]) => other !== key && loaded !== undefined && version === kept.version,
    );
    if (kept.loaded === undefined || isTaken) {
      if (kept.state !== "UNLOADING") this.#kept.delete(key);
      return;
    }
    const signature = kept.loaded;
    kept.loaded = undefined;
    kept.state = "UNLOADING";
    try {
      await this.#retire(kept.version!);
    } catch (error) {
      this.#stays(kept, signature, Fault.from(error));
      throw error;
    }
    // It may have been loaded again meanwhile.
    if (kept.state !== "UNLOADING") return;
    kept.state = "UNAVAILABLE";
    kept.reason = UNLOADED;
  }

  /** The runtime does not let a version go: a pipeline needs it. */
  #stays(kept: Kept, signature: string, { message }: Fault): void {
    const reason = this.#keeping.publicText(message);
    if (kept.state === "UNLOADING") Object.assign(kept, { state: "READY", loaded: signature, reason });
    this.#keeping.tell({ kind: "refused", name: this.name, version: kept.version, reason });
  }

  async #retire(version: string): Promise<void> {
    const { runtime, drainMs, tell } = this.#keeping;
    await runtime.unload(this.name, { version, drainMs });
    tell({ kind: "unloaded", name: this.name, version });
  }
}

const UNLOADED = "unloaded";

function newlyFound(): Kept {
  return { version: undefined, state: "", reason: "", loaded: undefined, refused: undefined };
}
