import type { Evictions } from "./evictions.ts";
import type { Doorway } from "./oip/statistics.ts";
import type { OpenSessions } from "./open-sessions.ts";
import type { Resumables } from "./resumables.ts";

export interface ConnectionLimits {
  /** Requests and sessions that one socket may have open. @default 1024 */
  readonly openIds: number;
  /** Inputs of one session that may wait. @default 256 */
  readonly inputs: number;
  /** Longest silence of a session before it is evicted, in milliseconds. @default 60 000 */
  readonly idleMs: number;
}

/** What the connections of a server share. */
export interface Shared {
  readonly doorway: Doorway;
  readonly limits: ConnectionLimits;
  readonly sessions: OpenSessions;
  readonly resumables: Resumables;
  readonly evictions: Evictions;
  /** Hears of errors that are no faults. */
  readonly unexpected: (error: unknown) => void;
}
