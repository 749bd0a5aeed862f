import { type Axis, axisOf, isLabel, lengthsOf, reshaped, rowAxis, type Size, sayAxes } from "./axes.ts";
import {
  type Collecting,
  collect,
  concat,
  constantOf,
  type Expression,
  integers,
  node,
  reshape,
  rowAxes,
  slice,
  transpose,
} from "./expression.ts";
import { Uncuttable } from "./faults.ts";
import { expandConstant, filled } from "./fold.ts";
import { readTensor } from "./tensor.ts";
import {
  type Call,
  constantAt,
  integersAt,
  type Rule,
  sizesAt,
  type Traced,
  tensorAt,
  traced,
} from "./values.ts";

/** Operators that move values and do not change them. */
export const shapeRules: Readonly<Record<string, Rule>> = {
  Reshape: (call) => [reshapeTo(tensorAt(call, 0), wantedSizes(call, 1), call)],
  Flatten: (call) => {
    const x = tensorAt(call, 0);
    const at = call.node.attributes.int("axis", 1);
    const axis = at === x.axes.length ? at : axisOf(at, x.axes.length);
    const count = (axes: readonly Axis[]): Size =>
      axes.every((one) => !isLabel(one)) ? lengthsOf(axes).reduce((a, b) => a * b, 1) : -1;
    return [reshapeTo(x, [count(x.axes.slice(0, axis)), count(x.axes.slice(axis))], call)];
  },
  Squeeze: (call) => {
    const x = tensorAt(call, 0);
    const given = call.node.attributes.ints("axes") ?? integersAt(call, 1);
    const axes = given?.map((axis) => axisOf(axis, x.axes.length));
    const isOne = (axis: Axis) => axis === 1 || (axis === "batch" && call.fixed.batch === 1);
    const dropped = (axis: Axis, i: number) => (axes ? axes.includes(i) : isOne(axis));
    const wrong = x.axes.find((axis, i) => dropped(axis, i) && !isOne(axis));
    if (wrong !== undefined) throw new Uncuttable(`removes axis ${wrong} of ${sayAxes(x.axes)}`);
    return [
      relabel(
        x,
        x.axes.filter((axis, i) => !dropped(axis, i)),
      ),
    ];
  },
  Unsqueeze: (call) => {
    const x = tensorAt(call, 0);
    const given = call.node.attributes.ints("axes") ?? integersAt(call, 1) ?? [];
    const rank = x.axes.length + given.length;
    const added = new Set(given.map((axis) => axisOf(axis, rank)));
    let from = 0;
    return [
      relabel(
        x,
        Array.from({ length: rank }, (_, i) => (added.has(i) ? 1 : x.axes[from++]!)),
      ),
    ];
  },
  Transpose: (call) => {
    const x = tensorAt(call, 0);
    const rank = x.axes.length;
    const perm = call.node.attributes.ints("perm") ?? x.axes.map((_, i) => rank - 1 - i);
    if (perm.toSorted((a, b) => a - b).some((axis, i) => axis !== i) || perm.length !== rank) {
      throw new Uncuttable(`orders ${rank} axes as [${perm.join(", ")}]`);
    }
    const axes = perm.map((axis) => x.axes[axis]!);
    const moved = perm.filter((axis) => !isLabel(x.axes[axis])).map((axis) => rowAxis(x.axes, axis));
    return [traced(axes, transpose(x.expression, moved))];
  },
  Concat: (call) => {
    const parts = call.inputs.map((_, i) => tensorAt(call, i));
    const axis = axisOf(call.node.attributes.int("axis", 0), parts[0]!.axes.length);
    return [concatAlong(parts, axis)];
  },
  Split: (call) => {
    const x = tensorAt(call, 0);
    const axis = ownAxis(x, call.node.attributes.int("axis", 0), "splits");
    const length = x.axes[axis] as number;
    const count = call.node.outputs.length;
    const given = call.node.attributes.ints("split") ?? integersAt(call, 1);
    const even = Math.ceil(length / count);
    const parts = given ?? Array.from({ length: count }, (_, i) => Math.min(even, length - i * even));
    if (
      parts.reduce((a, b) => a + b, 0) !== length ||
      parts.some((part) => part <= 0) ||
      parts.length !== count
    ) {
      throw new Uncuttable(`splits ${length} values into ${parts.join(", ")}`);
    }
    let start = 0;
    return parts.map((size) => {
      start += size;
      return sliceOf(x, axis, start - size, size, 1);
    });
  },
  Slice: (call) => {
    const x = tensorAt(call, 0);
    const { attributes } = call.node;
    const starts = attributes.has("starts") ? attributes.ints("starts")! : wantedSizes(call, 1);
    const ends = attributes.has("ends") ? attributes.ints("ends")! : wantedSizes(call, 2);
    const axes = attributes.ints("axes") ?? integersAt(call, 3) ?? starts.map((_, i) => i);
    const steps = integersAt(call, 4) ?? starts.map(() => 1);
    let value = x;
    axes.forEach((axis, i) => {
      value = sliceAlong(
        value,
        axisOf(axis, x.axes.length),
        { start: starts[i]!, end: ends[i]!, step: steps[i]! },
        call,
      );
    });
    return [value];
  },
  Gather: gather,
  Expand: (call) => {
    const x = tensorAt(call, 0);
    const wanted = wantedSizes(call, 1);
    const rank = Math.max(wanted.length, x.axes.length);
    const axes = Array.from({ length: rank }, (_, i): Axis => {
      const own = x.axes[i - rank + x.axes.length] ?? 1;
      const size = wanted[i - rank + wanted.length] ?? 1;
      if (size === 1 || size === own) return own;
      if (typeof size === "number") return own === 1 ? size : refuseExpand(own, size);
      if (size.plus !== 0 || (own !== 1 && own !== size.label)) return refuseExpand(own, size.label);
      return size.label;
    });
    return [expand(x, axes)];
  },
  ConstantOfShape: (call) => {
    const axes = wantedSizes(call, 0).map((size): Axis => {
      if (typeof size === "number") return size;
      if (size.plus !== 0) throw new Uncuttable("has one axis for more or fewer steps than there are");
      return size.label;
    });
    const stored = call.node.attributes.get("value")?.t;
    const value = stored ? readTensor(stored) : undefined;
    return [traced(axes, constantOf(filled(value?.type ?? "float32", lengthsOf(axes), value?.data[0] ?? 0)))];
  },
  Constant: ({ node: { attributes } }) => {
    const stored = attributes.get("value")?.t;
    const tensor = stored ? readTensor(stored) : undefined;
    if (tensor) return [traced(tensor.dims, constantOf(tensor))];
    for (const [name, values, dims] of [
      ["value_float", [attributes.float("value_float", 0)], []],
      ["value_floats", attributes.floats("value_floats"), undefined],
    ] as const) {
      if (!attributes.has(name)) continue;
      const shape = dims ?? [values.length];
      return [traced(shape, constantOf({ type: "float32", dims: shape, data: Float32Array.from(values) }))];
    }
    if (attributes.has("value_ints")) {
      const list = integers(attributes.ints("value_ints")!);
      return [traced(list.dims, list)];
    }
    if (attributes.has("value_int")) {
      return [traced([], reshape(integers([attributes.int("value_int", 0)]), []))];
    }
    throw new Uncuttable("holds a value of a type that cells do not compute with");
  },
};

