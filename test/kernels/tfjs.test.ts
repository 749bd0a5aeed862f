import * as tf from "@tensorflow/tfjs-core";
import "@tensorflow/tfjs-backend-cpu";
import "@tensorflow/tfjs-backend-wasm";
import { expect, it, onTestFinished } from "vitest";
import { createTfjsKernel } from "../../kernels/tfjs/tfjs.ts";
import { contractCells, kernelContract } from "../contracts/kernel.ts";

for (const backend of ["cpu", "wasm"]) {
  kernelContract(`tfjs (${backend})`, async (cells, maxBatch) => {
    if (!(await tf.setBackend(backend))) throw new Error(`tfjs has no backend '${backend}'`);
    return createTfjsKernel(tf, { maxBatch })(cells);
  });
}

const open = async () => {
  await tf.setBackend("cpu");
  const kernel = await createTfjsKernel(tf, { maxBatch: 8 })(contractCells);
  onTestFinished(() => kernel.dispose());
  kernel.reserve(64);
  return kernel;
};
const step = async (kernel: Awaited<ReturnType<typeof open>>, slots: number[]) => {
  kernel.stage(0, slots.length, 1)[0]!.fill(1);
  const places = Int32Array.from(slots);
  await kernel.run({ cell: 0, rows: slots.length, steps: 1, reads: places, writes: places });
};

it("keeps as many tensors as states live, whatever comes and goes", async () => {
  const kernel = await open();
  await step(kernel, [0, 1, 2, 3]);
  const before = tf.memory().numTensors;
  for (let round = 0; round < 50; round++) {
    const slots = [0, 1, 2, 3].map((row) => (round + row * 7) % 64);
    await step(kernel, slots);
    for (const slot of slots) kernel.clear(slot);
  }
  await step(kernel, [0, 1, 2, 3]);
  expect(tf.memory().numTensors).toBeLessThanOrEqual(before);
});

it("does not keep a whole task's states for one slot that waits", async () => {
  const kernel = await open();
  const bytes = () => tf.memory().numBytes;
  const before = bytes();
  for (let round = 0; round < 60; round++) {
    await step(kernel, [round, 60, 61, 62, 63]);
  }
  const stateBytes = 4 * 2 * 6;
  expect(bytes() - before).toBeLessThanOrEqual(stateBytes * (2 * 64 + 256 + 5));
});

it("says what it holds on the device", async () => {
  await tf.setBackend("cpu");
  const before = tf.memory().numBytes;
  const kernel = await createTfjsKernel(tf)(contractCells);
  kernel.reserve(8);
  const fresh = kernel.bytes!;
  await step(kernel, [0, 1, 2]);
  // States of three slots, two of six values each.
  expect(kernel.bytes! - fresh).toBe(4 * 3 * 2 * 6);
  const places = contractCells.flatMap(({ inputs, outputs }) => [...inputs, ...outputs]);
  const values = places.reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0);
  expect(kernel.bytes! - 4 * 256 * values).toBe(tf.memory().numBytes - before);
  kernel.dispose();
});

it("gives back all of the device's memory", async () => {
  await tf.setBackend("cpu");
  const before = tf.memory().numTensors;
  const kernel = await createTfjsKernel(tf)(contractCells);
  await step(kernel, [0, 1]);
  kernel.dispose();
  expect(tf.memory().numTensors).toBe(before);
});

it("refuses a cell that it cannot compute, by name", async () => {
  const cell = { ...contractCells[0]!, name: "closed", body: { kind: "none" } } as const;
  await expect(createTfjsKernel(tf)([cell])).rejects.toThrow(/cell 'closed' is of kind 'none'/);
});
