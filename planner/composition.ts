import { drawSizes, type SizeMix } from "./synthesis.ts";

/** Which sizes meet in batches of one buffer: for every number of requests, how often a class is in a batch whose largest is another. */
export interface Composition {
  readonly sizes: readonly number[];
  /**
   * By number of requests, then class, then largest class: share of the requests. A class is never above the largest, so half
   * of each square is 0.
   */
  readonly shares: readonly Float64Array[];
  /** By number of requests, then largest class: share of the batches. */
  readonly largest: readonly Float64Array[];
}

/**
 * Samples batches of 1 to `maxBatch`: draws requests in the order in which they come and cuts them into groups. `order` gives
 * classes as indices, for instance of a recorded trace, where sizes may follow each other; else each is drawn on its own.
 */
export function sampleComposition(
  mix: SizeMix,
  maxBatch: number,
  options: { readonly seed?: number; readonly requests?: number; readonly order?: Int32Array } = {},
): Composition {
  const { seed = 1, requests = 100_000 } = options;
  const { sizes } = mix;
  const order = options.order ?? classesOf(drawSizes(mix, requests, seed), sizes);
  const shares = [new Float64Array()];
  const largest = [new Float64Array()];
  for (let rows = 1; rows <= maxBatch; rows++) {
    const pairs = new Float64Array(sizes.length ** 2);
    const tops = new Float64Array(sizes.length);
    const groups = Math.max(1, Math.floor(order.length / rows));
    for (let group = 0; group < groups; group++) {
      let top = 0;
      for (let row = 0; row < rows; row++) top = Math.max(top, order[(group * rows + row) % order.length]!);
      tops[top] = tops[top]! + 1 / groups;
      for (let row = 0; row < rows; row++) {
        const at = order[(group * rows + row) % order.length]! * sizes.length + top;
        pairs[at] = pairs[at]! + 1 / (groups * rows);
      }
    }
    shares.push(pairs);
    largest.push(tops);
  }
  return { sizes, shares, largest };
}

/** The class of each size: the first that is not smaller, else the last. */
export function classesOf(values: ArrayLike<number>, sizes: readonly number[]): Int32Array {
  return Int32Array.from(values, (value) => {
    const found = sizes.findIndex((size) => value <= size);
    return found < 0 ? sizes.length - 1 : found;
  });
}
