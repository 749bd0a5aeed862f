import { type Axis, axisOf, broadcast, isLabel, lengthsOf, rowAxis, sayAxes } from "./axes.ts";
import {
  type Attribute,
  type Expression,
  integers,
  node,
  reshape,
  rowAxes,
  transpose,
} from "./expression.ts";
import { Uncuttable } from "./faults.ts";
import { combine, lineUp } from "./rules-elementwise.ts";
import { collectAlong } from "./rules-select.ts";
import {
  type Call,
  constantAt,
  integersAt,
  isGiven,
  type Rule,
  type Traced,
  tensorAt,
  traced,
} from "./values.ts";

/** Operators that combine values along the axes of each row: products, sums, normalisations. */
export const productRules: Readonly<Record<string, Rule>> = {
  MatMul: (call) => [matMul(tensorAt(call, 0), tensorAt(call, 1))],
  Gemm: gemm,
  Conv: pointwiseConv,
  Softmax: (call) => [softmax(call)],
  LogSoftmax: (call) => [softmax(call)],
  LayerNormalization: (call) => {
    const x = tensorAt(call, 0);
    const axis = axisOf(call.node.attributes.int("axis", -1), x.axes.length);
    onlyOwn(x.axes.slice(axis), "normalises over");
    const weights = call.inputs.slice(1).map((_, i) => constantAt(call, i + 1));
    const attributes = { ...call.node.attributes.plain(), axis: axis - x.axes.length };
    return [traced(x.axes, node("LayerNormalization", [x.expression, ...weights], x.expression, attributes))];
  },
  ReduceMean: (call) => reduce(call, "mean"),
  ReduceMax: (call) => reduce(call, "max"),
  ReduceSum: (call) => reduce(call),
  ReduceMin: (call) => reduce(call),
  ReduceProd: (call) => reduce(call),
  ReduceL1: (call) => reduce(call),
  ReduceL2: (call) => reduce(call),
  ReduceSumSquare: (call) => reduce(call),
  ReduceLogSumExp: (call) => reduce(call),
  GlobalAveragePool: (call) => pool(call, "mean"),
  GlobalMaxPool: (call) => pool(call, "max"),
  ArgMax: (call) => [argExtreme(call)],
  ArgMin: (call) => [argExtreme(call)],
  OneHot: (call) => {
    const x = tensorAt(call, 0);
    const depth = integersAt(call, 1)![0]!;
    const axis = call.node.attributes.int("axis", -1);
    if (axis !== -1 && axis !== x.axes.length) throw new Uncuttable("puts the new axis before others");
    if (!(depth > 0 && depth < 2 ** 31)) throw new Uncuttable(`has a depth of ${depth}`);
    const values = constantAt(call, 2);
    const inputs = [x.expression, integers([depth]), values];
    const like = { type: values.type, dims: [...x.expression.dims, depth] };
    return [traced([...x.axes, depth], node("OneHot", inputs, like, { axis: -1 }))];
  },
};

function matMul(a: Traced, b: Traced): Traced {
  const [rows, k] = [a.axes.at(-2), a.axes.at(-1)];
  const [k2, columns] = [b.axes.at(-2), b.axes.at(-1)];
  if (a.axes.length < 2 || b.axes.length < 2 || isLabel(k) || k !== k2 || isLabel(columns)) {
    throw new Uncuttable(`multiplies ${sayAxes(a.axes)} with ${sayAxes(b.axes)}`);
  }
  const outer = broadcast([a.axes.slice(0, -2), b.axes.slice(0, -2)]);
  const axes: Axis[] = [...outer, rows!, columns!];
  const like = { type: a.expression.type, dims: lengthsOf(axes) };
  if (b.axes.length === 2 && b.expression.when === "constant") {
    return traced(axes, node("MatMul", [a.expression, b.expression], like));
  }
  if (isLabel(rows)) throw new Uncuttable(`multiplies ${sayAxes(a.axes)} with ${sayAxes(b.axes)}`);
  const left = lineUp(a, [...outer, rows!, k!]);
  const right = lineUp(b, [...outer, k!, columns!]);
  return traced(axes, node("MatMul", [left, right], like));
}

function gemm(call: Call): readonly Traced[] {
  const { attributes } = call.node;
  const flipped = (x: Traced, isFlipped: boolean): Traced => {
    if (x.axes.length !== 2) throw new Uncuttable(`multiplies ${sayAxes(x.axes)}, which is no matrix`);
    if (!isFlipped) return x;
    const moved = x.axes.some(isLabel) ? x.expression : transpose(x.expression, [1, 0]);
    return traced([x.axes[1]!, x.axes[0]!], moved);
  };
  const a = flipped(tensorAt(call, 0), attributes.int("transA", 0) !== 0);
  const b = flipped(tensorAt(call, 1), attributes.int("transB", 0) !== 0);
  const alpha = attributes.float("alpha", 1);
  const beta = attributes.float("beta", 1);
  const product = scaled(matMul(a, b), alpha);
  if (!isGiven(call, 2)) return [product];
  return [combine("Add", [product, scaled(tensorAt(call, 2), beta)])];
}

