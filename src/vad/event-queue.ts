import type { VadEvent } from "./events.ts";

/** Events between a stream and its reader; knows when the reader is too far behind. */
export class EventQueue {
  readonly #mostAudio: number;
  readonly #resume: () => void;
  #events: VadEvent[] = [];
  #read = 0;
  /** Samples of the events that wait. */
  #audio = 0;
  #end: { readonly error?: unknown } | undefined;
  #wake: (() => void) | undefined;

  /** `resume` is called when the queue has been full and has room again. `mostAudio` in samples. */
  constructor(mostAudio: number, resume: () => void) {
    this.#mostAudio = mostAudio;
    this.#resume = resume;
  }

  get isFull(): boolean {
    return this.#events.length - this.#read >= MOST_EVENTS || this.#audio >= this.#mostAudio;
  }

  push(event: VadEvent): void {
    this.#events.push(event);
    this.#audio += audioOf(event);
    this.#wake?.();
  }

  /** No more events; the reader sees those that wait, then the end or the error. The first call counts. */
  end(error?: unknown): void {
    this.#end ??= error === undefined ? {} : { error };
    this.#wake?.();
  }

  /** Forgets what waits. */
  clear(): void {
    this.#events = [];
    this.#read = 0;
    this.#audio = 0;
  }

  /** The next event; undefined after the last. */
  async next(): Promise<VadEvent | undefined> {
    while (this.#read === this.#events.length) {
      if (this.#end) {
        if ("error" in this.#end) throw this.#end.error;
        return undefined;
      }
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
      this.#wake = undefined;
    }
    const wasFull = this.isFull;
    const event = this.#events[this.#read++]!;
    this.#audio -= audioOf(event);
    if (this.#read === this.#events.length) {
      this.#events = [];
      this.#read = 0;
    }
    if (wasFull && !this.isFull) this.#resume();
    return event;
  }
}

function audioOf(event: VadEvent): number {
  return event.type === "speech_end" ? event.audio.length : 0;
}

const MOST_EVENTS = 1024;
