import type { ArrivalProcess } from "./arrival-process.ts";

/**
 * How many arrivals come in a time, and in which phase it ends: `at(n, i, j)` is the probability that there are n arrivals
 * and phase j, from phase i. These are the blocks of the matrix exponential of the generator with `d0` on its diagonal and
 * `d1` above, found by uniformization: only numbers of 0 or more are added, so nothing cancels.
 */
export interface Counts {
  readonly phases: number;
  /** Numbers of arrivals that are known: 0 to `most`. */
  readonly most: number;
  /** By number, then row, then column. */
  readonly blocks: Float64Array;
}

/** Counts of up to `most` arrivals in `seconds`. */
export function countsIn({ d0, d1 }: ArrivalProcess, seconds: number, most: number): Counts {
  const phases = d0.length;
  const square = phases * phases;
  const rate = d0.reduce((fastest, row, i) => Math.max(fastest, -row[i]!), 0);
  const silent = Float64Array.from({ length: square }, (_, at) => {
    const [i, j] = [Math.floor(at / phases), at % phases];
    return d0[i]![j]! / rate + (i === j ? 1 : 0);
  });
  const arriving = Float64Array.from(
    { length: square },
    (_, at) => d1[Math.floor(at / phases)]![at % phases]! / rate,
  );
  const blocks = new Float64Array((most + 1) * square);
  let jumps = new Float64Array((most + 1) * square);
  for (let i = 0; i < phases; i++) jumps[i * phases + i] = 1;
  const expected = rate * seconds;
  let left = 1;
  for (let jump = 0; left > NEGLIGIBLE; jump++) {
    const weight = Math.exp(jump * Math.log(expected || 1) - expected - logFactorial(jump));
    const share = expected === 0 ? (jump === 0 ? 1 : 0) : weight;
    for (let at = 0; at < blocks.length; at++) blocks[at] = blocks[at]! + share * jumps[at]!;
    left -= share;
    // Rounding keeps what is left from reaching 0; past the mean, a weight this small ends the sum.
    if (jump > expected && share < NEGLIGIBLE) break;
    const next = new Float64Array(jumps.length);
    for (let count = 0; count <= most; count++) {
      multiplyAdd(next, jumps, silent, phases, count, count, 0);
      if (count > 0) multiplyAdd(next, jumps, arriving, phases, count, count - 1, 0);
    }
    jumps = next;
  }
  return { phases, most, blocks };
}

const NEGLIGIBLE = 1e-13;

/** Counts in a time that is one time and then the other. */
export function inSequence(first: Counts, second: Counts): Counts {
  const { phases, most } = first;
  const blocks = new Float64Array(first.blocks.length);
  for (let count = 0; count <= most; count++)
    for (let early = 0; early <= count; early++)
      multiplyAdd(blocks, first.blocks, second.blocks, phases, count, early, count - early);
  return { phases, most, blocks };
}

/** Adds the product of a block of `left` and one of `right` to a block of `to`. */
function multiplyAdd(
  to: Float64Array,
  left: Float64Array,
  right: Float64Array,
  phases: number,
  toBlock: number,
  leftBlock: number,
  rightBlock: number,
): void {
  const square = phases * phases;
  for (let i = 0; i < phases; i++)
    for (let k = 0; k < phases; k++) {
      const factor = left[leftBlock * square + i * phases + k]!;
      if (factor === 0) continue;
      for (let j = 0; j < phases; j++) {
        const at = toBlock * square + i * phases + j;
        to[at] = to[at]! + factor * right[rightBlock * square + k * phases + j]!;
      }
    }
}

/** ln n!, by Stirling's series above 20, where its error is below 1e-10. */
function logFactorial(n: number): number {
  if (n <= 20) {
    let product = 1;
    for (let i = 2; i <= n; i++) product *= i;
    return Math.log(product);
  }
  return n * Math.log(n) - n + 0.5 * Math.log(2 * Math.PI * n) + 1 / (12 * n) - 1 / (360 * n ** 3);
}
