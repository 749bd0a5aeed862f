import type { FaultCode } from "../core/faults.ts";

/** Messages of subprotocol `cellbatch.v1`; docs/protocol.md says what they mean. Types only: clients share this file. */
export const SUBPROTOCOL = "cellbatch.v1";
/** Before a key, a second subprotocol: browsers cannot send an `Authorization` header with a WebSocket. */
export const KEY_SUBPROTOCOL = "cellbatch.key.";

export interface WireTensor {
  readonly datatype: string;
  readonly shape: readonly number[];
  readonly data?: readonly (number | boolean)[];
  /** In a binary frame in place of `data`. */
  readonly parameters?: { readonly binary_data_size: number };
}

export type WireValues = Readonly<Record<string, WireTensor | string>>;

export interface WireParameters {
  readonly stream?: boolean | undefined;
  readonly priority?: number | undefined;
  readonly timeout_ms?: number | undefined;
  readonly max_steps?: number | undefined;
  readonly temperature?: number | undefined;
  readonly top_k?: number | undefined;
  readonly top_p?: number | undefined;
  readonly seed?: number | undefined;
  readonly beam_width?: number | undefined;
  /** Of W3C Trace Context. */
  readonly traceparent?: string | undefined;
}

export type EvictionReason = "idle" | "capacity" | "shutdown" | "replaced";

export type ServerMessage =
  | {
      readonly type: "opened";
      readonly id: string;
      readonly limits: { readonly idle_ms: number; readonly inputs: number; readonly grace_ms?: number };
      /** Of a session that outlives its socket: takes it up again, with how many inputs came and steps were done. */
      readonly resume?: { readonly token: string; readonly received: number; readonly step: number };
    }
  | { readonly type: "credit"; readonly id: string; readonly inputs: number }
  | { readonly type: "output"; readonly id: string; readonly step: number; readonly outputs: WireValues }
  | {
      readonly type: "done";
      readonly id: string;
      readonly outputs: WireValues;
      readonly usage: { readonly cells: number; readonly queue_ms: number; readonly compute_ms: number };
    }
  | { readonly type: "marker"; readonly id: string; readonly marker: number }
  | { readonly type: "state"; readonly id: string; readonly state: string }
  | {
      readonly type: "evicted";
      readonly id: string;
      readonly reason: EvictionReason;
      readonly state?: string;
    }
  | { readonly type: "goaway" }
  | {
      readonly type: "error";
      readonly id?: string;
      readonly code: FaultCode;
      readonly message: string;
      readonly retry_after_ms?: number;
    };