/** A reshape that keeps the labelled axes. */
function reshapeTo(x: Traced, wanted: readonly Size[], { fixed }: Call): Traced {
  const axes = reshaped(x.axes, wanted, fixed);
  if (axes) return relabel(x, axes);
  const to = wanted.map((size) => (typeof size === "number" ? size : size.label));
  throw new Uncuttable(
    `reshapes ${sayAxes(x.axes)} to ${sayAxes(to)}, which mixes steps or rows with other axes`,
  );
}

/** The same values under other axes. */
function relabel(x: Traced, axes: readonly Axis[]): Traced {
  return traced(axes, reshape(x.expression, lengthsOf(axes)));
}

/** Tensors one after the other along an axis of each row. */
function concatAlong(parts: readonly Traced[], axis: number): Traced {
  const first = parts[0]!;
  if (parts.some(({ axes }) => isLabel(axes[axis]))) throw new Uncuttable("joins along steps or rows");
  const total = parts.reduce((sum, { axes }) => sum + ((axes[axis] as number | undefined) ?? 0), 0);
  const labels = first.axes.map((_, i) => parts.map(({ axes }) => axes[i]!).find(isLabel));
  const axes = first.axes.map((own, i): Axis => (i === axis ? total : (labels[i] ?? own)));
  const aligned = parts.map((part) => {
    const wanted = axes.map((own, i) => (i === axis ? part.axes[axis]! : own));
    if (part.axes.length !== axes.length || part.axes.some((own, i) => own !== wanted[i] && own !== 1)) {
      throw new Uncuttable(`joins ${sayAxes(part.axes)} with ${sayAxes(first.axes)}`);
    }
    return relabel(expand(part, wanted), wanted).expression;
  });
  return traced(axes, concat(aligned, rowAxis(axes, axis)));
}

