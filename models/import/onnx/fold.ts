import { Uncuttable } from "./faults.ts";
import type { Constant } from "./tensor.ts";

/** Most values that a constant may grow to; constants of the file may be larger. */
const MAX_GROWN = 2 ** 24;

export function constant(
  type: Constant["type"],
  dims: readonly number[],
  values: ArrayLike<number>,
): Constant {
  return { type, dims, data: type === "float32" ? Float32Array.from(values) : Float64Array.from(values) };
}

export function filled(type: Constant["type"], dims: readonly number[], value: number): Constant {
  const to = blank(type, dims, countOf(dims));
  to.data.fill(value);
  return to;
}

export function reshapeConstant(from: Constant, dims: readonly number[]): Constant {
  return { ...from, dims };
}

export function castConstant(from: Constant, type: Constant["type"]): Constant {
  if (from.type === type) return from;
  const values = from.data as Float64Array;
  if (type === "bool")
    return constant(
      type,
      from.dims,
      values.map((value) => (value === 0 ? 0 : 1)),
    );
  return constant(type, from.dims, type === "float32" ? values : values.map(Math.trunc));
}

export function transposeConstant(from: Constant, perm: readonly number[]): Constant {
  const steps = stepsOf(from.dims);
  return gathered(
    from,
    perm.map((axis) => from.dims[axis]!),
    perm.map((axis) => steps[axis]!),
    0,
  );
}

/** `size` values along `axis`, the first at `start`, each `step` after the one before. */
export function sliceConstant(from: Constant, axis: number, start: number, size: number, step = 1): Constant {
  const steps = stepsOf(from.dims);
  const origin = start * steps[axis]!;
  return gathered(from, from.dims.with(axis, size), steps.with(axis, steps[axis]! * step), origin);
}

export function concatConstants(parts: readonly Constant[], axis: number): Constant {
  const first = parts[0]!;
  const dims = first.dims.with(
    axis,
    parts.reduce((sum, { dims }) => sum + dims[axis]!, 0),
  );
  const count = parts.reduce((sum, { data }) => sum + data.length, 0);
  const to = blank(first.type, dims, count);
  const width = dims.slice(axis).reduce((product, dim) => product * dim, 1);
  let column = 0;
  for (const { dims: own, data } of parts) {
    const ownWidth = own.slice(axis).reduce((product, dim) => product * dim, 1);
    for (let row = 0; row * ownWidth < data.length && ownWidth > 0; row++) {
      to.data.set(data.subarray(row * ownWidth, (row + 1) * ownWidth), row * width + column);
    }
    column += ownWidth;
  }
  return to;
}

/** Repeats axes of length 1. */
export function expandConstant(from: Constant, dims: readonly number[]): Constant {
  const added = dims.length - from.dims.length;
  const steps = stepsOf(from.dims);
  const moves = dims.map((_, axis) =>
    axis < added || from.dims[axis - added] === 1 ? 0 : steps[axis - added]!,
  );
  return gathered(from, dims, moves, 0);
}

const ARITHMETIC: Readonly<Record<string, (a: number, b: number) => number>> = {
  Add: (a, b) => a + b,
  Sub: (a, b) => a - b,
  Mul: (a, b) => a * b,
  Div: (a, b) => a / b,
};

/** `a op b` with the broadcasting of ONNX; undefined where this is none of the four operations. */
export function arithmetic(
  op: string,
  a: Constant,
  b: Constant,
  dims: readonly number[],
): Constant | undefined {
  const compute = ARITHMETIC[op];
  if (!compute || a.type !== b.type) return undefined;
  const left = expandConstant(a, dims).data;
  const right = expandConstant(b, dims).data;
  const values = Array.from(left, (value, i) => compute(value, right[i]!));
  return constant(a.type, dims, a.type === "float32" ? values : values.map(Math.trunc));
}

function gathered(
  from: Constant,
  dims: readonly number[],
  moves: readonly number[],
  origin: number,
): Constant {
  const count = dims.reduce((product, dim) => product * dim, 1);
  const to = count <= from.data.length ? blank(from.type, dims, count) : filled(from.type, dims, 0);
  const at = new Array<number>(dims.length).fill(0);
  let source = origin;
  for (let i = 0; i < to.data.length; i++) {
    to.data[i] = from.data[source]!;
    for (let axis = dims.length - 1; axis >= 0; axis--) {
      source += moves[axis]!;
      if (++at[axis]! < dims[axis]!) break;
      source -= moves[axis]! * dims[axis]!;
      at[axis] = 0;
    }
  }
  return to;
}

/** How far apart neighbours along each axis are. */
function stepsOf(dims: readonly number[]): number[] {
  const steps = new Array<number>(dims.length).fill(1);
  for (let axis = dims.length - 2; axis >= 0; axis--) steps[axis] = steps[axis + 1]! * dims[axis + 1]!;
  return steps;
}

function blank(type: Constant["type"], dims: readonly number[], count: number): Constant {
  return { type, dims, data: type === "float32" ? new Float32Array(count) : new Float64Array(count) };
}

function countOf(dims: readonly number[]): number {
  const count = dims.reduce((product, dim) => product * dim, 1);
  if (count > MAX_GROWN) throw new Uncuttable(`computes a constant of shape [${dims.join(", ")}]`);
  return count;
}
