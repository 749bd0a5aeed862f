import { Fault } from "../core/faults.ts";
import type { Handle, Listener, Result, StepOutput } from "./types.ts";

type Submit = (listener: Listener) => Handle;

/** A request as a promise. */
export function resultOf(submit: Submit, signal: AbortSignal | undefined): Promise<Result> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) throw new Fault("CANCELLED", "the signal was aborted before the request was made");
    let handle: Handle | undefined;
    const cancel = () => handle?.cancel();
    const end = () => signal?.removeEventListener("abort", cancel);
    handle = submit({
      done: (result) => {
        end();
        resolve(result);
      },
      failed: (fault) => {
        end();
        reject(fault);
      },
    });
    signal?.addEventListener("abort", cancel, { once: true });
  });
}

/** A request as an iterable of its steps, made when it is first asked for one; leaving the loop cancels it. */
export async function* stepsOf(submit: Submit, signal: AbortSignal | undefined): AsyncGenerator<StepOutput> {
  const queue = new StepQueue();
  if (signal?.aborted) throw new Fault("CANCELLED", "the signal was aborted before the request was made");
  const handle = submit(queue.listener);
  queue.handle = handle;
  const cancel = () => handle.cancel();
  signal?.addEventListener("abort", cancel, { once: true });
  try {
    for (let step = await queue.next(); step; step = await queue.next()) yield step;
  } finally {
    signal?.removeEventListener("abort", cancel);
    handle.cancel();
  }
}

/** Steps between an engine and their reader. A reader that is far behind pauses the request. */
export class StepQueue {
  handle: Handle | undefined;
  readonly listener: Listener;
  #steps: StepOutput[] = [];
  #read = 0;
  #ended = false;
  #fault: Fault | undefined;
  #paused = false;
  #wake: (() => void) | undefined;

  constructor() {
    this.listener = {
      output: (step) => {
        this.#steps.push(step);
        if (!this.#paused && this.#waiting > MOST_WAITING) {
          this.#paused = true;
          this.handle?.pause();
        }
        this.#wake?.();
      },
      done: () => this.end(),
      failed: (fault) => this.end(fault),
    };
  }

  end(fault?: Fault): void {
    this.#ended = true;
    this.#fault = fault;
    this.#wake?.();
  }

  /** The next step; undefined after the last. Throws the fault that ended the request, after all steps before it. */
  async next(): Promise<StepOutput | undefined> {
    while (this.#waiting === 0) {
      if (this.#fault) throw this.#fault;
      if (this.#ended) return undefined;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
      this.#wake = undefined;
    }
    const step = this.#steps[this.#read++]!;
    if (this.#read === this.#steps.length) {
      this.#steps = [];
      this.#read = 0;
    }
    if (this.#paused && this.#waiting < MOST_WAITING / 2) {
      this.#paused = false;
      this.handle?.resume();
    }
    return step;
  }

  get #waiting(): number {
    return this.#steps.length - this.#read;
  }
}

const MOST_WAITING = 1024;
