import type onnxProto from "onnx-proto";
import type { Run } from "../native/program.ts";
import { evenOdd } from "./even-odd.ts";
import type { RowColumns, RowValue } from "./row-columns.ts";
import { sizeOfAll } from "./row-values.ts";
import { shortFilters } from "./short-filters.ts";
import { type Constant, decoded } from "./tensors.ts";

type Node = onnxProto.onnx.INodeProto;
type Constants = (name: string | undefined) => Constant | undefined;

/** A row-major matrix `[depth, width]`. */
export interface Weights {
  readonly depth: number;
  readonly width: number;
  readonly values: Float32Array;
}

/** A Gemm or MatMul with constant weights over the last axis. Undefined where it is none of the plain kind. */
export function multiply(
  columns: RowColumns,
  node: Node,
  { dims, places }: RowValue,
  weights: Constant,
  bias: Constant | undefined,
): RowValue | undefined {
  const of = decoded(node);
  const isScaled = [of.float("alpha"), of.float("beta")].some(
    (factor) => factor !== undefined && factor !== 1,
  );
  if (weights.dims.length !== 2 || isScaled || of.int("transA")) return undefined;
  const isTurned = of.int("transB") === 1;
  const [depth, width] = isTurned ? weights.dims.toReversed() : weights.dims;
  if (dims.at(-1) !== depth || (bias && sizeOfAll(bias.dims) !== width)) return undefined;
  const given = Float32Array.from(weights.values);
  const matrix: Weights = {
    depth: depth!,
    width: width!,
    values: isTurned ? turned(given, width!, depth!) : given,
  };
  const count = sizeOfAll(dims) / depth!;
  const from = Array.from({ length: count }, (_, i) =>
    columns.sideBySide(places.slice(i * depth!, (i + 1) * depth!)),
  );
  const to = columns.take(count * width!);
  columns.add({
    kind: "dense",
    runs: from.map((first, i) => ({ from: first, count: depth!, to: to + i * width!, other: 0 })),
    matrix,
    vector: Float32Array.from(bias?.values ?? new Float32Array(width!)),
  });
  return { dims: dims.with(-1, width!), places: Array.from({ length: count * width! }, (_, i) => to + i) };
}

/**
 * A convolution over one axis as a product for each of its places, with as many rows of one matrix as have values there. What comes
 * out lies place by place, so that the windows of the next one are side by side. Undefined for groups, and where padding is all there is.
 */
export function convolve(
  columns: RowColumns,
  node: Node,
  { dims, places }: RowValue,
  constant: Constants,
): RowValue | undefined {
  const of = decoded(node);
  const [weights, bias] = [constant(node.input![1]), constant(node.input![2])];
  const pad = of.text("auto_pad") ?? "NOTSET";
  if (weights?.dims.length !== 3 || dims.length !== 3 || dims[0] !== 1 || pad !== "NOTSET") return undefined;
  if ((of.int("group") ?? 1) !== 1 || (node.input![2] && !bias)) return undefined;
  const [filters, channels, taps] = weights.dims as [number, number, number];
  const length = dims[2]!;
  const [stride, dilation] = [of.ints("strides")?.[0] ?? 1, of.ints("dilations")?.[0] ?? 1];
  const [before, behind] = of.ints("pads") ?? [0, 0];
  const count = Math.floor((length + before! + behind! - dilation * (taps - 1) - 1) / stride) + 1;
  // As channels lie, so do the weights: what comes from a convolution or a function of each value is not moved.
  const order = Array.from({ length: channels }, (_, channel) => channel).sort(
    (a, b) => places[a * length]! - places[b * length]!,
  );
  const matrix = byTap(weights, filters, taps, order);
  const from = columns.sideBySide(
    Array.from({ length: length * channels }, (_, i) => {
      return places[order[i % channels]! * length + Math.floor(i / channels)]!;
    }),
  );
  const to = columns.take(count * filters);
  const added = Float32Array.from(bias?.values ?? new Float32Array(filters));
  const made = (placeOf?: readonly number[]): RowValue => ({
    dims: [1, filters, count],
    places: Array.from({ length: filters * count }, (_, i) => {
      const filter = Math.floor(i / count);
      return to + (i % count) * filters + (placeOf?.[filter] ?? filter);
    }),
  });
  const short = { from, length, channels, before: before!, to, count, matrix, bias: added };
  if (taps === 3 && stride === 1 && dilation === 1 && shortFilters(columns, short)) return made();
  const runs: Run[] = [];
  for (let at = 0; at < count; at++) {
    const inside = Array.from({ length: taps }, (_, tap) => tap).filter((tap) => {
      const place = at * stride + tap * dilation - before!;
      return place >= 0 && place < length;
    });
    if (inside.length === 0 || dilation !== 1) return undefined;
    const first = at * stride + inside[0]! - before!;
    const depth = inside.length * channels;
    runs.push({
      from: from + first * channels,
      count: depth,
      to: to + at * filters,
      other: inside[0]! * channels,
    });
  }
  return made(evenOdd(columns, { runs, matrix, vector: added }));
}

/** Filters `[filters, channels, taps]` as a matrix `[taps * channels, filters]`, the channels in this order. */
function byTap({ values }: Constant, filters: number, taps: number, order: readonly number[]): Weights {
  const channels = order.length;
  const matrix = new Float32Array(values.length);
  for (let filter = 0; filter < filters; filter++)
    order.forEach((channel, at) => {
      for (let tap = 0; tap < taps; tap++)
        matrix[(tap * channels + at) * filters + filter] =
          values[(filter * channels + channel) * taps + tap]!;
    });
  return { depth: taps * channels, width: filters, values: matrix };
}

/** A row-major matrix turned over. */
export function turned(values: Float32Array, rows: number, columns: number): Float32Array {
  const to = new Float32Array(values.length);
  for (let row = 0; row < rows; row++)
    for (let column = 0; column < columns; column++)
      to[column * rows + row] = values[row * columns + column]!;
  return to;
}
