import type { WireParameters } from "../server/protocol.ts";

/** What a caller may say about a request or session; what is left out is the server's default. */
export interface Parameters {
  /** Class from 1 (first) to 9 (last). @default 5 */
  readonly priority?: number;
  /** Longest time from the call until the result, in milliseconds; past it the call fails with DEADLINE_EXCEEDED. No limit by default. */
  readonly timeoutMs?: number;
  /** Most cells that a generating model may run. */
  readonly maxSteps?: number;
  /** Sampling temperature; 0 takes the likeliest token. @default 0 */
  readonly temperature?: number;
  /** Sample among the `topK` likeliest tokens; 0 means all. @default 0 */
  readonly topK?: number;
  /** Sample among the likeliest tokens that hold this share of the probability. @default 1 */
  readonly topP?: number;
  /** Seed of the sampling; the same seed gives the same tokens. @default 0 */
  readonly seed?: number;
}

/** Parameters in the words of the wire; those that were left out are undefined there too. */
export function wireParameters(parameters: Parameters, timeoutMs: number | undefined): WireParameters {
  const { priority, maxSteps, temperature, topK, topP, seed } = parameters;
  return {
    priority,
    timeout_ms: timeoutMs,
    max_steps: maxSteps,
    temperature,
    top_k: topK,
    top_p: topP,
    seed,
  };
}
