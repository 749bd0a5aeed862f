import { kernelsFor } from "../engine/kernels.ts";
import type { SequenceModel } from "./sequences.ts";
import { lstmCell, tokenCell } from "./synthetic.ts";

/**
 * Measures cells per second of the bare kernel, task after task of `rows` rows with other tokens each time, as a scheduler
 * without cost would submit them.
 */
export async function bareKernel(
  { hidden, input }: SequenceModel,
  rows: number,
): Promise<(seconds: number) => number> {
  const load = await kernelsFor({ device: "cpu", session: { threads: 1 } });
  const kernel = await load([input === "token" ? tokenCell(hidden) : lstmCell(hidden)]);
  kernel.reserve(rows);
  const slots = Int32Array.from({ length: rows }, (_, row) => row);
  const task = { cell: 0, rows, steps: 1, reads: slots, writes: slots };
  return (seconds) => {
    let tasks = 0;
    const start = performance.now();
    while (performance.now() - start < seconds * 1000) {
      const values = kernel.stage(0, rows, 1)[0]!;
      if (input === "token") for (let row = 0; row < rows; row++) values[row] = (row * 37 + tasks * 11) & 255;
      kernel.run(task);
      tasks++;
    }
    return (tasks * rows * 1000) / (performance.now() - start);
  };
}
