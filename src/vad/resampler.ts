import load, { type SpeexModule } from "@echogarden/speex-resampler-wasm/simd";
import { Fault } from "../core/faults.ts";

/** Changes the rate of one stream of samples. The samples that come out do not depend on how the input was cut. */
export interface Resampler {
  /** The samples that are complete with these; they lag behind by half the filter, a few milliseconds. */
  push(samples: Float32Array): Float32Array;
  /** The rest, for an output of `ceil(input * to / from)` samples in all; the resampler is closed. */
  end(): Float32Array;
  /** Gives its memory back; may be called again. */
  close(): void;
}

/** All resamplers of a process side by side in one WebAssembly memory: some 7 kB each. */
export class Resamplers {
  readonly #speex: SpeexModule;
  readonly #input: number;
  readonly #output: number;
  readonly #lengths: number;

  private constructor(speex: SpeexModule) {
    this.#speex = speex;
    this.#input = speex._malloc(4 * PIECE);
    this.#output = speex._malloc(4 * ROOM);
    this.#lengths = speex._malloc(8);
  }

  static async load(): Promise<Resamplers> {
    return new Resamplers(await load());
  }

  /** `from` and `to` in samples per second, both from 4 000 to 384 000, `to` at most four times `from`. */
  open(from: number, to: number): Resampler {
    if (from === to) return { push: (samples) => samples, end: () => new Float32Array(), close: () => {} };
    const speex = this.#speex;
    let state = speex._speex_resampler_init(1, from, to, QUALITY, this.#lengths);
    if (state === 0) throw new Fault("INTERNAL", `no memory for a resampler from ${from} to ${to} Hz`);
    speex._speex_resampler_skip_zeros(state);
    let taken = 0;
    let given = 0;
    const close = () => {
      if (state !== 0) speex._speex_resampler_destroy(state);
      state = 0;
    };
    return {
      push: (samples) => {
        taken += samples.length;
        const made = this.#process(state, samples);
        given += made.length;
        return made;
      },
      end: () => {
        const rest = this.#process(
          state,
          new Float32Array(speex._speex_resampler_get_input_latency(state) + 1),
        );
        close();
        return rest.subarray(0, Math.ceil((taken * to) / from) - given);
      },
      close,
    };
  }

  #process(state: number, samples: Float32Array): Float32Array {
    const speex = this.#speex;
    const made: Float32Array[] = [];
    for (let at = 0; at < samples.length; ) {
      const piece = samples.subarray(at, at + PIECE);
      speex.HEAPF32.set(piece, this.#input >> 2);
      speex.HEAP32[this.#lengths >> 2] = piece.length;
      speex.HEAP32[(this.#lengths >> 2) + 1] = ROOM;
      const failed = speex._speex_resampler_process_float(
        state,
        0,
        this.#input,
        this.#lengths,
        this.#output,
        this.#lengths + 4,
      );
      if (failed !== 0) throw new Fault("INTERNAL", `the resampler answered with error ${failed}`);
      at += speex.HEAP32[this.#lengths >> 2]!;
      const from = this.#output >> 2;
      made.push(speex.HEAPF32.slice(from, from + speex.HEAP32[(this.#lengths >> 2) + 1]!));
    }
    return made.length === 1 ? made[0]! : joined(made);
  }
}

function joined(parts: readonly Float32Array[]): Float32Array {
  const whole = new Float32Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

/** Speex's scale from 0 to 10: a filter of 80 samples of the lower rate. */
const QUALITY = 5;
/** Samples per call, and room for four times as many. */
const PIECE = 4096;
const ROOM = 4 * PIECE + 64;
