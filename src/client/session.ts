import type { Parameters } from "./parameters.ts";
import type { Result } from "./request.ts";
import type { StepOutput } from "./steps.ts";
import type { Values } from "./values.ts";

export interface SessionOptions extends Parameters {
  /** Ends the session when it is aborted. */
  readonly signal?: AbortSignal;
  /** What `suspend` gave: the session goes on from there. */
  readonly state?: string;
  /**
   * After so many inputs the client asks for a copy of the state; when the connection breaks, it goes on from the last copy
   * and sends the inputs since then again. They are kept in memory until the next copy. 0 makes no copies: a broken
   * connection then ends the session, unless the server could still hand back the state. @default 128
   */
  readonly checkpointInputs?: number;
}

export interface WaitOptions {
  /** Stops waiting; the session goes on. */
  readonly signal?: AbortSignal;
}

export interface PushOptions extends WaitOptions {
  /** How many steps the inputs hold along a leading axis. Left out, they are one step and have no such axis. */
  readonly steps?: number;
  /** Longest wait for room, in milliseconds. @default 30 000 */
  readonly timeoutMs?: number;
}

/** A session as an async iterable of its outputs, one for every input; leaving the loop cancels it. */
export interface Session extends AsyncIterable<StepOutput> {
  /**
   * More input. Resolves once it is on its way, which waits while the server has no room for more, while the connection is
   * being restored and while 1,024 outputs wait to be read. Rejects with DEADLINE_EXCEEDED after `timeoutMs`.
   */
  push(inputs: Values, options?: PushOptions): Promise<void>;
  /** No more input; resolves when all of it has been processed. */
  end(options?: WaitOptions): Promise<Result>;
  /** Resolves once all input so far has been processed. */
  flush(options?: WaitOptions): Promise<void>;
  /** Ends it here and resolves with its state, from which `client.session` goes on, on this server or another. */
  suspend(options?: WaitOptions): Promise<string>;
  /** A second session that goes on from the input that was pushed so far. */
  fork(): Session;
  cancel(): void;
}
