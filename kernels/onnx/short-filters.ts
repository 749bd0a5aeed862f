import type { Operation } from "../native/program.ts";
import type { RowColumns, Term } from "./row-columns.ts";

/** A convolution of three taps and stride 1 whose places lie side by side. */
export interface ShortFilters {
  /** First column of the first place; each place has `channels` of them. */
  readonly from: number;
  readonly length: number;
  readonly channels: number;
  /** Places of zeros before the first. */
  readonly before: number;
  /** First column of the first place that is made; each has as many as the matrix is wide. */
  readonly to: number;
  readonly count: number;
  /** `[3 * channels, filters]`. */
  readonly matrix: NonNullable<Operation["matrix"]>;
  readonly bias: Float32Array;
}

/**
 * Adds a convolution of three taps with the fewest multiplications: four places from six that come in, by six products in place of
 * twelve (Winograd's F(4, 3); A. Lavin and S. Gray, Fast Algorithms for Convolutional Neural Networks, 2015). Answers whether it does
 * so, which is where that saves a fifth of the products at least: those with zeros beside the ends are left out either way.
 */
export function shortFilters(columns: RowColumns, given: ShortFilters): boolean {
  const { from, length, channels, before, to, count, matrix, bias } = given;
  const filters = matrix.width;
  const isThere = (place: number) => place >= 0 && place < length;
  const tiles = Array.from({ length: Math.ceil(count / 4) }, (_, tile) => 4 * tile);
  const direct = Array.from({ length: 3 * count }, (_, i) => Math.floor(i / 3) + (i % 3) - before);
  const isWorth = tiles.length * PRODUCTS <= 0.8 * direct.filter(isThere).length;
  // Then the products that every place needs have something to multiply.
  const hasMiddle = tiles.every((tile) => [1, 2, 3, 4].some((i) => isThere(tile + i - before)));
  if (!isWorth || !hasMiddle) return false;
  for (const tile of tiles) {
    const places = Array.from({ length: 6 }, (_, i): Sum => {
      const place = tile + i - before;
      return isThere(place) ? { factor: 1, from: from + place * channels } : undefined;
    });
    const made = inputs(new Sums(columns, channels), places).map((source, at): Sum => {
      if (!source) return undefined;
      const product = columns.take(filters);
      columns.add({
        kind: "dense",
        runs: [{ from: source.from, count: channels, to: product }],
        matrix: mixed(given, TAPS[at]!, source.factor),
        vector: at === UNSCALED ? bias : new Float32Array(filters),
      });
      return { factor: 1, from: product };
    });
    const rest = Array.from({ length: Math.min(4, count - tile) }, (_, i) => to + (tile + i) * filters);
    outputs(new Sums(columns, filters), made, rest);
  }
  return true;
}

/** Columns times a factor; undefined where all are 0. */
type Sum = Term | undefined;

/** Sums of as many columns each. */
class Sums {
  readonly #columns: RowColumns;
  readonly #count: number;

  constructor(columns: RowColumns, count: number) {
    this.#columns = columns;
    this.#count = count;
  }

  /** `a` plus `factor` times `b`, in new columns or in those from `to` on. */
  plus(a: Sum, factor: number, b: Sum, to?: number): Sum {
    const scaled = b && { factor: factor * b.factor, from: b.from };
    if (!a || !scaled) return a ?? scaled;
    const at = to ?? this.#columns.take(this.#count);
    this.#columns.sum(this.#count, at, a.from, { ...scaled, factor: scaled.factor / a.factor });
    return { factor: a.factor, from: at };
  }
}

/** What the six products multiply, of six places. */
function inputs(sums: Sums, [d0, d1, d2, d3, d4, d5]: readonly Sum[]): Sum[] {
  const [p, q] = [sums.plus(d4, -4, d2), sums.plus(d3, -4, d1)];
  const [r, s] = [sums.plus(d4, -1, d2), sums.plus(d3, -1, d1)];
  return [
    sums.plus(sums.plus(d4, -5, d2), 4, d0),
    sums.plus(p, 1, q),
    sums.plus(p, -1, q),
    sums.plus(r, 2, s),
    sums.plus(r, -2, s),
    sums.plus(sums.plus(d5, -5, d3), 4, d1),
  ];
}

/** Up to four places of what the products give. */
function outputs(sums: Sums, [m0, m1, m2, m3, m4, m5]: readonly Sum[], to: readonly number[]): void {
  const [s, d] = [sums.plus(m1, 1, m2), sums.plus(m1, -1, m2)];
  const [e, f] = [sums.plus(m3, 1, m4), sums.plus(m3, -1, m4)];
  const [y0, y1, y2, y3] = to;
  if (y0 !== undefined) sums.plus(sums.plus(s, 1, e, y0), 1, m0, y0);
  if (y1 !== undefined) sums.plus(d, 2, f, y1);
  if (y2 !== undefined) sums.plus(s, 4, e, y2);
  if (y3 !== undefined) sums.plus(sums.plus(d, 8, f, y3), 1, m5, y3);
}

const PRODUCTS = 6;
/** What each product multiplies with, of the three taps. */
const TAPS = [
  [1 / 4, 0, 0],
  [-1 / 6, -1 / 6, -1 / 6],
  [-1 / 6, 1 / 6, -1 / 6],
  [1 / 24, 1 / 12, 1 / 6],
  [1 / 24, -1 / 12, 1 / 6],
  [0, 0, 1],
];
/** The product that goes once into every place, and so carries the bias. */
const UNSCALED = 1;

/** The taps' weights in one matrix `[channels, filters]`, all times `scale`. */
function mixed({ matrix, channels }: ShortFilters, taps: readonly number[], scale: number) {
  const { width, values } = matrix;
  const size = channels * width;
  const mix = Float32Array.from(
    { length: size },
    (_, i) => scale * taps.reduce((sum, factor, tap) => sum + factor * values[tap * size + i]!, 0),
  );
  return { depth: channels, width, values: mix };
}
