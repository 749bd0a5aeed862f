import { Fault } from "../core/faults.ts";
import { StepQueue } from "./stream.ts";
import type { Listener, Result, Session, SessionHandle, StepOutput, Values } from "./types.ts";

/** A session whose outputs are read as an iterable and whose ends are promises. */
export class OpenSession implements Session {
  readonly #handle: SessionHandle;
  readonly #queue = new StepQueue();
  readonly #markers = new Map<number, () => void>();
  readonly #ended: Promise<{ readonly result?: Result; readonly state?: string }>;
  #lastMarker = 0;
  #fault: Fault | undefined;

  constructor(open: (listener: Listener) => SessionHandle) {
    let settle: (end: { result?: Result; state?: string }) => void = () => {};
    this.#ended = new Promise((resolve) => {
      settle = resolve;
    });
    const finish = (end: { result?: Result; state?: string }, fault?: Fault) => {
      this.#fault = fault;
      this.#queue.end(fault);
      for (const reached of this.#markers.values()) reached();
      settle(end);
    };
    this.#handle = open({
      ...this.#queue.listener,
      done: (result) => finish({ result }),
      failed: (fault) => finish({}, fault),
      suspended: (state, evicted) =>
        finish(
          { state },
          evicted && new Fault("MODEL_NOT_READY", "the session's model version was unloaded"),
        ),
      marker: (marker) => {
        this.#markers.get(marker)?.();
        this.#markers.delete(marker);
      },
    });
    this.#queue.handle = this.#handle;
  }

  push(inputs: Values): void {
    if (this.#fault) throw this.#fault;
    this.#handle.push(inputs);
  }

  async end(): Promise<Result> {
    this.#handle.end();
    const { result } = await this.#ended;
    if (result) return result;
    throw this.#fault ?? new Fault("SESSION_NOT_FOUND", "the session was suspended");
  }

  async flush(): Promise<void> {
    const marker = ++this.#lastMarker;
    await new Promise<void>((resolve) => {
      if (this.#fault) return resolve();
      this.#markers.set(marker, resolve);
      this.#handle.marker(marker);
    });
    if (this.#fault) throw this.#fault;
  }

  async suspend(): Promise<string> {
    this.#handle.suspend();
    const { state } = await this.#ended;
    if (state !== undefined) return state;
    throw this.#fault ?? new Fault("SESSION_NOT_FOUND", "the session has ended");
  }

  fork(): Session {
    return new OpenSession((listener) => this.#handle.fork(listener));
  }

  cancel(): void {
    this.#handle.cancel();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<StepOutput> {
    try {
      for (let step = await this.#queue.next(); step; step = await this.#queue.next()) yield step;
    } finally {
      this.#handle.cancel();
    }
  }
}