function wantedSizes(call: Call, index: number): readonly Size[] {
  const wanted = sizesAt(call, index);
  if (!wanted) throw new Uncuttable("takes a shape that is not known before it runs");
  return wanted;
}

function ownAxis({ axes }: Traced, axis: number, does: string): number {
  const at = axisOf(axis, axes.length);
  if (!isLabel(axes[at])) return at;
  throw new Uncuttable(`${does} the axis of ${axes[at] === "batch" ? "rows" : "steps"}`);
}

function sliceOf(x: Traced, axis: number, start: number, size: number, step: number): Traced {
  const own = slice(x.expression, rowAxis(x.axes, axis), start, size, step);
  return traced(x.axes.with(axis, size), own);
}

function sliceAlong(
  x: Traced,
  axis: number,
  { start, end, step }: { readonly start: Size; readonly end: Size; readonly step: number },
  { fixed }: Call,
): Traced {
  const own = x.axes[axis]!;
  if (isLabel(own)) {
    const from = stepOf(start, own, fixed[own]);
    const to = stepOf(end, own, fixed[own]);
    if (step !== 1) throw new Uncuttable(`takes ${own} in steps of ${step}`);
    if (from === "first" && to === "end") return x;
    if (own === "time" && from === "last" && to === "end") return atStep(x, axis, "end", true);
    if (own === "time" && from === "first" && to === "second") return atStep(x, axis, "start", true);
    throw new Uncuttable(`takes some of ${own === "batch" ? "the rows" : "the steps"}`);
  }
  if (typeof start !== "number" || typeof end !== "number" || step === 0) {
    throw new Uncuttable("takes a part that is not known before it runs");
  }
  const clamp = (at: number) =>
    Math.min(step > 0 ? own : own - 1, Math.max(step > 0 ? 0 : -1, at < 0 ? at + own : at));
  const size = Math.ceil((clamp(end) - clamp(start)) / step);
  if (size <= 0) throw new Uncuttable("takes no values");
  return sliceOf(x, axis, clamp(start), size, step);
}

/** Which step a bound of a slice names. */
function stepOf(
  at: Size,
  label: Axis,
  length: number | undefined,
): "first" | "second" | "last" | "end" | undefined {
  if (typeof at !== "number") {
    if (at.label !== label) return undefined;
    return at.plus === 0 ? "end" : at.plus === -1 ? "last" : undefined;
  }
  if (at === 0) return "first";
  if (at === -1 || (length !== undefined && at === length - 1)) return "last";
  if (at === length || at >= 2 ** 31 - 1) return "end";
  return at === 1 ? "second" : undefined;
}

