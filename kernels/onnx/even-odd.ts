import type { Operation, Run } from "../native/program.ts";
import type { RowColumns } from "./row-columns.ts";

type Product = Operation & { readonly matrix: NonNullable<Operation["matrix"]>; readonly bias: Float32Array };

/**
 * Adds a product to a program. Where each column of its matrix is even or odd about a middle, as the windowed cosines and sines of a
 * Fourier transform are, values at the same distance from the middle are added for the even ones and subtracted for the odd ones
 * first: half the multiplications. The even columns then come first; answers where each column went.
 */
export function evenOdd(columns: RowColumns, product: Product): number[] | undefined {
  const { runs, matrix, bias } = product;
  const isWhole = runs.every(({ count, other }) => count === matrix.depth && other === 0);
  const found = isWhole && matrix.depth >= LEAST_DEPTH ? symmetryOf(matrix) : undefined;
  if (!found) {
    columns.add(product);
    return undefined;
  }
  const { middle2, isEven } = found;
  const { depth, width, values } = matrix;
  // Pairs k and middle2 - k, then what stands for itself: the middle, and what lies beyond the range of pairs.
  const first = Math.max(0, middle2 - depth + 1);
  const pairs = Math.floor((middle2 - 1) / 2) - first + 1;
  const alone = [...(first > 0 ? [0] : []), ...(middle2 % 2 === 0 ? [middle2 / 2] : [])];
  const count = runs.length;
  const back = columns.take(count * pairs);
  const [evens, odds] = [pairs + alone.length, pairs];
  const sums = columns.take(count * evens);
  const differences = columns.take(count * odds);
  const each = (make: (from: number, i: number) => Run): Run[] => runs.map(({ from }, i) => make(from, i));
  columns.add({
    kind: "move",
    runs: each((from, i) => ({ from: from + middle2 - first, step: -1, count: pairs, to: back + i * pairs })),
  });
  const paired = (to: number, stride: number) =>
    each((from, i) => ({ from: from + first, count: pairs, to: to + i * stride, other: back + i * pairs }));
  columns.add({ kind: "add", runs: paired(sums, evens) });
  columns.add({ kind: "subtract", runs: paired(differences, odds) });
  alone.forEach((at, place) => {
    columns.add({
      kind: "move",
      runs: each((from, i) => ({ from: from + at, count: 1, to: sums + i * evens + pairs + place })),
    });
  });
  const order = new Array<number>(width);
  const ofKind = (wanted: boolean) =>
    Array.from({ length: width }, (_, i) => i).filter((i) => isEven[i] === wanted);
  [...ofKind(true), ...ofKind(false)].forEach((column, at) => {
    order[column] = at;
  });
  const half = (chosen: readonly number[], sign: 1 | -1, rest: readonly number[]) => {
    const half = new Float32Array((pairs + rest.length) * chosen.length);
    chosen.forEach((column, at) => {
      for (let pair = 0; pair < pairs; pair++) {
        const [a, b] = [first + pair, middle2 - first - pair].map((row) => values[row * width + column]!);
        half[pair * chosen.length + at] = (a! + sign * b!) / 2;
      }
      rest.forEach((row, i) => {
        half[(pairs + i) * chosen.length + at] = values[row * width + column]!;
      });
    });
    return half;
  };
  const add = (chosen: readonly number[], sign: 1 | -1, rest: readonly number[], from: number) => {
    if (chosen.length === 0) return;
    const size = pairs + rest.length;
    columns.add({
      kind: "dense",
      runs: runs.map(({ to }, i) => ({
        from: from + i * size,
        count: size,
        to: to + order[chosen[0]!]!,
        other: 0,
      })),
      matrix: { depth: size, width: chosen.length, values: half(chosen, sign, rest) },
      bias: Float32Array.from(chosen, (column) => bias[column]!),
    });
  };
  add(ofKind(true), 1, alone, sums);
  add(ofKind(false), -1, [], differences);
  return order;
}

/** Below this there is little to halve. */
const LEAST_DEPTH = 64;
/** Of the largest weight, by which two may differ that are meant to be the same. */
const EXACT = 2e-6;

/** About which middle, doubled so that it is a whole number, all columns are even or odd, and which are even. */
function symmetryOf({
  depth,
  width,
  values,
}: Product["matrix"]): { middle2: number; isEven: boolean[] } | undefined {
  const most = values.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  const far = (a: number, b: number) => Math.abs(a - b) > EXACT * most;
  for (const middle2 of [depth, depth - 1]) {
    const first = Math.max(0, middle2 - depth + 1);
    const fits = (column: number, sign: 1 | -1) => {
      for (let row = first; 2 * row <= middle2; row++) {
        const other = values[(middle2 - row) * width + column]!;
        if (far(values[row * width + column]!, sign * other)) return false;
      }
      // Of a row without a partner only even columns can have something.
      return sign === 1 || first === 0 || !far(values[column]!, 0);
    };
    const isEven = Array.from({ length: width }, (_, column) => fits(column, 1));
    if (isEven.every((even, column) => even || fits(column, -1))) return { middle2, isEven };
  }
  return undefined;
}
