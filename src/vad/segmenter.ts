import type { CheckedSpeech } from "./settings.ts";

/** What a segmenter says, in samples from the beginning of the stream. */
export type Boundary =
  | { readonly kind: "start"; readonly at: number }
  | { readonly kind: "end"; readonly start: number; readonly end: number };

/** A stretch of speech before it is padded. */
interface Stretch {
  readonly start: number;
  readonly end: number;
}

/**
 * Frame probabilities to segments of speech: Silero's `get_speech_timestamps`, told as soon as it is certain.
 *
 * A `start` is certain once the stretch will not be dropped as too short, an `end` once no later segment can begin so
 * early that both have to share the gap for their padding. Every `start` has exactly one `end`, and they alternate.
 * Source: `get_speech_timestamps` of silero-vad 6.2, with `use_max_poss_sil_at_max_speech`.
 */
export class Segmenter {
  readonly #tell: (boundary: Boundary) => void;
  readonly #threshold: number;
  readonly #negThreshold: number;
  readonly #minSpeech: number;
  readonly #minSilence: number;
  readonly #pad: number;
  readonly #maxSpeech: number;
  /** Pauses longer than this are places to cut. */
  readonly #minPause: number;
  /** Where the next frame begins. */
  #at = 0;
  /** Where the present stretch of speech began. */
  #start: number | undefined;
  /** Whether that was told. */
  #isTold = false;
  /** Where the present silence inside a stretch began. */
  #silence: number | undefined;
  /** The longest pause of the present stretch, the first of equals. */
  #pause: { readonly at: number; readonly length: number } | undefined;
  /** A stretch that has ended and whose end was not told. */
  #ended: Stretch | undefined;
  /** The padded start of the segment that was told last. */
  #toldStart = 0;

  /** `rate` in samples per second, `frame` in samples. */
  constructor(settings: CheckedSpeech, rate: number, frame: number, tell: (boundary: Boundary) => void) {
    this.#tell = tell;
    this.#threshold = settings.threshold;
    this.#negThreshold = settings.negThreshold;
    this.#minSpeech = (rate * settings.minSpeechMs) / 1000;
    this.#minSilence = (rate * settings.minSilenceMs) / 1000;
    this.#pad = (rate * settings.speechPadMs) / 1000;
    this.#maxSpeech = (rate * settings.maxSpeechMs) / 1000 - frame - 2 * this.#pad;
    this.#minPause = (rate * MIN_PAUSE_MS) / 1000;
  }

  /** No later boundary needs a sample before this one. */
  get keepFrom(): number {
    const first = this.#ended?.start ?? this.#start ?? this.#at;
    const padded = Math.max(0, Math.trunc(first - this.#pad));
    return this.#hasOpenSegment ? Math.min(this.#toldStart, padded) : padded;
  }

  /** One frame; `samples` of it are real, all but at the end of the stream. */
  push(probability: number, samples: number): void {
    const at = this.#at;
    this.#at += samples;
    this.#step(probability, at);
    this.#settle();
  }

  /** No more frames. */
  end(): void {
    if (this.#start !== undefined && (this.#isTold || this.#at - this.#start > this.#minSpeech)) {
      this.#close(this.#at);
    }
    this.#start = undefined;
    if (this.#ended) this.#tellEnd(Math.min(this.#at, this.#ended.end + this.#pad));
  }

  get #hasOpenSegment(): boolean {
    return this.#isTold || this.#ended !== undefined;
  }

  #step(probability: number, at: number): void {
    const isSpeech = probability >= this.#threshold;
    if (isSpeech && this.#silence !== undefined) {
      const length = at - this.#silence;
      if (length > this.#minPause && length > (this.#pause?.length ?? 0)) {
        this.#pause = { at: this.#silence, length };
      }
      this.#silence = undefined;
    }
    if (this.#start === undefined) {
      if (isSpeech) this.#start = at;
      return;
    }
    if (at - this.#start > this.#maxSpeech) {
      const pause = this.#pause;
      this.#close(pause?.at ?? at);
      if (!pause) return;
      this.#start = pause.at + pause.length;
    }
    if (probability >= this.#negThreshold) return;
    this.#silence ??= at;
    if (at - this.#silence < this.#minSilence) return;
    if (this.#isTold || this.#silence - this.#start! > this.#minSpeech) this.#close(this.#silence);
    else this.#forget();
  }

  /** Ends the present stretch, which counts. */
  #close(end: number): void {
    const start = this.#start!;
    if (!this.#isTold) this.#tellStart(start);
    this.#ended = { start, end };
    this.#forget();
  }

  #forget(): void {
    this.#start = undefined;
    this.#isTold = false;
    this.#silence = undefined;
    this.#pause = undefined;
  }

  /** Tells what the frames so far make certain. */
  #settle(): void {
    if (this.#ended) {
      const nextStart = this.#start ?? this.#at;
      if (nextStart - this.#ended.end >= 2 * this.#pad) this.#tellEnd(this.#ended.end + this.#pad);
    }
    if (this.#start === undefined || this.#isTold || this.#silence !== undefined) return;
    if (this.#at - this.#start > this.#minSpeech) {
      this.#tellStart(this.#start);
      this.#isTold = true;
    }
  }

  /** Tells a start, and before it the end of a segment that shares its gap with this one. */
  #tellStart(start: number): void {
    let padded = Math.max(0, Math.trunc(start - this.#pad));
    if (this.#ended) {
      const gap = start - this.#ended.end;
      if (gap < 2 * this.#pad) {
        const half = Math.floor(gap / 2);
        padded = start - half;
        this.#tellEnd(this.#ended.end + half);
      } else this.#tellEnd(this.#ended.end + this.#pad);
    }
    this.#toldStart = padded;
    this.#tell({ kind: "start", at: padded });
  }

  #tellEnd(padded: number): void {
    this.#ended = undefined;
    this.#tell({ kind: "end", start: this.#toldStart, end: Math.trunc(padded) });
  }
}

/** `min_silence_at_max_speech` of the reference. */
const MIN_PAUSE_MS = 98;
