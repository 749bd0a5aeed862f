import { callCost, type FunctionPrices } from "../../planner/cost.ts";
import { cellularService, type Service } from "../../planner/service.ts";
import type { SizeMix } from "../../planner/synthesis.ts";

/** The 32 size classes of MBS, in KB. */
export const SIZES_KB = [
  11, 22.1, 25.7, 30.4, 33.5, 41.9, 43.9, 44.7, 51.9, 56, 59.4, 63.5, 67.5, 68.6, 76, 79, 81.6, 87.9, 91.9,
  96, 99.8, 103.5, 106.9, 110.8, 115.9, 118.7, 123.8, 127.5, 131, 134.5, 139.9, 143.5,
];

/** DeepSpeech on Lambda, approximately: a batch of k of up to a size takes size * (0.024 + 0.0253 k) s from 2,048 MB on. */
function secondsPerKb(rows: number, memoryMb: number): number {
  return slowdown(memoryMb) * (0.024 + 0.0253 * rows);
}

/** 1.9 at 1,024 MB, 1.25 at 1,536, and 1 from 2,048 on. */
function slowdown(memoryMb: number): number {
  if (memoryMb >= 2048) return 1;
  return memoryMb >= 1536
    ? 1.25 - (0.25 * (memoryMb - 1536)) / 512
    : 1.9 - (0.65 * Math.max(0, memoryMb - 1024)) / 512;
}

/** Padded to the largest of the batch. */
export const padded: Service = {
  maxRows: 25,
  ms: (rows, sizeKb, memoryMb) => 1000 * sizeKb * secondsPerKb(rows, memoryMb),
};

/** The same law cell by cell: every KB of a request is a step, taken together with those that are still there. */
export const cellular: Service = cellularService((rows, memoryMb) => 1000 * secondsPerKb(rows, memoryMb), {
  maxRows: 25,
});

/**
 * How many times dearer single requests are than batches without waiting or padding, each at its cheapest memory within the
 * goal, in USD a KB: no number of buffers can save more.
 */
export function mostGain(mix: SizeMix, msPerKb: number, prices: FunctionPrices): number {
  const cheapest = (mostRows: number) =>
    mix.sizes.reduce((sum, size, i) => {
      const costs: number[] = [];
      for (let rows = 1; rows <= mostRows; rows++) {
        for (let memoryMb = 1024; memoryMb <= 3072; memoryMb += 256) {
          const ms = padded.ms(rows, size, memoryMb);
          if (ms <= msPerKb * size) costs.push(callCost(ms, memoryMb, prices) / rows / size);
        }
      }
      return sum + mix.shares[i]! * Math.min(...costs);
    }, 0);
  return cheapest(1) / cheapest(padded.maxRows);
}

/** Shares of the classes in the manner of the paper's mixes; their exact numbers are our own. */
export const mixes: Readonly<Record<string, SizeMix>> = {
  original: mixOf((i) => bell(i, 10, 5)),
  exp_small: mixOf((i) => 0.53 ** i),
  bimodal: mixOf((i) => bell(i, 3, 2.5) + bell(i, 27, 2.5)),
};

function mixOf(weight: (index: number) => number): SizeMix {
  const weights = SIZES_KB.map((_, i) => weight(i));
  const all = weights.reduce((sum, one) => sum + one, 0);
  return { sizes: SIZES_KB, shares: weights.map((one) => one / all) };
}

function bell(index: number, middle: number, width: number): number {
  return Math.exp(-0.5 * ((index - middle) / width) ** 2);
}