function scaled(x: Traced, by: number): Traced {
  if (by === 1) return x;
  const factor = { type: "float32" as const, dims: [], data: Float32Array.of(by) };
  const constant: Expression = {
    kind: "constant",
    when: "constant",
    type: "float32",
    dims: [],
    constant: factor,
  };
  return combine("Mul", [x, traced([], constant)]);
}

/** A convolution that sees one step at a time is a product with its weights. */
function pointwiseConv(call: Call): readonly Traced[] {
  const x = tensorAt(call, 0);
  const weights = constantAt(call, 1);
  const { attributes } = call.node;
  const [outputs, channels, ...kernel] = weights.dims;
  const isPointwise =
    kernel.every((size) => size === 1) &&
    (attributes.ints("pads") ?? []).every((pad) => pad === 0) &&
    (attributes.ints("strides") ?? []).every((stride) => stride === 1);
  if (!isPointwise) throw new Uncuttable(`sees neighbouring steps: its kernel is [${kernel.join(", ")}]`);
  if (x.axes[1] !== channels || attributes.int("group", 1) !== 1 || x.expression.dims.length !== 1) {
    throw new Uncuttable(`takes ${sayAxes(x.axes)} in groups or over more axes than steps`);
  }
  const matrix = reshape(weights, [outputs!, channels!]);
  const inputs: Expression[] = [x.expression, matrix];
  if (isGiven(call, 2)) inputs.push(constantAt(call, 2));
  const product = node("Gemm", inputs, { type: "float32", dims: [outputs!] }, { transB: 1 });
  return [traced(x.axes.with(1, outputs!), product)];
}

/** Before version 13 it works over all axes from the given one. */
function softmax(call: Call): Traced {
  const { axes, expression } = tensorAt(call, 0);
  const isOld = call.opset < 13;
  const axis = axisOf(call.node.attributes.int("axis", isOld ? 1 : -1), axes.length);
  const over = isOld ? axes.slice(axis) : [axes[axis]!];
  onlyOwn(over, "normalises over");
  const at = rowAxis(axes, axis);
  const like = (of: Expression) => node(call.node.op, [of], of, { axis: at + rowAxes(of) });
  if (over.filter((length) => length !== 1).length <= 1 && over.length === 1)
    return traced(axes, like(expression));
  const count = lengthsOf(over).reduce((a, b) => a * b, 1);
  const flat = reshape(expression, [...expression.dims.slice(0, at), count]);
  return traced(axes, reshape(like(flat), expression.dims));
}

function reduce(call: Call, steps?: "mean" | "max"): readonly Traced[] {
  const x = tensorAt(call, 0);
  const { attributes, op } = call.node;
  const given = attributes.ints("axes") ?? integersAt(call, 1) ?? [];
  if (given.length === 0 && attributes.int("noop_with_empty_axes", 0) !== 0) return [x];
  const over = (given.length === 0 ? x.axes.map((_, i) => i) : given).map((axis) =>
    axisOf(axis, x.axes.length),
  );
  const isKept = attributes.int("keepdims", 1) !== 0;
  if (steps && over.length === 1 && x.axes[over[0]!] === "time")
    return [collectAlong(x, over[0]!, steps, isKept)];
  onlyOwn(
    over.map((axis) => x.axes[axis]!),
    "sums up",
  );
  const axes = x.axes.flatMap((axis, i) => (over.includes(i) ? (isKept ? [1] : []) : [axis]));
  const rows = over.map((axis) => rowAxis(x.axes, axis) + rowAxes(x.expression));
  const like = { type: x.expression.type, dims: lengthsOf(axes) };
  return [traced(axes, node(op, [x.expression, integers(rows)], like, { keepdims: isKept ? 1 : 0 }))];
}

function pool(call: Call, how: "mean" | "max"): readonly Traced[] {
  const x = tensorAt(call, 0);
  if (x.axes.length !== 3 || x.axes[2] !== "time") throw new Uncuttable(`takes ${sayAxes(x.axes)}`);
  return [collectAlong(x, 2, how, true)];
}

function argExtreme(call: Call): Traced {
  const x = tensorAt(call, 0);
  const { attributes, op } = call.node;
  const axis = axisOf(attributes.int("axis", 0), x.axes.length);
  onlyOwn([x.axes[axis]!], "looks for the best of");
  const isKept = attributes.int("keepdims", 1) !== 0;
  const axes = isKept ? x.axes.with(axis, 1) : x.axes.toSpliced(axis, 1);
  const given: Record<string, Attribute> = { ...attributes.plain() };
  given.axis = rowAxis(x.axes, axis) + rowAxes(x.expression);
  return traced(axes, node(op, [x.expression], { type: "int64", dims: lengthsOf(axes) }, given));
}

function onlyOwn(axes: readonly Axis[], does: string): void {
  const label = axes.find(isLabel);
  if (label !== undefined) throw new Uncuttable(`${does} ${label === "batch" ? "the rows" : "the steps"}`);
}
