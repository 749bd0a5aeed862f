import type { FaultCode } from "../core/faults.ts";

/** A code of the protocol, of this client, or of a server that is newer than it. */
export type ErrorCode = FaultCode | "CONNECTION_LOST" | (string & {});

/**
 * Why something did not come to its result. `CONNECTION_LOST` is the client's own code: no connection could be had, or it
 * broke and what ran on it could not be taken up again. `CANCELLED` and `DEADLINE_EXCEEDED` may come from either side.
 */
export class ClientError extends Error {
  readonly code: ErrorCode;
  /** Whether the same call may succeed later. */
  readonly isRetryable: boolean;
  /** How long the server asks to wait before that, in milliseconds. */
  readonly retryAfterMs: number | undefined;

  constructor(
    code: ErrorCode,
    message: string,
    options: {
      readonly cause?: unknown;
      readonly isRetryable?: boolean;
      readonly retryAfterMs?: number;
    } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = "ClientError";
    this.code = code;
    this.retryAfterMs = options.retryAfterMs;
    this.isRetryable = options.isRetryable ?? options.retryAfterMs !== undefined;
  }
}

/** The connection is gone, or none can be had. */
export function connectionLost(message: string, cause?: unknown): ClientError {
  return new ClientError("CONNECTION_LOST", message, { cause, isRetryable: true });
}

/** The caller's signal was aborted; its reason is the cause. */
export function cancelled(signal: AbortSignal): ClientError {
  if (signal.reason instanceof ClientError) return signal.reason;
  return new ClientError("CANCELLED", "the signal was aborted", { cause: signal.reason });
}

/** The session is no more, or is where nothing can be done with it. */
export function sessionGone(how: string): ClientError {
  return new ClientError("SESSION_NOT_FOUND", `the session ${how}`);
}
