import { describe, expect, it, onTestFinished } from "vitest";
import type { Kernel } from "../../kernels/kernel.ts";
import { DeviceEngine } from "../../kernels/native/device-engine.ts";
import { createNativeKernel } from "../../kernels/native/kernel.ts";
import { emulatedLibrary, loadEmulated, type Numbers, nativeStatus } from "../../kernels/native/load.ts";
import { ReferenceKernel } from "../../kernels/reference/reference.ts";
import { sizeOf } from "../../src/core/tensor.ts";
import { contractCells as allCells } from "../contracts/kernel.ts";
import { gruCell, lstmCell, noise } from "../fixtures/models.ts";

// Units and classes that fill no chunk, and rows of which some are not aligned.
const HIDDEN = 37;
const chains = [
  lstmCell("tokens", { hidden: HIDDEN, input: 19, symbols: 90, classes: 41 }),
  lstmCell("vectors", { hidden: HIDDEN, input: 19 }),
  gruCell("gru", HIDDEN, 19),
];
const bounds: readonly (readonly [Numbers, number])[] = [
  ["fp32", 1e-5],
  ["tf32", 1e-3],
  ["bf16", 1e-2],
];
/** All but trees of other forms, which the native kernel leaves to others. */
const contractCells = allCells.slice(0, 6);
/** Rows of a task and from how many on the library multiplies: for all, for the inputs of a call alone, for none. */
const sizes: readonly (readonly [rows: number, fromRows: number])[] = [
  [20, 16],
  [5, 16],
  [3, 64],
];
const file = emulatedLibrary();
const devices = [
  ...(loadEmulated() && file ? [{ device: "emulated" as const, file }] : []),
  ...(nativeStatus().reason === "ok" ? [{ device: "cuda" as const }] : []),
];
if (devices.length === 0)
  it.skip("products by cuBLASLt: there is neither a GPU nor an emulated one", () => {});

