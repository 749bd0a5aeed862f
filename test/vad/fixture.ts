import { readFileSync } from "node:fs";
import { readWav } from "../../src/cli/wav.ts";
import type { SpeechSettings } from "../../src/vad/index.ts";

/** Options of Silero's `get_speech_timestamps`. */
interface ReferenceOptions {
  readonly threshold?: number;
  readonly neg_threshold?: number;
  readonly min_speech_duration_ms?: number;
  readonly min_silence_duration_ms?: number;
  readonly speech_pad_ms?: number;
  readonly max_speech_duration_s?: number;
}

/** What the reference said; see make_fixtures.py. Segments are in samples. */
interface Expected {
  readonly models: readonly {
    readonly file: string;
    readonly rate: 8000 | 16_000;
    readonly probabilities: readonly number[];
    readonly timestamps: readonly {
      readonly options: ReferenceOptions;
      readonly speech: readonly (readonly [number, number])[];
    }[];
    readonly iterator: readonly { readonly start?: number; readonly end?: number }[];
  }[];
  readonly random: readonly {
    readonly seed: number;
    readonly samples: number;
    readonly options: ReferenceOptions;
    readonly speech: readonly (readonly [number, number])[];
  }[];
}

const at = (name: string) => new URL(`fixtures/${name}`, import.meta.url);

export const expected = JSON.parse(readFileSync(at("expected.json"), "utf8")) as Expected;
/** 9 s at 16 kHz. */
export const speech = readWav(readFileSync(at("speech.wav")), "speech.wav").samples;

/** The reference's options by our names. */
export function settingsOf(options: ReferenceOptions): SpeechSettings {
  const names = {
    threshold: options.threshold,
    negThreshold: options.neg_threshold,
    minSpeechMs: options.min_speech_duration_ms,
    minSilenceMs: options.min_silence_duration_ms,
    speechPadMs: options.speech_pad_ms,
    maxSpeechMs:
      options.max_speech_duration_s === undefined ? undefined : options.max_speech_duration_s * 1000,
  };
  return Object.fromEntries(Object.entries(names).filter(([, value]) => value !== undefined));
}
