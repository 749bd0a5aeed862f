import type { MessagePort } from "node:worker_threads";
import type { CellInfo, EngineConfig, ModelSource } from "./load.ts";

/** What the runtime hands to an engine's thread. */
export interface WorkerData {
  readonly sources: readonly ModelSource[];
  readonly config: EngineConfig;
  readonly port: MessagePort;
  /** See `shared`. */
  readonly shared: SharedArrayBuffer;
}

/** What is shared with an engine's thread: a bell that is rung after every command, then counters as float64. */
export const shared = { bytes: 32, bell: 0, cells: 1, tasks: 2, rows: 3 } as const;

export type WorkerMessage =
  | { readonly kind: "ready"; readonly cells: CellInfo[][] }
  | { readonly kind: "refused"; readonly code: string; readonly message: string }
  | { readonly kind: "packet"; readonly packet: ArrayBuffer };

/** Tells an engine's thread to end. */
export const STOP = "stop";
