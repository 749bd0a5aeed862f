import type { Kernel } from "../../kernels/kernel.ts";
import { createNativeKernel } from "../../kernels/native/kernel.ts";
import type { DeviceChoice, Numbers } from "../../kernels/native/load.ts";
import { lstmCell, tokenCell } from "../../src/bench/synthetic.ts";

const STEPS = 64;
const ROWS = 70;
const HIDDEN = 200;

/** Of the norm of all rows' states after 64 steps, against float64 sums. */
const BOUNDS: Readonly<Record<Numbers, number>> = { fp32: 1e-5, tf32: 1e-3, bf16: 1e-2 };

/**
 * Answers by how much the states are off. Throws where that is too much, or where a row does not get the same bits alone, one
 * step a call, as in company, several steps a call, where no library multiplies: what is wrong need not be timed.
 */
export async function checkNumbers(choice: DeviceChoice): Promise<number> {
  let worst = 0;
  for (const cell of [lstmCell(HIDDEN), tokenCell(HIDDEN)]) {
    const few = ROWS / 2;
    const open = (of: DeviceChoice, rows: number) =>
      createNativeKernel({ ...of, maxBatch: 8 * rows })([{ ...cell, outputs: [] }]);
    const kernel = await open(choice, ROWS);
    // What is asked for is measured, or nothing.
    if (choice.library && !kernel.name.endsWith("/cublasLt"))
      throw new Error("there is no cuBLASLt for this version of CUDA: name its folder in LD_LIBRARY_PATH");
    const exact = await statesOf(await open({ device: "reference" }, ROWS), 0, ROWS, 8);
    const together = await statesOf(kernel, 0, ROWS, 8);
    const off = norm(together.map((value, i) => value - exact[i]!)) / norm(exact);
    const bound = BOUNDS[choice.numbers ?? "fp32"];
    if (!(off <= bound)) throw new Error(`${cell.name}: states are off by ${off}, more than ${bound}`);
    worst = Math.max(worst, off);
    // A library promises no bits.
    if (choice.library) continue;
    const alone = await statesOf(await open(choice, 1), 3, 1, 1);
    const halved = await statesOf(await open(choice, few), 0, few, 8);
    const row = together.subarray(3 * 2 * HIDDEN, 4 * 2 * HIDDEN);
    if (!isSame(row, alone)) throw new Error(`${cell.name}: a row gets other bits alone than among ${ROWS}`);
    if (!isSame(together.subarray(0, halved.length), halved)) {
      throw new Error(`${cell.name}: ${few} rows get other bits than among ${ROWS}`);
    }
  }
  return worst;
}

/** All rows' states; rows are numbered from `first` on, by which their inputs differ. */
async function statesOf(kernel: Kernel, first: number, rows: number, steps: number): Promise<Float32Array> {
  kernel.reserve(rows);
  const slots = Int32Array.from({ length: rows }, (_, row) => row);
  for (let step = 0; step < STEPS; step += steps) {
    const [staged] = kernel.stage(0, rows, steps);
    const size = staged instanceof Int32Array ? 1 : HIDDEN;
    for (let s = 0; s < steps; s++) {
      for (let row = 0; row < rows; row++) {
        for (let i = 0; i < size; i++) {
          const seed = (step + s) * 131 + (first + row) * 31 + i;
          staged![(s * rows + row) * size + i] = size === 1 ? seed & 255 : Math.sin(seed);
        }
      }
    }
    await kernel.run({ cell: 0, rows, steps, reads: slots, writes: slots });
  }
  const states = Float32Array.from([...slots].flatMap((slot) => [...kernel.read(slot)]));
  await kernel.dispose();
  return states;
}

function norm(values: Float32Array): number {
  return Math.sqrt(values.reduce((sum, value) => sum + value * value, 0));
}

function isSame(some: Float32Array, others: Float32Array): boolean {
  return some.length === others.length && some.every((value, i) => value === others[i]);
}
