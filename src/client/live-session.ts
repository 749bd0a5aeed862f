import { checkPush } from "./check-push.ts";
import type { Connector } from "./connector.ts";
import { ClientError, sessionGone } from "./errors.ts";
import type { Result } from "./request.ts";
import { RoamingSession } from "./roaming-session.ts";
import type { PushOptions, Session, SessionOptions, WaitOptions } from "./session.ts";
import type { StepOutput } from "./steps.ts";
import { copySteps, sliceSteps, type Values, writeValues } from "./values.ts";
import { limit, orAborted } from "./waiting.ts";

const PUSH_TIMEOUT_MS = 30_000;

/** A session as its caller has it: pushes go out in order, and whoever waits may stop waiting. */
export class LiveSession implements Session {
  readonly #session: RoamingSession;
  /** Settles once the pushes so far are on their way. */
  #turn: Promise<void> = Promise.resolve();

  private constructor(session: RoamingSession) {
    this.#session = session;
  }

  static open(connector: Connector, model: string, options: SessionOptions): LiveSession {
    return new LiveSession(RoamingSession.open(connector, model, options));
  }

  push(inputs: Values, options: PushOptions = {}): Promise<void> {
    const { steps, signal, timeoutMs = PUSH_TIMEOUT_MS } = options;
    const what = "waiting for room for an input (is somebody reading the outputs?)";
    const bound = limit(what, signal, timeoutMs);
    const pushed = this.#turn.then(async () => {
      checkPush(inputs, steps);
      await this.#push(copySteps(inputs, steps === undefined), steps ?? 1, bound.signal);
    });
    this.#turn = pushed.catch(() => {});
    return orAborted(pushed, bound.signal).finally(() => bound.release());
  }

  async end({ signal }: WaitOptions = {}): Promise<Result> {
    await waitFor(this.#turn, signal);
    this.#session.finish();
    const end = await waitFor(this.#session.ended, signal);
    if ("result" in end) return end.result;
    throw "error" in end ? end.error : sessionGone("was suspended");
  }

  async flush({ signal }: WaitOptions = {}): Promise<void> {
    // A marker says that what went before it is processed: pushes that wait for room go first.
    await waitFor(this.#turn, signal);
    const reached = this.#session.mark();
    this.#session.pump();
    await waitFor(reached, signal);
  }

  async suspend({ signal }: WaitOptions = {}): Promise<string> {
    await waitFor(this.#turn, signal);
    this.#session.suspend();
    const end = await waitFor(this.#session.ended, signal);
    if ("state" in end) return end.state;
    throw "error" in end ? end.error : sessionGone("has ended");
  }

  fork(): Session {
    return new LiveSession(this.#session.fork());
  }

  cancel(): void {
    this.#session.stop(new ClientError("CANCELLED", "the session was cancelled"));
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<StepOutput> {
    try {
      for (let step = await this.#session.next(); step; step = await this.#session.next()) yield step;
    } finally {
      this.cancel();
    }
  }

  async #push(inputs: Values, steps: number, signal: AbortSignal): Promise<void> {
    // What cannot be written is refused before any of it is sent.
    writeValues(inputs, []);
    for (let from = 0; from < steps; ) {
      const taken = Math.min(await this.#session.room(signal), steps - from);
      this.#session.append(taken === steps ? inputs : sliceSteps(inputs, from, taken), taken);
      from += taken;
    }
  }
}

function waitFor<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  return signal ? orAborted(promise, signal) : promise;
}
