import { type Axis, type FixedLengths, isLabel, lengthsOf, type Size, sayAxes } from "./axes.ts";
import { constantOf, type Expression, same } from "./expression.ts";
import { Uncuttable } from "./faults.ts";
import type { FileNode } from "./file.ts";

/** What is known about a tensor of the whole graph while it is walked through. */
export type Value = Traced | Sizes | { readonly kind: "lengths" };

/** A tensor with labelled axes, and what one row of it at one step is: `expression.dims` are its other axes, in order. */
export interface Traced {
  readonly kind: "tensor";
  readonly axes: readonly Axis[];
  readonly expression: Expression;
}

/** Whole numbers that depend on the lengths of a request. */
export interface Sizes {
  readonly kind: "sizes";
  readonly items: readonly Size[];
  readonly isScalar: boolean;
}

/** One node of the graph with the values it takes. */
export interface Call {
  readonly node: FileNode;
  readonly inputs: readonly (Value | undefined)[];
  readonly opset: number;
  readonly fixed: FixedLengths;
}

/** What one operator gives, by output. Throws `Uncuttable` where steps or rows would mix. */
export type Rule = (call: Call) => readonly Value[];

export function traced(axes: readonly Axis[], expression: Expression): Traced {
  if (!same(lengthsOf(axes), expression.dims)) {
    throw new Uncuttable(
      `contradicts itself: axes ${sayAxes(axes)} for a value of [${expression.dims.join(", ")}]`,
    );
  }
  const labels = axes.filter(isLabel);
  const steps = labels.filter((label) => label !== "batch");
  const rows = labels.filter((label) => label !== "time");
  if (steps.length > 1 || rows.length > 1) {
    throw new Uncuttable(
      `combines every ${steps.length > 1 ? "step" : "row"} with every other: ${sayAxes(axes)}`,
    );
  }
  const hasTime = steps.length > 0;
  if (expression.when === "step" && !hasTime) throw new Uncuttable("removes the axis of steps");
  if (expression.when === "once" && hasTime) {
    throw new Uncuttable("joins a value of the whole sequence with those of every step");
  }
  return { kind: "tensor", axes, expression };
}

export function sizes(items: readonly Size[], isScalar = false): Sizes {
  return { kind: "sizes", items, isScalar };
}

/** An input as a tensor. */
export function tensorAt({ inputs }: Call, index: number): Traced {
  const value = inputs[index];
  if (value?.kind === "tensor") return value;
  if (value?.kind === "sizes") {
    const items = value.items.filter((item) => typeof item === "number");
    if (items.length === value.items.length) {
      const dims = value.isScalar ? [] : [items.length];
      return traced(dims, constantOf({ type: "int64", dims, data: Float64Array.from(items) }));
    }
    throw new Uncuttable("computes with the number of steps or rows");
  }
  throw new Uncuttable(value ? "computes with the lengths of sequences" : `lacks input ${index}`);
}

export function isGiven({ inputs }: Call, index: number): boolean {
  return inputs[index] !== undefined;
}

/** An input of at most one axis as whole numbers; undefined where it is left out or not known. */
export function sizesAt({ inputs }: Call, index: number): readonly Size[] | undefined {
  const value = inputs[index];
  if (value?.kind === "sizes") return value.items;
  if (value?.kind !== "tensor" || value.expression.kind !== "constant") return undefined;
  const { type, dims, data } = value.expression.constant;
  if (type === "float32" || value.axes.length > 1 || value.axes.length !== dims.length) return undefined;
  return Array.from(data);
}

/** An input as whole numbers that do not depend on the request; undefined where it is left out. */
export function integersAt(call: Call, index: number): number[] | undefined {
  if (!isGiven(call, index)) return undefined;
  const items = sizesAt(call, index);
  if (!items?.every((item) => typeof item === "number")) {
    throw new Uncuttable(
      `takes input ${index} ('${call.node.inputs[index]}') that is not known before it runs`,
    );
  }
  return [...(items as number[])];
}

/** An input that has to be a constant of the file. */
export function constantAt(call: Call, index: number): Extract<Expression, { kind: "constant" }> {
  const { expression } = tensorAt(call, index);
  if (expression.kind === "constant") return expression;
  throw new Uncuttable(`takes input ${index} ('${call.node.inputs[index]}') that is no constant`);
}
