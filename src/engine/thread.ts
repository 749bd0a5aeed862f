import type { MessagePort } from "node:worker_threads";
import type { EngineConfig, Loaded, ModelSource, NumberedSource } from "./load.ts";

/** What the runtime hands to an engine's thread. */
export interface WorkerData {
  readonly sources: readonly NumberedSource[];
  readonly config: EngineConfig;
  readonly port: MessagePort;
  /** See `shared`. */
  readonly shared: SharedArrayBuffer;
}

/**
 * What is shared with an engine's thread: a bell that is rung after every command; and counters as float64, on another line of
 * the cache, so that who rings does not wait for who counts.
 */
export const shared = { bytes: 256, bell: 0, cells: 16, tasks: 17, rows: 18, held: 19 } as const;

export type WorkerMessage =
  | { readonly kind: "ready"; readonly loaded: ReadonlyMap<number, Loaded> }
  | { readonly kind: "refused"; readonly code: string; readonly message: string }
  | { readonly kind: "loaded"; readonly number: number; readonly loaded: Loaded }
  | {
      readonly kind: "load refused";
      readonly number: number;
      readonly code: string;
      readonly message: string;
    }
  | { readonly kind: "unloaded"; readonly number: number }
  | { readonly kind: "packet"; readonly packet: ArrayBuffer };

/** What an engine's thread is told besides packets; `load` and `unload` are answered. */
export type WorkerOrder =
  | { readonly kind: "stop" }
  | { readonly kind: "load"; readonly number: number; readonly source: ModelSource }
  | { readonly kind: "unload"; readonly number: number };
