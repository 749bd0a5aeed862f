import { Fault } from "../core/faults.ts";
import { float32, type Tensor } from "../core/tensor.ts";
import type { Listener, SessionHandle, StepOutput } from "../runtime/types.ts";
import { AudioBuffer } from "./audio-buffer.ts";
import { EventQueue } from "./event-queue.ts";
import type { VadEvent } from "./events.ts";
import type { Resampler } from "./resampler.ts";
import { floatsOf, type Samples } from "./samples.ts";
import { type Boundary, Segmenter } from "./segmenter.ts";
import type { CheckedSpeech } from "./settings.ts";

/** One listener's audio, from its samples to the events of speech in it. End or close every stream. */
export interface VadStream extends AsyncIterable<VadEvent> {
  /**
   * The next samples, one channel, any number of them. They are copied. Throws INVALID_INPUT for samples that are none,
   * OVERLOADED while `maxBufferedMs` of audio wait (nothing is taken; `flush` says when to go on), CANCELLED
   * after `end` or `close`, and the stream's own fault where it has failed.
   */
  push(samples: Samples): void;
  /**
   * Resolves once all whole frames pushed so far have been judged; rejects with the fault that ends the stream. Events have
   * to be read meanwhile.
   */
  flush(): Promise<void>;
  /** No more samples: a segment that is open ends with the last sample, and the iteration with the last event. */
  end(): void;
  /** Ends the stream at once and forgets its events; the iteration ends. Leaving the loop does this too. */
  close(): void;
}

/** What a stream is made of. */
export interface StreamParts {
  readonly open: (listener: Listener) => SessionHandle;
  readonly resampler: Resampler;
  readonly speech: CheckedSpeech;
  /** Of the model, in samples per second. */
  readonly rate: number;
  /** Samples of one frame. */
  readonly frame: number;
  readonly frames: boolean;
  readonly maxBufferedMs: number;
  readonly signal?: AbortSignal;
  /** Called once, when the stream has given its memory back. */
  readonly closed: (stream: PooledStream) => void;
}

/**
 * A stream that shares the model with all others.
 *
 * ```
 *  push -> resampler -> |kept for the segment|sent, not judged|waiting| -> session -> segmenter -> events
 *                       keepFrom             judged           sent    length
 * ```
 */
export class PooledStream implements VadStream {
  readonly #parts: StreamParts;
  readonly #session: SessionHandle;
  readonly #segmenter: Segmenter;
  readonly #events: EventQueue;
  readonly #audio = new AudioBuffer();
  readonly #mostWaiting: number;
  readonly #abort = () => this.fail(new Fault("CANCELLED", "the stream's signal was aborted"));
  #sent = 0;
  #judged = 0;
  #flushes: { readonly at: number; readonly resolve: () => void; readonly reject: (fault: Fault) => void }[] =
    [];
  #state: "open" | "ending" | "ended" = "open";
  #fault: Fault | undefined;
  /** Whether the session knows that no more comes. */
  #isAllSent = false;

