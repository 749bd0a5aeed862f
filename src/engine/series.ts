import type { Values } from "../../kernels/kernel.ts";
import type { Series } from "../../models/definition.ts";
import { Fault } from "../core/faults.ts";
import { sizeOf } from "../core/tensor.ts";
import type { BoundSeries, EngineRun } from "./request.ts";

/** Makes the runs of a series keep what it needs. Throws INTERNAL where they do not fit each other. */
export function bindSeries(series: Series): BoundSeries {
  const { of, merge = "concat", collect = "all", backwards = false } = series;
  const parts = of.map(({ run, output, backwards: turned = false }) => {
    const from = run as EngineRun;
    const { outputs } = from.request.model;
    from.outputs = outputs.with(from.outputs, from.index, undefined, output, true);
    from.collectsAll = true;
    return { run: from, output: from.outputs.length - 1, backwards: turned };
  });
  const [first, ...others] = parts;
  if (!first) throw new Fault("INTERNAL", "a series needs at least one run");
  const { shape } = first.run.outputs[first.output]!;
  let last = shape.at(-1) ?? 1;
  for (const { run, output } of others) {
    const other = run.outputs[output]!.shape;
    const fits =
      other.length === shape.length &&
      (shape.length > 0 || merge !== "concat") &&
      shape.every((dim, axis) => dim === other[axis] || (merge === "concat" && axis === shape.length - 1));
    if (!fits || run.steps !== first.run.steps) {
      throw new Fault(
        "INTERNAL",
        `outputs of '${first.run.cell}' and '${run.cell}' cannot be merged: ${first.run.steps} steps of [${shape.join(", ")}], ${run.steps} of [${other.join(", ")}]`,
      );
    }
    last += other.at(-1)!;
  }
  const merged = others.length > 0 && merge === "concat" ? [...shape.slice(0, -1), last] : shape;
  return {
    parts,
    merge,
    collect,
    backwards,
    steps: collect === "all" ? first.run.steps : 1,
    shape: merged,
  };
}

/** The values of a series whose runs are done: `[steps, ...shape]`. */
export function valuesOf(series: BoundSeries): Values {
  const { parts, collect, backwards, shape } = series;
  const size = sizeOf(shape);
  const { steps } = parts[0]!.run;
  const isInteger = parts[0]!.run.outputs[parts[0]!.output]!.dtype === "int32";
  const make = (length: number): Values => (isInteger ? new Int32Array(length) : new Float32Array(length));
  if (collect === "last") {
    const values = make(size);
    mergeStep(series, steps - 1, steps - 1, values, 0);
    return values;
  }
  const values = make(steps * size);
  for (let step = 0; step < steps; step++) {
    mergeStep(series, step, steps - 1 - step, values, (backwards ? steps - 1 - step : step) * size);
  }
  return collect === "all" ? values : pooled(collect, values, steps, size, make(size));
}

/** A series in front of zeros up to `length` values; or 1 for each of its steps and 0 behind. */
export function heldValues(series: BoundSeries, as: "values" | "mask", length: number): Float32Array {
  const values = new Float32Array(length);
  if (as === "mask") values.fill(1, 0, series.steps);
  else values.set(valuesOf(series));
  return values;
}

/** Puts together what the parts gave at step `step`, those that ran backwards at `turned`. */
function mergeStep(
  { parts, merge, shape }: BoundSeries,
  step: number,
  turned: number,
  to: Values,
  at: number,
): void {
  const width = shape.at(-1) ?? 1;
  let column = 0;
  parts.forEach(({ run, output, backwards }, part) => {
    const { size, shape: own } = run.outputs[output]!;
    const { values } = run.kept![output]!;
    const from = (backwards ? turned : step) * size;
    const ownWidth = own.at(-1) ?? 1;
    for (let i = 0; i < size; i++) {
      const value = values[from + i]!;
      if (merge === "concat") to[at + Math.floor(i / ownWidth) * width + column + (i % ownWidth)] = value;
      else if (part === 0) to[at + i] = value;
      else if (merge === "mul") to[at + i] = to[at + i]! * value;
      else to[at + i] = to[at + i]! + value;
    }
    column += ownWidth;
  });
  if (merge !== "mean") return;
  for (let i = 0; i < sizeOf(shape); i++) to[at + i] = to[at + i]! / parts.length;
}

function pooled(how: "mean" | "max", values: Values, steps: number, size: number, to: Values): Values {
  for (let i = 0; i < size; i++) {
    let sum = 0;
    let most = Number.NEGATIVE_INFINITY;
    for (let step = 0; step < steps; step++) {
      const value = values[step * size + i]!;
      sum += value;
      most = Math.max(most, value);
    }
    to[i] = how === "mean" ? sum / steps : most;
  }
  return to;
}
