import type { Operation, Run } from "../native/program.ts";
import type { RowColumns } from "./row-columns.ts";

type Matrix = NonNullable<Operation["matrix"]>;
/** A product of whole matrices: every run has all of its depth. */
export interface Product {
  readonly runs: readonly Run[];
  readonly matrix: Matrix;
  readonly vector: Float32Array;
}

/**
 * Adds a product to a program. Where each column of its matrix is even or odd about a middle, as the windowed cosines and sines of a
 * Fourier transform are, values at the same distance from the middle are added for the even ones and subtracted for the odd ones
 * first: half the multiplications. Without the window both halves are even or odd once more, and so on, as in a fast transform.
 * The even columns come first; answers where each column went.
 */
export function evenOdd(columns: RowColumns, product: Product): number[] {
  const { matrix } = product;
  const isLarge = matrix.depth >= LEAST_DEPTH && product.runs.every(({ count }) => count === matrix.depth);
  if (!isLarge || !symmetryOf(matrix)) return halved(columns, product);
  const window = windowOf(matrix);
  if (!window) return halved(columns, product);
  const { depth, width, values } = matrix;
  const to = columns.take(product.runs.length * depth);
  const scaled = product.runs.map(({ from }, i) => ({ from, count: depth, to: to + i * depth, other: 0 }));
  columns.add({ kind: "scale", runs: scaled, vector: window });
  const plain = values.map((value, i) => {
    const factor = window[Math.floor(i / width)]!;
    return factor === 0 ? ANY : value / factor;
  });
  return halved(columns, {
    ...product,
    runs: product.runs.map((run, i) => ({ ...run, from: to + i * depth })),
    matrix: { depth, width, values: plain },
  });
}

/** Stands for a weight that meets zeros only, so that it may have any value; it is far from none. */
const ANY = Number.NaN;
/** Below this there is little to halve. */
const LEAST_DEPTH = 60;
/** Of the largest weight, by which two may differ that are meant to be the same. */
const EXACT = 2e-6;

/** A column of factors that no value of its row exceeds: that of frequency 0. */
function windowOf({ depth, width, values }: Matrix): Float32Array | undefined {
  for (let column = 0; column < width; column++) {
    const isOne = Array.from({ length: depth }, (_, row) => row).every((row) => {
      const factor = values[row * width + column]!;
      const most = factor * (1 + EXACT);
      return values.subarray(row * width, (row + 1) * width).every((value) => Math.abs(value) <= most);
    });
    if (isOne) return Float32Array.from({ length: depth }, (_, row) => values[row * width + column]!);
  }
  return undefined;
}

function halved(columns: RowColumns, product: Product): number[] {
  const { runs, matrix, vector } = product;
  const { depth, width, values } = matrix;
  const isWhole = runs.every(({ count }) => count === depth);
  const found = isWhole && depth >= LEAST_DEPTH ? symmetryOf(matrix) : undefined;
  if (!found) {
    const known = values.map((value) => (Number.isNaN(value) ? 0 : value));
    columns.add({ kind: "dense", ...product, matrix: { ...matrix, values: known } });
    return Array.from({ length: width }, (_, column) => column);
  }
  const { middle2, isEven } = found;
  // Values k and middle2 - k are a pair. The middle, and what is in front of the first pair, stand for themselves.
  const first = Math.max(0, middle2 - depth + 1);
  const pairs = Math.floor((middle2 - 1) / 2) - first + 1;
  const middles = middle2 % 2 === 0 ? [first + pairs] : [];
  const evens = first + pairs + middles.length;
  const sums = columns.take(runs.length * evens);
  const differences = columns.take(runs.length * pairs);
  const paired = (to: number, size: number) =>
    runs.map(({ from }, i) => ({
      from: from + first,
      step: -1,
      count: pairs,
      to: to + i * size,
      other: from + middle2 - first,
    }));
  columns.add({ kind: "add", runs: paired(sums + first, evens), vector: Float32Array.of(1) });
  columns.add({ kind: "add", runs: paired(differences, pairs), vector: Float32Array.of(-1) });
  const alone = [...(first > 0 ? [0] : []), ...middles];
  const kept = runs.flatMap(({ from }, i) =>
    alone.map((at) => ({ from: from + at, count: 1, to: sums + i * evens + at })),
  );
  if (kept.length > 0) columns.add({ kind: "move", runs: kept });

  const order = new Array<number>(width);
  const half = (chosen: readonly number[], sign: 1 | -1, from: number, begin: number, size: number) => {
    if (chosen.length === 0) return;
    const behind = sign === 1 ? 0 : evenColumns.length;
    const part = new Float32Array(size * chosen.length);
    for (let row = 0; row < size; row++) {
      const [one, other] = [begin + row, middle2 - begin - row];
      chosen.forEach((column, at) => {
        const value = values[one * width + column]!;
        const isPaired = one >= first && one < other;
        const mirrored = isPaired ? sign * values[other * width + column]! : value;
        part[row * chosen.length + at] = either(value, mirrored);
      });
    }
    const inner = halved(columns, {
      runs: runs.map(({ to }, i) => ({ from: from + i * size, count: size, to: to + behind, other: 0 })),
      matrix: { depth: size, width: chosen.length, values: part },
      vector: Float32Array.from(chosen, (column) => vector[column]!),
    });
    chosen.forEach((column, at) => {
      order[column] = behind + inner[at]!;
    });
  };
  const all = Array.from({ length: width }, (_, column) => column);
  const evenColumns = all.filter((column) => isEven[column]);
  half(evenColumns, 1, sums, 0, evens);
  half(
    all.filter((column) => !isEven[column]),
    -1,
    differences,
    first,
    pairs,
  );
  return order;
}

/** Of two that are meant to be the same. */
function either(a: number, b: number): number {
  if (Number.isNaN(a)) return b;
  return Number.isNaN(b) ? a : (a + b) / 2;
}

/** About which middle, doubled so that it is a whole number, all columns are even or odd, and which are even. */
function symmetryOf({ depth, width, values }: Matrix): { middle2: number; isEven: boolean[] } | undefined {
  const most = values.reduce((most, value) => Math.max(most, Math.abs(value) || 0), 0);
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