/** The value of one step. */
function atStep(x: Traced, axis: number, how: Collecting, isKept: boolean): Traced {
  const axes = isKept ? x.axes.with(axis, 1) : x.axes.toSpliced(axis, 1);
  return traced(axes, reshape(collect(x.expression, how), lengthsOf(axes)));
}

/** A value of the whole sequence: `mean` or `max` over the steps. */
export function overSteps(x: Traced, axis: number, how: "mean" | "max", isKept: boolean): Traced {
  return atStep(x, axis, how, isKept);
}

/** Rows of a constant by number (an embedding), or some values of an axis. */
function gather(call: Call): readonly Traced[] {
  const x = tensorAt(call, 0);
  const axis = axisOf(call.node.attributes.int("axis", 0), x.axes.length);
  const own = x.axes[axis]!;
  const indices = call.inputs[1];
  const known = sizesAt(call, 1);
  if (known && indices && known.length > 0) {
    const isScalar =
      indices.kind === "sizes" ? indices.isScalar : indices.kind === "tensor" && indices.axes.length === 0;
    if (isLabel(own)) return [gatherLabel(x, axis, known, isScalar, call)];
    const at = known.map((index) => {
      if (typeof index !== "number") throw new Uncuttable("takes a value that is not known before it runs");
      return axisOf(index, own);
    });
    const parts = at.map((index) => sliceOf(x, axis, index, 1, 1));
    const all = isAscending(at) ? sliceOf(x, axis, at[0]!, at.length, 1) : concatAlong(parts, axis);
    return [isScalar ? relabel(all, x.axes.toSpliced(axis, 1)) : all];
  }
  const rows = tensorAt(call, 1);
  const table = constantAt(call, 0);
  if (axis !== 0) throw new Uncuttable("looks up along an axis other than the first");
  const axes = [...rows.axes, ...x.axes.slice(1)];
  const dims = [...rows.expression.dims, ...table.dims.slice(1)];
  return [traced(axes, node("Gather", [table, rows.expression], { type: table.type, dims }, { axis: 0 }))];
}

function gatherLabel(
  x: Traced,
  axis: number,
  known: readonly Size[],
  isScalar: boolean,
  { fixed }: Call,
): Traced {
  const own = x.axes[axis]!;
  const at = known.length === 1 ? stepOf(known[0]!, own, fixed[own as "time"]) : undefined;
  if (own === "batch" && fixed.batch === 1 && (at === "first" || at === "last")) {
    return isScalar ? relabel(x, x.axes.toSpliced(axis, 1)) : x;
  }
  if (own === "time" && at === "last") return atStep(x, axis, "end", !isScalar);
  if (own === "time" && at === "first") return atStep(x, axis, "start", !isScalar);
  throw new Uncuttable(`takes some of ${own === "batch" ? "the rows" : "the steps"}`);
}

function isAscending(values: readonly number[]): boolean {
  return values.every((value, i) => value === values[0]! + i);
}

/** Repeats axes of length 1; axes must stand in the same places. */
function expand(x: Traced, axes: readonly Axis[]): Traced {
  const added = axes.length - x.axes.length;
  const own = lengthsOf(
    axes.map((axis, i) => (isLabel(axis) ? axis : ((x.axes[i - added] as number | undefined) ?? 1))),
  );
  const dims = lengthsOf(axes);
  const from = reshape(x.expression, own);
  return traced(axes, expandRow(from, dims));
}

function expandRow(from: Expression, dims: readonly number[]): Expression {
  if (from.dims.every((dim, i) => dim === dims[i])) return from;
  if (from.kind === "constant") return constantOf(expandConstant(from.constant, dims));
  const shape = rowAxes(from) === 1 ? [1, ...dims] : dims;
  return node("Expand", [from, integers(shape)], { type: from.type, dims });
}

function refuseExpand(own: Axis, size: Axis): never {
  throw new Uncuttable(`repeats an axis of ${own} to ${size}`);
}
