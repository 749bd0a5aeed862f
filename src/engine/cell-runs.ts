import type { Kernel } from "../../kernels/kernel.ts";

/** Runs a cell once and answers how long the call took, in milliseconds. */
export type CellRuns = (rows: number, steps: number) => Promise<number>;

/** Calls of one cell on slots that nobody uses, with inputs that are zero, or tokens that differ from row to row. */
export function cellRuns(kernel: Kernel, cell: number): CellRuns {
  const { reads, inputs, body } = kernel.cells[cell]!;
  const writes = Int32Array.from({ length: kernel.maxBatch }, (_, row) => row);
  const slots =
    reads > 1
      ? Int32Array.from(
          { length: reads * kernel.maxBatch },
          (_, i) => kernel.maxBatch + 1 + Math.floor(i / reads),
        )
      : writes;
  const tokens = (body.kind === "lstm" || body.kind === "gru" || body.kind === "tree-leaf") && body.embedding;
  const token = tokens ? inputs.findIndex(({ name }) => name === "token") : -1;
  for (const values of kernel.stage(cell, kernel.maxBatch, 1)) values.fill(0);
  let runs = 0;
  return async (rows, steps) => {
    runs++;
    const staged = kernel.stage(cell, rows, steps)[token];
    if (staged && tokens)
      for (let row = 0; row < rows * steps; row++) staged[row] = (row * 37 + runs * 11) % tokens.rows;
    const start = performance.now();
    const pending = kernel.run({ cell, rows, steps, reads: slots, writes });
    if (pending) await pending;
    return performance.now() - start;
  };
}

/** Makes room for the slots of `cellRuns` of a kernel's cells, and forgets what they left there once `measure` is done. */
export async function withSlots<T>(kernel: Kernel, measure: () => Promise<T>): Promise<T> {
  kernel.reserve(2 * kernel.maxBatch + 1);
  const measured = await measure();
  for (let slot = 0; slot <= 2 * kernel.maxBatch; slot++) kernel.clear(slot);
  return measured;
}
