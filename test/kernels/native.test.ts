import { describe, expect, it } from "vitest";
import { canRunNatively } from "../../kernels/native/cells.ts";
import { createNativeKernel } from "../../kernels/native/kernel.ts";
import { loadEmulated, loadNative, type Numbers, nativeStatus } from "../../kernels/native/load.ts";
import { ReferenceKernel } from "../../kernels/reference/reference.ts";
import { contractCells, kernelContract } from "../contracts/kernel.ts";
import { gruCell, lstmCell } from "../fixtures/models.ts";

const cells = contractCells.filter(canRunNatively);
const native = loadNative();
const { reason, message, vectorBits } = nativeStatus();

describe("the native addon", () => {
  it("says why there is no GPU, and what to do", () => {
    expect(message).toMatch(reason === "ok" ? /^cells can run on / : /install|update|build|check|needs/);
  });

  it.skipIf(reason === "ok")("refuses to load cells in the same words", async () => {
    await expect(createNativeKernel({ device: "cuda" })(contractCells)).rejects.toMatchObject({
      code: "MODEL_NOT_READY",
      message,
    });
  });
});

if (native) {
  kernelContract(
    "native reference",
    (some, maxBatch) => createNativeKernel({ device: "reference", maxBatch })(some),
    { cells },
  );

  for (const bits of [256, 512] as const) {
    if (vectorBits < bits)
      it.skip(`the native CPU kernel: this processor has no vectors of ${bits} bits`, () => {});
    else {
      kernelContract(
        `native CPU (${bits} bits)`,
        (some, maxBatch) => createNativeKernel({ device: "cpu", vectorBits: bits, maxBatch })(some),
        { cells },
      );
    }
  }

  describe("the native CPU kernel, over units that fill no panel", () => {
    const hidden = 37;
    const cells = [
      lstmCell("tokens", { hidden, input: 19, symbols: 11, classes: 21 }),
      lstmCell("vectors", { hidden, input: 19 }),
      gruCell("gru", hidden, 19),
    ];
    const devices = ([256, 512] as const).filter((bits) => bits <= vectorBits);

    it.each(devices)("gives with %i bits what float64 gives, whatever the rows and steps", async (bits) => {
      for (const [index, cell] of cells.entries()) {
        const kernel = await createNativeKernel({ device: "cpu", vectorBits: bits, maxBatch: 64 })([cell]);
        const reference = new ReferenceKernel([cell], { maxBatch: 64, stepSizes: [1, 2, 4, 8] });
        for (const one of [kernel, reference]) one.reserve(64);
        for (const [rows, steps] of [1, 2, 3, 5, 6, 7, 13].flatMap((rows) => [
          [rows, 1] as const,
          [rows, 4] as const,
        ])) {
          const slots = Int32Array.from({ length: rows }, (_, row) => (row * 5 + index) % 64);
          for (const one of [kernel, reference]) {
            const [staged] = one.stage(0, rows, steps);
            for (let i = 0; i < staged!.length; i++)
              staged![i] = staged instanceof Int32Array ? i % 11 : Math.sin(i);
            await one.run({ cell: 0, rows, steps, reads: slots, writes: slots });
          }
          cell.outputs.forEach(({ name, shape }, output) => {
            const count = rows * steps * (shape[0] ?? 1);
            const [got, expected] = [kernel, reference].map((one) =>
              one.outputs(0)[output]!.subarray(0, count),
            );
            for (let i = 0; i < count; i++) {
              const far = Math.abs(got![i]! - expected![i]!);
              expect(far, `${cell.name}.${name} of ${rows} rows and ${steps} steps`).toBeLessThan(2e-5);
            }
          });
        }
        await kernel.dispose();
      }
    });
  });

  describe("the native reference kernel", () => {
    const open = () => createNativeKernel({ device: "reference", maxBatch: 4 })(cells);

    it("refuses slots and tokens that are not there, and goes on", async () => {
      const kernel = await open();
      kernel.reserve(4);
      const run = (slots: number[], token: number) => {
        kernel.stage(0, slots.length, 1)[0]!.fill(token);
        const places = Int32Array.from(slots);
        return kernel.run({ cell: 0, rows: slots.length, steps: 1, reads: places, writes: places });
      };
      expect(() => run([1000], 1)).toThrow("slot 1000 is not 0 to");
      expect(() => run([0], 5)).toThrow("token 5 is not 0 to 4");
      expect(() => run([0, 1, 2, 3, 4], 1)).toThrow("5 rows of 1 steps are not 1 to maxBatch 4");
      expect(() => kernel.read(1000)).toThrow("there is no slot 1000");
      run([0], 1);
      expect(kernel.read(0).some((value) => value !== 0)).toBe(true);
    });

    it("says that it was closed, and keeps its buffers", async () => {
      const kernel = await open();
      const [staged] = kernel.stage(0, 1, 1);
      await kernel.dispose();
      expect(() => kernel.read(0)).toThrow("the device was closed");
      staged!.fill(3);
      expect(staged![0]).toBe(3);
    });

    it("refuses a cell that is an ONNX graph, by name", async () => {
      const cell = { ...contractCells[0]!, name: "closed", body: { kind: "none" } } as const;
      await expect(createNativeKernel({ device: "reference" })([cell])).rejects.toThrow(
        /cell 'closed' is of kind/,
      );
    });
  });
} else it.skip(`the native reference kernel: ${message}`, () => {});

const numbers: readonly Numbers[] = ["fp32", "tf32", "bf16"];

if (loadEmulated()) {
  for (const one of numbers) {
    kernelContract(
      `emulated CUDA, ${one},`,
      (some, maxBatch) => createNativeKernel({ device: "emulated", numbers: one, maxBatch })(some),
      { cells },
    );
  }
} else it.skip("the emulated CUDA kernel: 'npm run build:native -- --emulated' builds it", () => {});

if (reason === "ok") {
  for (const one of numbers) {
    kernelContract(
      `cuda, ${one},`,
      (some, maxBatch) => createNativeKernel({ device: "cuda", numbers: one, maxBatch })(some),
      { cells },
    );
  }
} else it.skip(`the CUDA kernel: ${message}`, () => {});
