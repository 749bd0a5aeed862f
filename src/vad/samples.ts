import { Fault } from "../core/faults.ts";

/** Audio: `Float32Array` in [-1, 1] or `Int16Array`; one channel. */
export type Samples = Float32Array | Int16Array;

/** The samples in [-1, 1]; a `Float32Array` is itself. Throws INVALID_INPUT for values that are no audio. */
export function floatsOf(samples: Samples): Float32Array {
  if (samples instanceof Int16Array) return Float32Array.from(samples, (value) => value / 32_768);
  if (!(samples instanceof Float32Array)) {
    const kind = Object.prototype.toString.call(samples).slice(8, -1);
    throw new Fault("INVALID_INPUT", `samples are ${kind}, expected Float32Array in [-1, 1] or Int16Array`);
  }
  if (isQuiet(samples)) return samples;
  for (let i = 0; i < samples.length; i++) {
    if (Math.abs(samples[i]!) <= LOUDEST) continue;
    const why = Number.isFinite(samples[i])
      ? "full scale is 1; give 16-bit samples as Int16Array"
      : "expected a number";
    throw new Fault("INVALID_INPUT", `sample ${i} is ${samples[i]}: ${why}`);
  }
  return samples;
}

/** Whether the squares of all samples together say that none is too loud or no number, which takes half as long as asking each. */
function isQuiet(samples: Float32Array): boolean {
  let [a, b, c, d] = [0, 0, 0, 0];
  const whole = samples.length & ~3;
  // Four sums, so that no addition waits for the one before.
  for (let i = 0; i < whole; i += 4) {
    a += samples[i]! * samples[i]!;
    b += samples[i + 1]! * samples[i + 1]!;
    c += samples[i + 2]! * samples[i + 2]!;
    d += samples[i + 3]! * samples[i + 3]!;
  }
  for (let i = whole; i < samples.length; i++) a += samples[i]! * samples[i]!;
  return a + b + c + d <= LOUDEST * LOUDEST;
}

/** 24 dB over full scale. Filters and mixers overshoot a little; anything near this is of another scale. */
const LOUDEST = 16;
