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
  if (!isWorth) return false;
  for (const tile of tiles) {
    const made: (number | undefined)[] = INPUTS.map((factors, at) => {
      const terms = factors.flatMap((factor, i): Term[] => {
        const place = tile + i - before;
        return factor !== 0 && isThere(place) ? [{ factor, from: from + place * channels }] : [];
      });
      const [lead, ...others] = terms;
      if (!lead) return undefined;
      let source = lead.from;
      if (others.length > 0) {
        source = columns.take(channels);
        const relative = others.map((one) => ({ ...one, factor: one.factor / lead.factor }));
        columns.sum(channels, source, [{ ...lead, factor: 1 }, ...relative]);
      }
      const product = columns.take(filters);
      columns.add({
        kind: "dense",
        runs: [{ from: source, count: channels, to: product }],
        matrix: mixed(given, TAPS[at]!, lead.factor),
        vector: at === UNSCALED ? bias : new Float32Array(filters),
      });
      return product;
    });
    OUTPUTS.slice(0, count - tile).forEach((factors, i) => {
      const terms = factors.flatMap((factor, at): Term[] =>
        factor !== 0 && made[at] !== undefined ? [{ factor, from: made[at] }] : [],
      );
      const first = terms.find((one) => one.from === made[UNSCALED])!;
      columns.sum(filters, to + (tile + i) * filters, [first, ...terms.filter((one) => one !== first)]);
    });
  }
  return true;
}

const PRODUCTS = 6;
/** What goes into each product of the six places. */
const INPUTS = [
  [4, 0, -5, 0, 1, 0],
  [0, -4, -4, 1, 1, 0],
  [0, 4, -4, -1, 1, 0],
  [0, -2, -1, 2, 1, 0],
  [0, 2, -1, -2, 1, 0],
  [0, 4, 0, -5, 0, 1],
];
/** What each product multiplies with, of the three taps. */
const TAPS = [
  [1 / 4, 0, 0],
  [-1 / 6, -1 / 6, -1 / 6],
  [-1 / 6, 1 / 6, -1 / 6],
  [1 / 24, 1 / 12, 1 / 6],
  [1 / 24, -1 / 12, 1 / 6],
  [0, 0, 1],
];
/** What goes into each of the four places of the products. */
const OUTPUTS = [
  [1, 1, 1, 1, 1, 0],
  [0, 1, -1, 2, -2, 0],
  [0, 1, 1, 4, 4, 0],
  [0, 1, -1, 8, -8, 1],
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
