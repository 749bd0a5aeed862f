import type { Recurrence } from "./recurrence-node.ts";
import { summed } from "./recurrence-node.ts";
import type { RowColumns, RowValue } from "./row-columns.ts";
import { turned } from "./row-products.ts";

/** What a node gives after one step: all outputs, the last state, and of an LSTM the last cell state. */
type Outputs = RowValue[];

export interface Given {
  readonly x: RowValue;
  readonly h: RowValue;
  /** Of an LSTM. */
  readonly c: RowValue | undefined;
}

/** One step of a recurrence. Undefined where what it is given is more than one step of one row. */
export function step(columns: RowColumns, of: Recurrence, given: Given): Outputs | undefined {
  const isOneRow = given.x.places.length === of.input && given.h.places.length === of.size;
  if (!isOneRow || given.x.dims[0] !== 1) return undefined;
  return of.kind === "LSTM" ? lstm(columns, of, given) : gru(columns, of, given);
}

function lstm(columns: RowColumns, of: Recurrence, { x, h, c }: Given): Outputs | undefined {
  const { size, input } = of;
  if (c?.places.length !== size) return undefined;
  const width = 4 * size;
  const gates = columns.take(width);
  const bias = summed(of.inputBias, of.stateBias);
  product(columns, x, gates, turned(of.inputWeights, width, input), width, bias);
  product(columns, h, gates, turned(of.stateWeights, width, size), width);
  const next = columns.take(2 * size);
  columns.add({
    kind: "lstmGates",
    runs: [{ from: gates, count: size, to: next, other: columns.sideBySide(c.places) }],
  });
  return outputs(part(next, size).places, part(next + size, size).places);
}

function gru(columns: RowColumns, of: Recurrence, { x, h }: Given): Outputs {
  const { size, input, stateWeights, stateBias, inputBias, resetsProduct } = of;
  const width = 3 * size;
  const gates = columns.take(width);
  // What the candidate adds of its state is reset first, with or without the bias.
  const added = summed(inputBias, stateBias);
  if (resetsProduct) added.set(inputBias.subarray(2 * size), 2 * size);
  product(columns, x, gates, turned(of.inputWeights, width, input), width, added);
  const early = stateWeights.subarray(0, 2 * size * size);
  product(columns, h, gates, turned(early, 2 * size, size), 2 * size);
  const opened = columns.each("sigmoid", part(gates, 2 * size));
  const [z, r] = [0, size].map((at) => ({ dims: [size], places: opened.places.slice(at, at + size) }));
  const late = turned(stateWeights.subarray(2 * size * size), size, size);
  let candidate = part(gates + 2 * size, size);
  if (resetsProduct) {
    const to = columns.take(size);
    product(columns, h, to, late, size, stateBias.slice(2 * size));
    candidate = columns.each("add", candidate, columns.each("multiply", r!, part(to, size)), ONE);
  } else product(columns, columns.each("multiply", r!, h), gates + 2 * size, late, size);
  const n = columns.each("tanh", candidate);
  const kept = columns.each("multiply", z!, columns.each("add", h, n, MINUS_ONE));
  return outputs(columns.each("add", n, kept, ONE).places);
}

const ONE = Float32Array.of(1);
const MINUS_ONE = Float32Array.of(-1);

/** Adds `value` times a matrix `[its length, width]` to `bias`, or to what is in the columns where there is none. */
function product(
  columns: RowColumns,
  { places }: RowValue,
  to: number,
  values: Float32Array,
  width: number,
  bias?: Float32Array,
): void {
  const depth = places.length;
  columns.add({
    kind: "dense",
    runs: [{ from: columns.sideBySide(places), count: depth, to }],
    matrix: { depth, width, values },
    ...(bias ? { vector: bias } : {}),
  });
}

function part(first: number, count: number): RowValue {
  return { dims: [count], places: Array.from({ length: count }, (_, i) => first + i) };
}

function outputs(h: readonly number[], c?: readonly number[]): Outputs {
  const size = h.length;
  const all = [
    { dims: [1, 1, 1, size], places: h },
    { dims: [1, 1, size], places: h },
  ];
  return c ? [...all, { dims: [1, 1, size], places: c }] : all;
}
