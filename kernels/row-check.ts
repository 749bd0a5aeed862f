import { sizeOf } from "../src/core/tensor.ts";
import type { Kernel, Pause } from "./kernel.ts";

/**
 * Runs one task of noise per cell, then its first rows in smaller tasks, and compares the bits: whether a row gets the same
 * alone and in company. Leaves all slots that it used cleared. Waits for `pause` before each cell.
 */
export async function rowsAreIndependent(kernel: Kernel, pause: Pause = () => {}): Promise<boolean> {
  const rows = Math.min(ROWS, kernel.maxBatch);
  kernel.reserve(2 * rows);
  let same = true;
  for (let cell = 0; cell < kernel.cells.length && same; cell++) {
    await pause();
    const whole = await run(kernel, cell, rows, rows);
    for (const count of COUNTS.filter((some) => some < rows)) {
      const part = await run(kernel, cell, rows, count);
      part.forEach((values, i) => {
        for (let at = 0; at < values.length; at++) same &&= Object.is(values[at], whole[i]![at]);
      });
    }
  }
  for (let slot = 0; slot < 2 * rows; slot++) kernel.clear(slot);
  return same;
}

/** Rows `0 ... count - 1` read slots from 0 on and write those from `rows` on; gives all outputs and what was written. */
async function run(kernel: Kernel, cell: number, rows: number, count: number): Promise<ArrayLike<number>[]> {
  const spec = kernel.cells[cell]!;
  const width = kernel.read(0).length;
  for (let slot = 0; slot < rows; slot++) {
    kernel.write(
      slot,
      Float32Array.from({ length: width }, (_, i) => Math.sin((slot * width + i) * 12.9898)),
    );
  }
  for (const values of kernel.stage(cell, count, 1)) {
    const used = (values.length / kernel.maxBatch) * count;
    for (let i = 0; i < used; i++) {
      values[i] = values instanceof Int32Array ? 0 : Math.sin(i * 12.9898);
    }
  }
  const reads = Int32Array.from(
    { length: count * spec.reads },
    (_, i) => (Math.floor(i / spec.reads) + (i % spec.reads)) % rows,
  );
  const writes = Int32Array.from({ length: count }, (_, row) => rows + row);
  await kernel.run({ cell, rows: count, steps: 1, reads, writes });
  const outputs = spec.outputs.map(({ shape }, i) =>
    kernel.outputs(cell)[i]!.slice(0, count * sizeOf(shape)),
  );
  for (const values of kernel.stage(cell, count, 1)) values.fill(0);
  return [...outputs, ...(spec.writes ? Array.from(writes, (slot) => kernel.read(slot)) : [])];
}

const ROWS = 32;
/** Around the quanta that matrix kernels were found to have. */
const COUNTS = [1, 2, 5, 7, 12, 13, 31];
