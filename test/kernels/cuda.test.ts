import { describe, expect, it } from "vitest";
import { createCudaKernel } from "../../kernels/cuda/cuda.ts";
import { loadNative, nativeStatus } from "../../kernels/cuda/native.ts";
import { contractCells, kernelContract } from "../contracts/kernel.ts";

const native = loadNative();
const { reason, message } = nativeStatus();

describe("the native addon", () => {
  it("says why there is no GPU, and what to do", () => {
    expect(message).toMatch(reason === "ok" ? /^cells can run on / : /install|update|build|check|needs/);
  });

  it.skipIf(reason === "ok")("refuses to load cells in the same words", async () => {
    await expect(createCudaKernel()(contractCells)).rejects.toMatchObject({
      code: "MODEL_NOT_READY",
      message,
    });
  });
});

if (native) {
  kernelContract("native reference", (cells, maxBatch) =>
    createCudaKernel({ device: "host", maxBatch })(cells),
  );

  describe("the native reference kernel", () => {
    const open = () => createCudaKernel({ device: "host", maxBatch: 4 })(contractCells);

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
      expect(() => run([0, 1, 2, 3, 4], 1)).toThrow("5 rows are not 1 to maxBatch 4");
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
      await expect(createCudaKernel({ device: "host" })([cell])).rejects.toThrow(/cell 'closed' is of kind/);
    });
  });
} else it.skip(`the native reference kernel: ${message}`, () => {});

if (reason === "ok") {
  kernelContract("cuda", (cells, maxBatch) => createCudaKernel({ maxBatch })(cells));
} else it.skip(`the CUDA kernel: ${message}`, () => {});