describe.each(devices)("products by cuBLASLt, device $device,", ({ device, ...of }) => {
  const open = (numbers: Numbers, maxBatch: number, fromRows: number) =>
    createNativeKernel({ device, numbers, maxBatch, library: { fromRows, ...of } });

  describe.each(sizes)("%i rows, the library from %i on,", (rows, fromRows) => {
    it.each(bounds)("in %s leave states and outputs near float64", async (numbers, bound) => {
      for (const cell of chains) {
        const kernel = await open(numbers, 8 * rows, fromRows)([cell]);
        onTestFinished(() => kernel.dispose());
        const reference = new ReferenceKernel([cell], { maxBatch: 8 * rows, stepSizes: [1] });
        const slots = Int32Array.from({ length: rows }, (_, row) => (row * 7 + 2) % rows);
        for (const one of [kernel, reference]) one.reserve(rows);
        const given: number[] = [];
        const expected: number[] = [];
        for (let call = 0; call < 3; call++) {
          const [staged] = kernel.stage(0, rows, 8);
          const size = staged!.length / (8 * rows);
          for (let i = 0; i < staged!.length; i++)
            staged![i] = staged instanceof Int32Array ? (i * 31 + call) % 90 : Math.sin(i + call);
          await kernel.run({ cell: 0, rows, steps: 8, reads: slots, writes: slots });
          for (let step = 0; step < 8; step++) {
            const from = staged!.subarray(step * rows * size, (step + 1) * rows * size);
            reference.stage(0)[0]!.set(from);
            await reference.run({ cell: 0, rows, steps: 1, reads: slots, writes: slots });
            cell.outputs.forEach(({ name, shape }, i) => {
              if (name === "token") return;
              const count = rows * sizeOf(shape);
              given.push(...kernel.outputs(0)[i]!.subarray(step * count, (step + 1) * count));
              expected.push(...reference.outputs(0)[i]!.subarray(0, count));
            });
          }
        }
        for (const slot of slots) {
          given.push(...kernel.read(slot));
          expected.push(...reference.read(slot));
        }
        expect(distance(given, expected), cell.name).toBeLessThan(bound);
      }
    });
  });

  it.each(bounds)(
    "in %s compute nodes of trees from two slots, and what has no slot",
    async (numbers, bound) => {
      const rows = 9;
      const kernel = await open(numbers, rows, 4)(contractCells);
      onTestFinished(() => kernel.dispose());
      const reference = new ReferenceKernel(contractCells, { maxBatch: rows, stepSizes: [1] });
      for (const one of [kernel, reference]) one.reserve(3 * rows);
      const size = reference.read(0).length;
      for (let cell = 0; cell < contractCells.length; cell++) {
        const { reads, writes, outputs } = contractCells[cell]!;
        const task = {
          ...{ cell, rows, steps: 1 },
          reads: Int32Array.from({ length: rows * reads }, (_, i) => (i * 5 + 1) % (2 * rows)),
          writes: Int32Array.from({ length: writes ? rows : 0 }, (_, row) => 2 * rows + row),
        };
        for (const one of [kernel, reference]) {
          for (let slot = 0; slot < 2 * rows; slot++) one.write(slot, noise(size, slot + 1));
          for (const values of one.stage(cell, rows, 1))
            for (let i = 0; i < values.length; i++)
              values[i] = values instanceof Int32Array ? i % 3 : Math.sin(i);
          await one.run(task);
        }
        const all = (one: Kernel) => [
          ...outputs.flatMap(({ name, shape }, i) =>
            name === "token" ? [] : [...one.outputs(cell)[i]!.subarray(0, rows * sizeOf(shape))],
          ),
          ...[...task.writes].flatMap((slot) => [...one.read(slot)]),
        ];
        expect(distance(all(kernel), all(reference)), contractCells[cell]!.name).toBeLessThan(bound);
      }
    },
  );

  it("say so in the kernel's name, and that rows get other bits in company", async () => {
    const kernel = await open("bf16", 40, 8)([chains[1]!]);
    onTestFinished(() => kernel.dispose());
    expect(kernel.name).toBe(`native/${device}/bf16/cublasLt`);
    expect(kernel.rowsAreIndependent).toBe(false);
  });

  it("are ours, bit for bit, where the library is not there", async () => {
    const missing = { fromRows: 1, file: "libcublasLt-of-nobody.so" };
    const kernels = await Promise.all(
      [missing, undefined].map((library) =>
        createNativeKernel({ device, numbers: "bf16", maxBatch: 12, ...(library ? { library } : {}) })([
          chains[0]!,
        ]),
      ),
    );
    const slots = Int32Array.from({ length: 12 }, (_, row) => row);
    const states = [];
    for (const kernel of kernels) {
      onTestFinished(() => kernel.dispose());
      expect(kernel.name).toBe(`native/${device}/bf16`);
      expect(kernel.rowsAreIndependent).toBe(true);
      kernel.reserve(12);
      for (const slot of slots) kernel.write(slot, noise(2 * HIDDEN, slot));
      kernel.stage(0, 12, 1)[0]!.fill(7);
      await kernel.run({ cell: 0, rows: 12, steps: 1, reads: slots, writes: slots });
      states.push([...slots].map((slot) => kernel.read(slot)));
    }
    expect(states[0]).toEqual(states[1]);
  });

  it("serve a device engine whose requests join and leave", async () => {
    const outputsWith = async (library?: { fromRows: number; file?: string }) => {
      const engine = DeviceEngine.open([chains[1]!], {
        ...{ device, numbers: "fp32", slots: 24, rows: 12 },
        ...(library ? { library } : {}),
      });
      onTestFinished(() => engine.close());
      for (let slot = 0; slot < 24; slot++) {
        const steps = 1 + (slot % 5);
        engine.commands.admit(slot, { cell: 0, steps, inputs: noise(19 * steps, slot) });
      }
      engine.submit(20);
      await engine.drain();
      return Float32Array.from(engine.outputs);
    };
    const [withLibrary, without] = [await outputsWith({ fromRows: 6, ...of }), await outputsWith()];
    expect(distance(withLibrary, without)).toBeLessThan(1e-6);
    expect(without.some((value) => value !== 0)).toBe(true);
  });
});

function distance(got: ArrayLike<number>, expected: ArrayLike<number>): number {
  expect(got.length).toBe(expected.length);
  const norm = (of: (i: number) => number) =>
    Math.sqrt(Array.from(got, (_, i) => of(i) ** 2).reduce((a, b) => a + b, 0));
  return norm((i) => got[i]! - expected[i]!) / norm((i) => expected[i]!);
}
