import { Uncuttable } from "./faults.ts";
import { castConstant, concatConstants, reshapeConstant, sliceConstant, transposeConstant } from "./fold.ts";
import type { Constant, ElementType } from "./tensor.ts";

export type Attribute = number | readonly number[] | string | { readonly float: number };

/** When a value exists: always, once for every step, or once for the whole sequence. */
export type When = "constant" | "step" | "once";

/** Of which steps a collected value is taken: `final` is the last that each direction took, `end` the last in time. */
export type Collecting = "final" | "end" | "start" | "mean" | "max";

/**
 * What a step graph computes: a directed graph of values, before it is known which cell computes which. A value that is no
 * constant is a tensor `[rows, ...dims]`; a constant is `dims`.
 */
export type Expression = {
  readonly type: ElementType;
  readonly dims: readonly number[];
  readonly when: When;
} & (
  | { readonly kind: "constant"; readonly constant: Constant }
  | { readonly kind: "input"; readonly name: string }
  /** `h` or `c` of a recurrence after a step, `[directions * hidden]`. */
  | { readonly kind: "state"; readonly of: Recurrence; readonly which: "h" | "c" }
  | { readonly kind: "collect"; readonly of: Expression; readonly how: Collecting }
  | {
      readonly kind: "node";
      readonly op: string;
      readonly inputs: readonly Expression[];
      readonly attributes: Readonly<Record<string, Attribute>>;
    }
);

/** A node LSTM, GRU or RNN, as the specification of its operator names its parts. */
export interface Recurrence {
  readonly name: string;
  readonly kind: "LSTM" | "GRU" | "RNN";
  readonly hidden: number;
  /** `[input]`. */
  readonly x: Expression;
  readonly directions: readonly Direction[];
  /** Bound of what goes into an activation; undefined where there is none. */
  readonly clip: number | undefined;
  /** Whether the forget gate is one minus the input gate. */
  readonly inputForget: boolean;
  readonly linearBeforeReset: boolean;
}

/** One direction of a recurrence; gates i, o, f, c (LSTM), z, r, h (GRU) or one (RNN). */
export interface Direction {
  readonly reverse: boolean;
  /** `[gates * hidden, input]`. */
  readonly w: Float32Array;
  /** `[gates * hidden, hidden]`. */
  readonly r: Float32Array;
  /** Biases of `w` and `r`, `[gates * hidden]` each; zeros where the file has none. */
  readonly wb: Float32Array;
  readonly rb: Float32Array;
  /** Peepholes of the gates i, o, f, `[3 * hidden]`. */
  readonly p: Float32Array | undefined;
  /** State before the first step; undefined for zeros. */
  readonly h0: Float32Array | undefined;
  readonly c0: Float32Array | undefined;
  /** f, g, h. */
  readonly activations: readonly Activation[];
}

export interface Activation {
  readonly op: ActivationName;
  readonly alpha: number;
  readonly beta: number;
}

export type ActivationName =
  | "Affine"
  | "Elu"
  | "HardSigmoid"
  | "LeakyRelu"
  | "Relu"
  | "ScaledTanh"
  | "Sigmoid"
  | "Softplus"
  | "Softsign"
  | "Tanh"
  | "ThresholdedRelu";

type NodeExpression = Extract<Expression, { kind: "node" }>;

export function constantOf(constant: Constant): Expression {
  return { kind: "constant", when: "constant", type: constant.type, dims: constant.dims, constant };
}

export function integers(values: readonly number[]): Expression {
  return constantOf({ type: "int64", dims: [values.length], data: Float64Array.from(values) });
}

export function input(name: string, type: ElementType, dims: readonly number[]): Expression {
  return { kind: "input", when: "step", name, type, dims };
}

export function stateOf(of: Recurrence, which: "h" | "c"): Expression {
  const dims = [of.directions.length * of.hidden];
  return { kind: "state", when: of.x.when, type: "float32", dims, of, which };
}

/**
 * Takes a value of the whole sequence. What is computed alone from one value of a step is computed after one of them was
 * taken, which is less work and keeps the states of recurrences in sight.
 */
export function collect(of: Expression, how: Collecting): Expression {
  if (of.kind === "constant") return of;
  if (of.kind === "node" && (how === "end" || how === "start" || of.op === "Reshape")) {
    const moving = of.inputs.filter(({ when }) => when === "step");
    if (new Set(moving).size === 1) {
      const inputs = of.inputs.map((one) => (one.when === "step" ? collect(one, how) : one));
      return of.op === "Reshape" ? reshape(inputs[0]!, of.dims) : node(of.op, inputs, of, of.attributes);
    }
  }
  return { kind: "collect", when: "once", type: of.type, dims: of.dims, of, how };
}

