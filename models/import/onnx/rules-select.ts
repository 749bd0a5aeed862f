import { type Axis, axisOf, type FixedLengths, isLabel, lengthsOf, rowAxis, type Size } from "./axes.ts";
import { type Collecting, collect, node, reshape, slice } from "./expression.ts";
import { Uncuttable } from "./faults.ts";
import { concatAlong, relabel, wantedSizes } from "./rules-shape.ts";
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

/** Operators that take some values of a tensor; of the steps, only the last or the first one. */
export const selectRules: Readonly<Record<string, Rule>> = {
  Gather: gather,
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
        call.fixed,
      );
    });
    return [value];
  },
};

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
  fixed: FixedLengths,
): Traced {
  const own = x.axes[axis]!;
  if (isLabel(own)) {
    const from = stepOf(start, own, fixed[own]);
    const to = stepOf(end, own, fixed[own]);
    if (step !== 1) throw new Uncuttable(`takes ${own} in steps of ${step}`);
    if (from === "first" && to === "end") return x;
    if (own === "time" && from === "last" && to === "end") return collectAlong(x, axis, "end", true);
    if (own === "time" && from === "first" && to === "second") return collectAlong(x, axis, "start", true);
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

/** A value of the whole sequence, which leaves an axis of 1 in place of the steps or none. */
export function collectAlong(x: Traced, axis: number, how: Collecting, isKept: boolean): Traced {
  const axes = isKept ? x.axes.with(axis, 1) : x.axes.toSpliced(axis, 1);
  return traced(axes, reshape(collect(x.expression, how), lengthsOf(axes)));
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
    if (isLabel(own)) return [gatherLabel(x, axis, known, isScalar, call.fixed)];
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
  fixed: FixedLengths,
): Traced {
  const own = x.axes[axis]!;
  const at = known.length === 1 ? stepOf(known[0]!, own, fixed[own as "time"]) : undefined;
  if (own === "batch" && fixed.batch === 1 && (at === "first" || at === "last")) {
    return isScalar ? relabel(x, x.axes.toSpliced(axis, 1)) : x;
  }
  if (own === "time" && at === "last") return collectAlong(x, axis, "end", !isScalar);
  if (own === "time" && at === "first") return collectAlong(x, axis, "start", !isScalar);
  throw new Uncuttable(`takes some of ${own === "batch" ? "the rows" : "the steps"}`);
}

function isAscending(values: readonly number[]): boolean {
  return values.every((value, i) => value === values[0]! + i);
}
