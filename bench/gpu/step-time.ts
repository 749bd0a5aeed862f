import type { Kernel } from "../../kernels/kernel.ts";
import { createNativeKernel } from "../../kernels/native/kernel.ts";
import type { DeviceChoice } from "../../kernels/native/load.ts";
import { lstmCell, tokenCell } from "../../src/bench/synthetic.ts";
import { median } from "../../src/load/statistics.ts";

/** Steps of a call, as many as the peers' under a graph. */
const STEPS = 16;

export interface StepTime {
  readonly rows: number;
  /** Wall time of a step, by input: vectors as wide as the state, multiplied in the step; and tokens, whose products are a table. */
  readonly vectorsUs: number;
  readonly tokensUs: number;
  /** Of each round, of both. */
  readonly rounds: readonly (readonly [vectorsUs: number, tokensUs: number])[];
}

/** What a step costs when nobody joins or leaves: calls of 16 steps, copies in and out and the wait included. */
export async function stepTime(
  choice: DeviceChoice,
  hidden: number,
  rows: number,
  seconds: number,
): Promise<StepTime> {
  const kernels: Kernel[] = [];
  for (const cell of [lstmCell(hidden), tokenCell(hidden)]) {
    // The last state is what is asked for, not that of every step.
    kernels.push(await createNativeKernel({ ...choice, maxBatch: rows * STEPS })([{ ...cell, outputs: [] }]));
  }
  const slots = Int32Array.from({ length: rows }, (_, row) => row);
  for (const kernel of kernels) {
    kernel.reserve(rows);
    const [staged] = kernel.stage(0, rows, STEPS);
    for (let i = 0; i < staged!.length; i++)
      staged![i] = staged instanceof Int32Array ? i & 255 : Math.sin(i);
  }
  const time = async (kernel: Kernel) => {
    const until = performance.now() + (seconds * 1000) / 3;
    const run = () => kernel.run({ cell: 0, rows, steps: STEPS, reads: slots, writes: slots });
    await run();
    const times: number[] = [];
    while (times.length < 3 || performance.now() < until) {
      const start = performance.now();
      await run();
      times.push(((performance.now() - start) * 1000) / STEPS);
    }
    return median(times);
  };
  const rounds: [number, number][] = [];
  for (let round = 0; round < 3; round++) rounds.push([await time(kernels[0]!), await time(kernels[1]!)]);
  if (!kernels[1]!.read(0).every(Number.isFinite)) throw new Error("the states are no numbers");
  for (const kernel of kernels) await kernel.dispose();
  return {
    rows,
    vectorsUs: median(rounds.map(([vectors]) => vectors)),
    tokensUs: median(rounds.map(([, tokens]) => tokens)),
    rounds,
  };
}