export function node(
  op: string,
  inputs: readonly Expression[],
  { type, dims }: { readonly type: ElementType; readonly dims: readonly number[] },
  attributes: Readonly<Record<string, Attribute>> = {},
): NodeExpression {
  let when: When = "constant";
  for (const one of inputs) {
    if (one.when === "constant" || one.when === when) continue;
    if (when !== "constant")
      throw new Uncuttable("joins a value of every step with one of the whole sequence");
    when = one.when;
  }
  return { kind: "node", when, type, dims, op, inputs, attributes };
}

/** Where the axes of `dims` begin in the tensor. */
export function rowAxes(of: Expression): number {
  return of.when === "constant" ? 0 : 1;
}

export function reshape(of: Expression, dims: readonly number[]): Expression {
  if (same(of.dims, dims)) return of;
  if (of.kind === "constant") return constantOf(reshapeConstant(of.constant, dims));
  if (of.kind === "node" && of.op === "Reshape") return reshape(of.inputs[0]!, dims);
  // 0 keeps the axis of rows.
  const shape = rowAxes(of) === 1 ? [0, ...dims] : dims;
  return node("Reshape", [of, integers(shape)], { type: of.type, dims });
}

export function transpose(of: Expression, perm: readonly number[]): Expression {
  if (perm.every((axis, i) => axis === i)) return of;
  if (of.kind === "constant") return constantOf(transposeConstant(of.constant, perm));
  const moved = rowAxes(of) === 1 ? [0, ...perm.map((axis) => axis + 1)] : perm;
  const dims = perm.map((axis) => of.dims[axis]!);
  return node("Transpose", [of], { type: of.type, dims }, { perm: moved });
}

export function cast(of: Expression, type: ElementType): Expression {
  if (of.type === type) return of;
  if (of.kind === "constant") return constantOf(castConstant(of.constant, type));
  return node("Cast", [of], { type, dims: of.dims }, { to: type });
}

/** `size` values along an axis of `dims`, `step` apart; looks through a concatenation along that axis. */
export function slice(of: Expression, axis: number, start: number, size: number, step = 1): Expression {
  if (start === 0 && size === of.dims[axis] && step === 1) return of;
  if (of.kind === "constant") return constantOf(sliceConstant(of.constant, axis, start, size, step));
  const within = partOf(of, axis, start, size, step);
  if (within) return slice(within.part, axis, start - within.offset, size, step);
  const last = start + (size - 1) * step + Math.sign(step);
  const end = last < 0 ? Number.MIN_SAFE_INTEGER : last;
  const tensorAxis = axis + rowAxes(of);
  const bounds = [start, end, tensorAxis, step].map((value) => integers([value]));
  return node("Slice", [of, ...bounds], { type: of.type, dims: of.dims.with(axis, size) });
}

export function concat(parts: readonly Expression[], axis: number): Expression {
  if (parts.length === 1) return parts[0]!;
  const constants = parts.flatMap((part) => (part.kind === "constant" ? [part.constant] : []));
  if (constants.length === parts.length) return constantOf(concatConstants(constants, axis));
  const dims = parts[0]!.dims.with(
    axis,
    parts.reduce((sum, part) => sum + part.dims[axis]!, 0),
  );
  const wide = parts.find(({ when }) => when !== "constant");
  if (!wide) return node("Concat", parts, { type: parts[0]!.type, dims }, { axis });
  // Every part needs an axis of rows.
  const rows = parts.map((part) => (part.when === "constant" ? likeRows(part, wide) : part));
  return node("Concat", rows, { type: parts[0]!.type, dims }, { axis: axis + rowAxes(wide) });
}

/** The part of a concatenation that holds all of a slice. */
function partOf(
  of: Expression,
  axis: number,
  start: number,
  size: number,
  step: number,
): { readonly part: Expression; readonly offset: number } | undefined {
  if (of.kind !== "node" || of.op !== "Concat" || of.attributes.axis !== axis + rowAxes(of)) return undefined;
  const end = start + (size - 1) * step;
  let offset = 0;
  for (const part of of.inputs) {
    const next = offset + part.dims[axis]!;
    if (Math.min(start, end) >= offset && Math.max(start, end) < next) return { part, offset };
    offset = next;
  }
  return undefined;
}

/** A constant repeated for every row of another value. */
function likeRows(constant: Expression, other: Expression): Expression {
  const shape = node("Shape", [other], { type: "int64", dims: [1] }, { start: 0, end: 1 });
  const full = node(
    "Concat",
    [shape, integers(constant.dims)],
    { type: "int64", dims: [1 + constant.dims.length] },
    { axis: 0 },
  );
  return node("Expand", [constant, full], { type: constant.type, dims: constant.dims });
}

export function same(a: readonly unknown[], b: readonly unknown[]): boolean {
  return a.length === b.length && a.every((value, i) => value === b[i]);
}
