/** Times are milliseconds from the first sample that was pushed. */
export type VadEvent = SpeechStart | SpeechEnd | Frame;

/** Speech has begun, and is long enough to count. A `speech_end` follows, always. */
export interface SpeechStart {
  readonly type: "speech_start";
  readonly atMs: number;
}

/** Speech has ended. */
export interface SpeechEnd {
  readonly type: "speech_end";
  readonly startMs: number;
  readonly endMs: number;
  /** The samples in between, at the rate of the model (16 kHz unless `createVad` was told 8 kHz), padding included. */
  readonly audio: Float32Array;
}

/** What the model thinks of 32 ms; only with `frames: true`, and before the events that follow from it. */
export interface Frame {
  readonly type: "frame";
  readonly atMs: number;
  /** How likely the frame holds speech, from 0 to 1. */
  readonly probability: number;
}
