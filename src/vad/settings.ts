import { Fault } from "../core/faults.ts";

/** When speech begins and ends; names, meanings and defaults as in Silero's `get_speech_timestamps`. */
export interface SpeechSettings {
  /** A frame at or above this probability is speech; above 0 and at most 1. @default 0.5 */
  readonly threshold?: number;
  /** Inside speech, a frame below this is silence; from 0 to `threshold`. @default threshold - 0.15, at least 0.01 */
  readonly negThreshold?: number;
  /** Shorter stretches of speech are dropped, in milliseconds; 0 or more. `speech_start` waits this long. @default 250 */
  readonly minSpeechMs?: number;
  /** Silence that ends a segment, in milliseconds; 0 or more. @default 100 */
  readonly minSilenceMs?: number;
  /**
   * Audio added before and after a segment, in milliseconds, from 0 to 10 000; two segments share a gap that is too
   * small for both. @default 30
   */
  readonly speechPadMs?: number;
  /**
   * Longest segment, in milliseconds; longer speech is cut at its longest pause, else anywhere. More than twice
   * `speechPadMs` and 32. Bounds the audio that a stream keeps: 64 kB a second of speech. @default Infinity
   */
  readonly maxSpeechMs?: number;
}

export type CheckedSpeech = Required<SpeechSettings>;

/** Fills in defaults. Throws INVALID_REQUEST for a value out of bounds. */
export function checkSpeech(settings: SpeechSettings): CheckedSpeech {
  const { threshold = 0.5, minSpeechMs = 250, minSilenceMs = 100, speechPadMs = 30 } = settings;
  const { negThreshold = Math.min(threshold, Math.max(threshold - 0.15, 0.01)) } = settings;
  const { maxSpeechMs = Number.POSITIVE_INFINITY } = settings;
  const least = 2 * speechPadMs + 32;
  check("threshold", threshold, threshold > 0 && threshold <= 1, "above 0 and at most 1");
  check(
    "negThreshold",
    negThreshold,
    negThreshold >= 0 && negThreshold <= threshold,
    "from 0 to 'threshold'",
  );
  check("minSpeechMs", minSpeechMs, isDuration(minSpeechMs), "0 or more");
  check("minSilenceMs", minSilenceMs, isDuration(minSilenceMs), "0 or more");
  check("speechPadMs", speechPadMs, isDuration(speechPadMs) && speechPadMs <= 10_000, "from 0 to 10000");
  check(
    "maxSpeechMs",
    maxSpeechMs,
    maxSpeechMs > least,
    `above ${least}, which is twice 'speechPadMs' and 32`,
  );
  return { threshold, negThreshold, minSpeechMs, minSilenceMs, speechPadMs, maxSpeechMs };
}

/** Throws INVALID_REQUEST that names a setting, its value and its bounds. */
export function check(name: string, value: unknown, fits: boolean, bounds: string): void {
  if (!fits) throw new Fault("INVALID_REQUEST", `'${name}' is ${String(value)}, it must be ${bounds}`);
}

function isDuration(value: number): boolean {
  return Number.isFinite(value) && value >= 0;
}
