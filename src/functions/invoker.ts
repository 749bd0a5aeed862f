import type { Answer, Invocation } from "./payload.ts";

/** Calls stateless functions, wherever they run. */
export interface FunctionInvoker {
  /**
   * Calls a function of some memory with a batch. Rejects with a `Fault` where the function cannot be called or fails as a
   * whole; when `signal` aborts, the call is given up.
   */
  invoke(batch: Invocation, memoryMb: number, signal: AbortSignal): Promise<Called>;
  close(): Promise<void>;
}

export interface Called {
  readonly answer: Answer;
  /** Milliseconds that are billed: the function's own time, without the way there and back, and without its start. */
  readonly billedMs: number;
  /** Whether a new function was started for it. */
  readonly isCold: boolean;
}
