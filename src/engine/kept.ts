import type { Values } from "../../kernels/kernel.ts";
import { copy } from "./copy.ts";
import type { RunOutput } from "./outputs.ts";
import type { EngineRun, Kept } from "./request.ts";

/** Keeps one step's values of a run's output number `i` for the answer; they stand at `at` in the kernel's outputs. */
export function keep(run: EngineRun, i: number, outputs: readonly Values[], at: number): void {
  append(run, i, outputs[run.outputs[i]!.cellOutput]!, at * run.outputs[i]!.size);
}

/** Keeps values that stand at `at` in `from`. */
export function append(run: EngineRun, i: number, from: Values, at: number): void {
  const { size } = run.outputs[i]!;
  run.kept ??= run.outputs.map(() => ({ values: NOTHING, length: 0 }));
  const kept = run.kept[i]!;
  if (kept.length + size > kept.values.length) grow(kept, run.outputs[i]!, run.steps);
  copy(from, at, kept.values, kept.length, size);
  kept.length += size;
}

/** Makes room in steps of doubling, from a few, up to what can come at most. */
function grow(kept: Kept, { size, all, dtype }: RunOutput, steps: number): void {
  const { values } = kept;
  const length = all ? Math.min(Math.max(values.length * 2, size * FIRST_STEPS), steps * size) : size;
  const grown = dtype === "int32" ? new Int32Array(length) : new Float32Array(length);
  grown.set(values);
  kept.values = grown;
}

const FIRST_STEPS = 16;
const NOTHING = new Float32Array(0);
