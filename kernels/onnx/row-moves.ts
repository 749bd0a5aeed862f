import type { Rule } from "./row-call.ts";
import type { RowValue } from "./row-columns.ts";
import {
  joined,
  type Moved,
  picked,
  reflected,
  reshaped,
  sizeOfAll,
  sliceOf,
  transposed,
} from "./row-values.ts";

/** Operators that only move elements: they become places, and nothing is executed. */
export const moves: Readonly<Record<string, Rule>> = {
  Identity: ({ value }) => [value(0)],

  Transpose: ({ value, of }) => {
    const { dims } = value(0);
    const reversed = dims.map((_, axis) => dims.length - 1 - axis);
    return [moved(value(0), transposed(dims, of.ints("perm") ?? reversed))];
  },

  Reshape: ({ value, numbers }) => like(value(0), reshaped(value(0).dims, numbers(1))),

  Flatten: ({ value, of }) => {
    const { dims } = value(0);
    const axis = axisOf(of.int("axis") ?? 1, dims.length);
    return like(value(0), [sizeOfAll(dims.slice(0, axis)), sizeOfAll(dims.slice(axis))]);
  },

  Squeeze: ({ value, of, numbers }) => {
    const { dims } = value(0);
    const single = dims.flatMap((size, axis) => (size === 1 ? [axis] : []));
    const axes = of.ints("axes") ?? numbers(1, single);
    return like(value(0), without(dims, axes));
  },

  Unsqueeze: ({ value, of, numbers }) => {
    const { dims } = value(0);
    const axes = of.ints("axes") ?? numbers(1);
    const rank = dims.length + axes.length;
    const added = axes.map((axis) => axisOf(axis, rank)).sort((a, b) => a - b);
    return like(
      value(0),
      added.reduce((all, axis) => all.toSpliced(axis, 0, 1), [...dims]),
    );
  },

  // Over axes of length 1 a mean is what it is of.
  ReduceMean: ({ value, of, numbers }) => {
    const { dims } = value(0);
    const axes = of.ints("axes") ?? numbers(1);
    if (axes.some((axis) => dims[axisOf(axis, dims.length)] !== 1)) return undefined;
    return like(value(0), of.int("keepdims") === 0 ? without(dims, axes) : dims);
  },

  Concat: ({ node, value, of }) => {
    const parts = node.input!.map((_, i) => value(i));
    const axis = axisOf(of.int("axis") ?? 0, parts[0]!.dims.length);
    const all = joined(
      parts.map(({ dims }) => dims),
      axis,
    );
    return [moved({ dims: all.dims, places: parts.flatMap(({ places }) => places) }, all)];
  },

  Gather: ({ node, value, of, constant }) => {
    const { dims } = value(0);
    const at = constant(node.input![1]);
    if (!at || at.dims.length > 1) return undefined;
    const axis = axisOf(of.int("axis") ?? 0, dims.length);
    const indices = [...at.values].map((index) => axisOf(index, dims[axis]!));
    if (indices.some((index) => index < 0 || index >= dims[axis]!)) return undefined;
    return [moved(value(0), picked(dims, axis, indices, at.dims.length === 0 ? "nothing" : "axis"))];
  },

  Slice: ({ value, numbers }) => {
    const [starts, ends] = [numbers(1), numbers(2)];
    const axes = numbers(
      3,
      starts.map((_, i) => i),
    );
    const steps = numbers(
      4,
      starts.map(() => 1),
    );
    return alongAxes(value(0), axes, (length, i) => sliceOf(length, starts[i]!, ends[i]!, steps[i]!));
  },

  Split: ({ node, value, of, numbers }) => {
    const { dims } = value(0);
    const axis = axisOf(of.int("axis") ?? 0, dims.length);
    const count = node.output!.length;
    const lengths = numbers(1, new Array<number>(count).fill(dims[axis]! / count));
    return lengths.map((length, i) => {
      const begin = lengths.slice(0, i).reduce((a, b) => a + b, 0);
      const indices = Array.from({ length }, (_, at) => begin + at);
      return moved(value(0), picked(dims, axis, indices, "axis"));
    });
  },

  Pad: ({ value, of, numbers }) => {
    if (of.text("mode") !== "reflect") return undefined;
    const pads = numbers(1);
    const axes = value(0).dims.map((_, axis) => axis);
    return alongAxes(value(0), axes, (length, axis) =>
      reflected(length, pads[axis]!, pads[axis + axes.length]!),
    );
  },
};

/** Picks indices of one axis after the other; undefined where one has none. */
function alongAxes(
  value: RowValue,
  axes: readonly number[],
  indicesOf: (length: number, i: number) => readonly number[] | undefined,
): RowValue[] | undefined {
  let present = value;
  for (const [i, given] of axes.entries()) {
    const axis = axisOf(given, present.dims.length);
    const indices = indicesOf(present.dims[axis]!, i);
    if (!indices) return undefined;
    present = moved(present, picked(present.dims, axis, indices, "axis"));
  }
  return [present];
}

function axisOf(axis: number, rank: number): number {
  return axis < 0 ? axis + rank : axis;
}

function without(dims: readonly number[], axes: readonly number[]): number[] {
  const out = new Set(axes.map((axis) => axisOf(axis, dims.length)));
  return dims.filter((_, axis) => !out.has(axis));
}

function like({ places }: RowValue, dims: readonly number[] | undefined): RowValue[] | undefined {
  return dims && [{ dims, places }];
}

function moved({ places }: RowValue, { dims, from }: Moved): RowValue {
  return { dims, places: from.map((at) => places[at]!) };
}
