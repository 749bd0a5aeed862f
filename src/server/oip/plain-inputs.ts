import type { ValueSpec } from "../../runtime/types.ts";
import { wireNames } from "../datatypes.ts";
import type { InputTensor } from "./types.ts";

/** An input as JSON has it: a text, a number or nested arrays. */
export function inputOf({ name, type }: ValueSpec, value: unknown): InputTensor {
  const values = Array.isArray(value) ? value : [value];
  const shape = type === "text" ? [values.length] : shapeOf(values);
  return { name, datatype: wireNames[type], shape, source: { kind: "values", values } };
}

/** The shape of nested arrays, going by the first of each; whether the others agree is checked when they are read. */
function shapeOf(values: readonly unknown[]): number[] {
  const shape: number[] = [];
  for (let inner: unknown = values; Array.isArray(inner); inner = inner[0]) shape.push(inner.length);
  return shape;
}
