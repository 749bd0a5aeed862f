/** Every way a request can fail, and what each door says about it. `grpc` is the canonical status number. */
export const faults = {
  INVALID_REQUEST: { http: 400, grpc: 3, retry: false },
  INVALID_INPUT: { http: 400, grpc: 3, retry: false },
  MODEL_NOT_FOUND: { http: 404, grpc: 5, retry: false },
  MODEL_NOT_READY: { http: 503, grpc: 14, retry: true },
  SESSION_NOT_FOUND: { http: 404, grpc: 5, retry: false },
  TOO_LARGE: { http: 413, grpc: 3, retry: false },
  OVERLOADED: { http: 503, grpc: 8, retry: true },
  DEADLINE_EXCEEDED: { http: 504, grpc: 4, retry: false },
  CANCELLED: { http: 499, grpc: 1, retry: false },
  UNAUTHORIZED: { http: 401, grpc: 16, retry: false },
  RATE_LIMITED: { http: 429, grpc: 8, retry: true },
  SHUTTING_DOWN: { http: 503, grpc: 14, retry: true },
  INTERNAL: { http: 500, grpc: 13, retry: true },
  UNSUPPORTED: { http: 501, grpc: 12, retry: false },
  UNAVAILABLE: { http: 503, grpc: 14, retry: false },
} as const satisfies Record<string, { http: number; grpc: number; retry: boolean }>;

export type FaultCode = keyof typeof faults;

/** All codes, in an order that never changes: an engine names a code by its index here. */
export const faultCodes = Object.keys(faults) as readonly FaultCode[];

/** A failure that a caller can meet. The message is one sentence and holds the offending value. */
export class Fault extends Error {
  readonly code: FaultCode;
  /** When another try may help, in milliseconds from now, where that is known. */
  readonly retryAfterMs: number | undefined;

  constructor(
    code: FaultCode,
    message: string,
    options?: { readonly cause?: unknown; readonly retryAfterMs?: number },
  ) {
    super(message, options);
    this.name = "Fault";
    this.code = code;
    this.retryAfterMs = options?.retryAfterMs;
  }

  /** What was thrown, as a fault: itself if it is one, else INTERNAL with the cause kept. */
  static from(thrown: unknown): Fault {
    if (thrown instanceof Fault) return thrown;
    const message = thrown instanceof Error ? thrown.message : String(thrown);
    return new Fault("INTERNAL", message, { cause: thrown });
  }
}
