import { ClientError, cancelled } from "./errors.ts";

/** A limit on something that waits. */
export interface Limit {
  /** Aborted with a `ClientError`: CANCELLED when the caller's signal was, DEADLINE_EXCEEDED when time is up. */
  readonly signal: AbortSignal;
  /** Milliseconds that are left; `undefined` where time has no limit. */
  leftMs(): number | undefined;
  /** Lets go of the timer and of the caller's signal. */
  release(): void;
}

/** Limits something that waits to the caller's signal and to `timeoutMs`; `what` is what took too long. */
export function limit(what: string, signal: AbortSignal | undefined, timeoutMs: number | undefined): Limit {
  const controller = new AbortController();
  const untilMs = timeoutMs === undefined ? undefined : performance.now() + timeoutMs;
  const abort = () => controller.abort(cancelled(signal!));
  if (signal?.aborted) abort();
  else signal?.addEventListener("abort", abort, { once: true });
  const timer =
    timeoutMs === undefined
      ? undefined
      : setTimeout(
          () =>
            controller.abort(
              new ClientError("DEADLINE_EXCEEDED", `${what} took longer than ${timeoutMs} ms`),
            ),
          Math.min(timeoutMs, LONGEST_TIMER_MS),
        );
  return {
    signal: controller.signal,
    leftMs: () => (untilMs === undefined ? undefined : Math.max(1, untilMs - performance.now())),
    release: () => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", abort);
    },
  };
}

const LONGEST_TIMER_MS = 2 ** 31 - 1;

/** The promise, or the reason of `signal` if that is aborted first. */
export function orAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const abort = () => reject(cancelled(signal));
    if (signal.aborted) abort();
    else signal.addEventListener("abort", abort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", abort));
  });
}

/** Resolves after `ms`, or at once when `signal` is aborted. */
export function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const end = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", end);
      resolve();
    };
    const timer = setTimeout(end, ms);
    if (signal.aborted) end();
    else signal.addEventListener("abort", end, { once: true });
  });
}
