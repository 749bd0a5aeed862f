import { type Axis, axisOf, isLabel, lengthsOf, reshaped, rowAxis, type Size, sayAxes } from "./axes.ts";
import {
  concat,
  constantOf,
  type Expression,
  integers,
  node,
  reshape,
  rowAxes,
  transpose,
} from "./expression.ts";
import { Uncuttable } from "./faults.ts";
import { expandConstant, filled } from "./fold.ts";
import { readTensor } from "./tensor.ts";
import { type Call, integersAt, type Rule, sizesAt, type Traced, tensorAt, traced } from "./values.ts";

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
export function relabel(x: Traced, axes: readonly Axis[]): Traced {
  return traced(axes, reshape(x.expression, lengthsOf(axes)));
}

/** Tensors one after the other along an axis of each row. */
export function concatAlong(parts: readonly Traced[], axis: number): Traced {
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

export function wantedSizes(call: Call, index: number): readonly Size[] {
  const wanted = sizesAt(call, index);
  if (!wanted) throw new Uncuttable("takes a shape that is not known before it runs");
  return wanted;
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
