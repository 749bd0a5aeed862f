import type { Operation } from "../native/program.ts";
import { recurrenceOf } from "./recurrence-node.ts";
import type { Rule } from "./row-call.ts";
import { moves } from "./row-moves.ts";
import { convolve, multiply } from "./row-products.ts";
import { step } from "./row-recurrences.ts";

/** What is known of each operator: how it computes its outputs of one row. */
export const operators: Readonly<Record<string, Rule>> = {
  ...moves,
  Relu: each("relu"),
  Sigmoid: each("sigmoid"),
  Tanh: each("tanh"),
  Sqrt: each("root"),
  Pow: (call) =>
    String(call.constant(call.node.input![1])?.values) === "2" ? each("square")(call) : undefined,
  Add: both("add", 1),
  Sub: both("add", -1),
  Mul: both("multiply"),
  Gemm: product,
  MatMul: product,
  Conv: ({ columns, node, value, constant }) => only(convolve(columns, node, value(0), constant)),
  LSTM: recurrence,
  GRU: recurrence,
};

function each(kind: Operation["kind"]): Rule {
  return ({ columns, value }) => [columns.each(kind, value(0))];
}

/** Of two values of equal shape, the second times `factor`. */
function both(kind: "add" | "multiply", factor?: number): Rule {
  const vector = factor === undefined ? undefined : Float32Array.of(factor);
  return ({ columns, value }) => {
    const [a, b] = [value(0), value(1)];
    return String(a.dims) === String(b.dims) ? [columns.each(kind, a, b, vector)] : undefined;
  };
}

function product(call: Parameters<Rule>[0]): ReturnType<Rule> {
  const { columns, node, value, constant } = call;
  const [weights, bias] = [constant(node.input![1]), constant(node.input![2])];
  if (!weights || (node.input![2] && !bias)) return undefined;
  return only(multiply(columns, node, value(0), weights, bias));
}

function recurrence({ columns, node, named, constant }: Parameters<Rule>[0]): ReturnType<Rule> {
  const of = recurrenceOf(node, constant);
  if (!of) return undefined;
  return step(columns, of, {
    x: named(of.x),
    h: named(of.h),
    c: of.c === undefined ? undefined : named(of.c),
  });
}

function only<T>(value: T | undefined): T[] | undefined {
  return value === undefined ? undefined : [value];
}
