import { readFileSync } from "node:fs";
import { InferenceSession, Tensor } from "onnxruntime-node";
import type { OnnxImportOptions } from "../../../models/import/onnx/options.ts";
import type { Steps } from "./evaluate.ts";

/** A tensor of a fixture: `axes` says T for steps, B for rows, - for any other. */
export interface Stored {
  readonly axes: string;
  readonly type: string;
  readonly shape: readonly number[];
  readonly data: readonly number[];
}

export interface Case {
  readonly name: string;
  readonly model: string;
  readonly inputs: Readonly<Record<string, Stored>>;
  readonly outputs: Readonly<Record<string, Stored>>;
  readonly source: "onnx" | "own";
  readonly layout: number;
  readonly states?: readonly (readonly [string, string])[];
}

export interface Refused {
  readonly name: string;
  readonly model: string;
  readonly why: string;
}

/** A graph of one step; its tensors have an axis of steps that the graph has not. */
export interface StepCase extends Case {
  readonly options: OnnxImportOptions;
}

export const {
  cases,
  refused,
  steps: stepCases,
} = JSON.parse(readFileSync(new URL("fixtures/cases.json", import.meta.url), "utf8")) as {
  cases: Case[];
  refused: Refused[];
  steps: StepCase[];
};

export function bytesOf({ model }: { readonly model: string }): Uint8Array {
  return new Uint8Array(Buffer.from(model, "base64"));
}

/** What one row of a tensor is at each of the first `steps` steps. */
export function rowOf({ axes, shape, data }: Stored, row: number, steps: number): Steps {
  const time = axes.indexOf("T");
  const at = new Array<number>(shape.length).fill(0);
  const values: number[][] = Array.from({ length: time < 0 ? 1 : steps }, () => []);
  for (const value of data) {
    const step = time < 0 ? 0 : at[time]!;
    const batch = axes.indexOf("B");
    if ((batch < 0 || at[batch] === row) && step < values.length) values[step]!.push(value);
    for (let axis = shape.length - 1; axis >= 0 && ++at[axis]! === shape[axis]; axis--) at[axis] = 0;
  }
  return values;
}

/** Rows of a case, and how many steps each has. */
export function lengthsOf({ inputs }: Case): number[] {
  const sizes = new Map<string, number>();
  for (const { axes, shape } of Object.values(inputs)) {
    [...axes].forEach((axis, i) => sizes.set(axis, shape[i]!));
  }
  const lengths = inputs.lengths?.data;
  return Array.from({ length: sizes.get("B") ?? 1 }, (_, row) => lengths?.[row] ?? sizes.get("T")!);
}

/** The outputs of ONNX Runtime over the whole graph. */
export async function runWhole(one: Case): Promise<Record<string, Stored>> {
  const session = await InferenceSession.create(bytesOf(one), {
    graphOptimizationLevel: "all",
    logSeverityLevel: 3,
  });
  const feeds = Object.entries(one.inputs).map(([name, stored]) => [name, feedOf(stored)] as const);
  const results = await session
    .run(Object.fromEntries(feeds), { logSeverityLevel: 4 })
    .finally(() => session.release());
  return Object.fromEntries(
    Object.entries(results).map(([name, { dims, type, data }]) => [
      name,
      { axes: one.outputs[name]!.axes, type, shape: dims, data: Array.from(data as Float32Array, Number) },
    ]),
  );
}

function feedOf({ type, shape, data }: Stored): Tensor {
  if (type === "int64") return new Tensor("int64", BigInt64Array.from(data, BigInt), shape);
  if (type === "int32") return new Tensor("int32", Int32Array.from(data), shape);
  return new Tensor("float32", Float32Array.from(data), shape);
}

/** Largest difference, relative to the expected value where that is above 1. */
export function difference(actual: Steps, expected: Steps): number {
  if (actual.length !== expected.length) return Number.POSITIVE_INFINITY;
  let most = 0;
  expected.forEach((step, i) => {
    if (actual[i]!.length !== step.length) most = Number.POSITIVE_INFINITY;
    step.forEach((value, at) => {
      const off = Math.abs(actual[i]![at]! - value) / Math.max(1, Math.abs(value));
      most = Number.isNaN(off) ? Number.POSITIVE_INFINITY : Math.max(most, off);
    });
  });
  return most;
}