  constructor(parts: StreamParts) {
    this.#parts = parts;
    this.#mostWaiting = (parts.rate * parts.maxBufferedMs) / 1000;
    this.#events = new EventQueue(this.#mostWaiting, () => this.#pump());
    this.#segmenter = new Segmenter(parts.speech, parts.rate, parts.frame, (boundary) =>
      this.#tell(boundary),
    );
    this.#session = parts.open({
      output: (step) => this.#judge(step),
      done: () => this.#finish(),
      failed: (fault) => this.fail(fault),
    });
    parts.signal?.addEventListener("abort", this.#abort, { once: true });
  }

  push(samples: Samples): void {
    if (this.#fault) throw this.#fault;
    if (this.#state !== "open")
      throw new Fault("CANCELLED", "the stream takes no samples after 'end' or 'close'");
    const waiting = this.#audio.length - this.#judged;
    if (waiting > this.#mostWaiting) {
      const ms = Math.floor((waiting * 1000) / this.#parts.rate);
      throw new Fault(
        "OVERLOADED",
        `${ms} ms of audio wait, 'maxBufferedMs' is ${this.#parts.maxBufferedMs}: read the events and await 'flush'`,
      );
    }
    this.#audio.append(this.#parts.resampler.push(floatsOf(samples)));
    this.#pump();
  }

  flush(): Promise<void> {
    const { frame } = this.#parts;
    const at = Math.floor(this.#audio.length / frame) * frame;
    return new Promise((resolve, reject) => {
      if (this.#fault) reject(this.#fault);
      else if (this.#state === "ended" || this.#judged >= at) resolve();
      else this.#flushes.push({ at, resolve, reject });
    });
  }

  end(): void {
    if (this.#state !== "open") return;
    this.#state = "ending";
    this.#audio.append(this.#parts.resampler.end());
    this.#pump();
  }

  close(): void {
    this.#events.clear();
    this.#release(undefined);
  }

  /** Ends the stream with a fault, which its reader sees after the events before it. */
  fail(fault: Fault): void {
    this.#release(fault);
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<VadEvent> {
    try {
      for (let event = await this.#events.next(); event; event = await this.#events.next()) yield event;
    } finally {
      this.close();
    }
  }

  /** Gives the session as many frames as it may have ahead, unless the reader is behind. */
  #pump(): void {
    if (this.#state === "ended") return;
    const { frame } = this.#parts;
    const { length } = this.#audio;
    const room = MOST_AHEAD - Math.ceil((this.#sent - this.#judged) / frame);
    const count = this.#events.isFull ? 0 : Math.min(room, Math.floor((length - this.#sent) / frame));
    if (count > 0) {
      const view = this.#audio.view(this.#sent, this.#sent + count * frame);
      this.#session.push({ input: float32([count, frame], view) });
      this.#sent += count * frame;
    }
    const rest = length - this.#sent;
    if (this.#state !== "ending" || rest >= frame || this.#isAllSent) return;
    if (rest > 0) {
      const last = new Float32Array(frame);
      last.set(this.#audio.view(this.#sent, length));
      this.#session.push({ input: float32([1, frame], last) });
      this.#sent = length;
    }
    this.#isAllSent = true;
    this.#session.end();
  }

  #judge({ outputs }: StepOutput): void {
    if (this.#state === "ended") return;
    const probability = (outputs.output as Tensor).data[0]!;
    const samples = Math.min(this.#parts.frame, this.#sent - this.#judged);
    if (this.#parts.frames) {
      this.#events.push({ type: "frame", atMs: this.#ms(this.#judged), probability });
    }
    this.#segmenter.push(probability, samples);
    this.#judged += samples;
    this.#audio.keepFrom(Math.min(this.#segmenter.keepFrom, this.#judged));
    if (this.#flushes.length > 0) this.#resolveFlushes();
    this.#pump();
  }

  #tell(boundary: Boundary): void {
    if (boundary.kind === "start") {
      this.#events.push({ type: "speech_start", atMs: this.#ms(boundary.at) });
      return;
    }
    const { start, end } = boundary;
    const audio = this.#audio.view(start, end).slice();
    this.#events.push({ type: "speech_end", startMs: this.#ms(start), endMs: this.#ms(end), audio });
  }

  #ms(samples: number): number {
    return (samples * 1000) / this.#parts.rate;
  }

  /** They wait in the order of their places. */
  #resolveFlushes(): void {
    while (this.#flushes.length > 0 && this.#flushes[0]!.at <= this.#judged) this.#flushes.shift()!.resolve();
  }

  /** The session has judged everything. */
  #finish(): void {
    if (this.#state === "ended") return;
    this.#segmenter.end();
    this.#release(undefined);
  }

  #release(fault: Fault | undefined): void {
    if (this.#state === "ended") return;
    this.#state = "ended";
    this.#fault = fault;
    this.#session.cancel();
    this.#parts.resampler.close();
    this.#parts.signal?.removeEventListener("abort", this.#abort);
    this.#events.end(fault);
    const flushes = this.#flushes;
    this.#flushes = [];
    for (const { resolve, reject } of flushes) fault ? reject(fault) : resolve();
    this.#parts.closed(this);
  }
}

/** Frames a stream may have sent and not heard of: 2 s, enough to keep an engine busy while this thread is not. */
const MOST_AHEAD = 64;
