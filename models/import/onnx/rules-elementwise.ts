import { type Axis, broadcast, isLabel, lengthsOf } from "./axes.ts";
import { cast, constantOf, type Expression, node, reshape } from "./expression.ts";
import { Uncuttable } from "./faults.ts";
import { arithmetic, filled } from "./fold.ts";
import { type ElementType, elementType } from "./tensor.ts";
import { type Call, constantAt, isGiven, type Rule, type Traced, tensorAt, traced } from "./values.ts";

/** Operators that act on each value alone. */
export const elementwiseRules: Readonly<Record<string, Rule>> = {
  ...named(
    "Abs Acos Asin Atan Ceil Celu Cos Cosh Elu Erf Exp Floor Gelu HardSigmoid HardSwish LeakyRelu Log Mish Neg",
    unary,
  ),
  ...named(
    "Reciprocal Relu Round Selu Shrink Sigmoid Sign Sin Sinh Softplus Softsign Sqrt Tan Tanh ThresholdedRelu",
    unary,
  ),
  ...named("Add Div Max Mean Min Mod Mul PRelu Pow Sub Sum", (call) => elementwise(call)),
  ...named("And Equal Greater GreaterOrEqual IsInf IsNaN Less LessOrEqual Not Or Xor", (call) =>
    elementwise(call, "bool"),
  ),
  ...named("Identity Dropout", (call) => {
    const value = call.inputs[0] ?? tensorAt(call, 0);
    return call.node.outputs.map(() => value);
  }),
  Where: (call) => elementwise(call, tensorAt(call, 1).expression.type),
  Cast: (call) => {
    const { axes, expression } = tensorAt(call, 0);
    const type = elementType(call.node.attributes.int("to", 0));
    if (!type) throw new Uncuttable(`casts to type ${call.node.attributes.int("to", 0)}`);
    return [traced(axes, cast(expression, type))];
  },
  Clip: clip,
  BatchNormalization: batchNormalization,
};

function named(names: string, rule: Rule): Record<string, Rule> {
  return Object.fromEntries(names.split(" ").map((name) => [name, rule]));
}

function unary(call: Call): readonly Traced[] {
  const { axes, expression } = tensorAt(call, 0);
  return [traced(axes, node(call.node.op, [expression], expression, call.node.attributes.plain()))];
}

function elementwise(call: Call, type?: ElementType): readonly Traced[] {
  return [
    combine(
      call.node.op,
      call.inputs.map((_, i) => tensorAt(call, i)),
      type,
      call.node.attributes.plain(),
    ),
  ];
}

/** An elementwise operation on tensors whose axes are lined up from the last. */
export function combine(
  op: string,
  tensors: readonly Traced[],
  type: ElementType = tensors[0]!.expression.type,
  attributes: Parameters<typeof node>[3] = {},
): Traced {
  const axes = broadcast(tensors.map((tensor) => tensor.axes));
  const dims = lengthsOf(axes);
  const operands = tensors.map((tensor) => lineUp(tensor, axes));
  const [a, b] = operands;
  if (a?.kind === "constant" && b?.kind === "constant" && operands.length === 2) {
    const folded = arithmetic(op, a.constant, b.constant, dims);
    if (folded) return traced(axes, constantOf(folded));
  }
  return traced(axes, node(op, operands, { type, dims }, attributes));
}

/** A tensor's row with the axes of a result, of length 1 where it has none of its own. */
export function lineUp({ axes, expression }: Traced, result: readonly Axis[]): Expression {
  const added = result.length - axes.length;
  const dims = result.flatMap((axis, i) => {
    if (isLabel(axis)) return [];
    return [i < added ? 1 : (axes[i - added] as number)];
  });
  if (expression.when !== "constant") return reshape(expression, dims);
  const first = dims.findIndex((dim) => dim !== 1);
  return reshape(expression, first < 0 ? [] : dims.slice(first));
}

/** From version 11 its bounds are inputs. */
function clip(call: Call): readonly Traced[] {
  const { axes, expression } = tensorAt(call, 0);
  const { attributes } = call.node;
  const bound = (index: number, name: string, absent: number): Expression => {
    if (isGiven(call, index)) return reshape(constantAt(call, index), []);
    const value = attributes.float(name, absent);
    return constantOf(filled(expression.type, [], value));
  };
  const low = bound(1, "min", -3.4028234663852886e38);
  const high = bound(2, "max", 3.4028234663852886e38);
  return [traced(axes, node("Clip", [expression, low, high], expression))];
}

/** With the running mean and variance: a factor and a summand per channel. */
function batchNormalization(call: Call): readonly Traced[] {
  const x = tensorAt(call, 0);
  if (call.node.attributes.int("training_mode", 0) !== 0) throw new Uncuttable("is in training mode");
  const [scale, bias, mean, variance] = [1, 2, 3, 4].map((index) => constantAt(call, index).constant.data);
  const epsilon = call.node.attributes.float("epsilon", 1e-5);
  const channels = scale!.length;
  if (x.axes[1] !== channels) throw new Uncuttable(`has ${channels} channels for an axis of ${x.axes[1]}`);
  const factors = Float32Array.from(scale!, (value, i) => value / Math.sqrt(variance![i]! + epsilon));
  const summands = Float32Array.from(factors, (factor, i) => bias![i]! - mean![i]! * factor);
  const perChannel = (data: Float32Array) => {
    const dims = [channels, ...x.axes.slice(2).map(() => 1)];
    return traced(dims, constantOf({ type: "float32", dims, data }));
  };
  return [combine("Add", [combine("Mul", [x, perChannel(factors)]), perChannel(summands)])];
}
