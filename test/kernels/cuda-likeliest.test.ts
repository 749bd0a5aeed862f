import { describe, expect, it, onTestFinished } from "vitest";
import { createNativeKernel } from "../../kernels/native/kernel.ts";
import { loadEmulated, type Numbers, nativeStatus } from "../../kernels/native/load.ts";
import type { CellSpec } from "../../src/core/cell.ts";
import { lstmCell } from "../fixtures/models.ts";

const HIDDEN = 37;
const SYMBOLS = 23;
const devices = [
  ...(loadEmulated() ? (["emulated"] as const) : []),
  ...(nativeStatus().reason === "ok" ? (["cuda"] as const) : []),
];
const numbers: readonly Numbers[] = ["fp32", "tf32", "bf16"];
/** Of classes: fewer than a block has, some blocks, and more blocks than a warp has lanes. */
const heads: readonly (readonly [rows: number, classes: number])[] = [
  [3, 5],
  [40, 90],
  [5, 1100],
];
if (devices.length === 0) it.skip("likeliest tokens: there is neither a GPU nor an emulated one", () => {});

describe.each(devices)("logits and the likeliest token in one kernel, device %s,", (device) => {
  describe.each(numbers)("in %s", (kind) => {
    const run = async (cell: CellSpec, rows: number) => {
      const kernel = await createNativeKernel({ device, numbers: kind, maxBatch: 2 * rows })([cell]);
      onTestFinished(() => kernel.dispose());
      kernel.reserve(rows);
      const slots = Int32Array.from({ length: rows }, (_, row) => row);
      const outputs: ArrayLike<number>[] = [];
      // The third time the task is a graph.
      for (let call = 0; call < 3; call++) {
        const [staged] = kernel.stage(0, rows, 2);
        for (let i = 0; i < 2 * rows; i++) staged![i] = (i * 31 + call * 7) % SYMBOLS;
        await kernel.run({ cell: 0, rows, steps: 2, reads: slots, writes: slots });
        outputs.push(...kernel.outputs(0).map((values) => values.slice()));
      }
      return outputs;
    };

    it.each(heads)("for %i rows and %i classes give the first of the greatest", async (rows, classes) => {
      const cell = headed(classes, (at) => at % 7 === 3);
      const found = await run(cell, rows);
      const seen = new Set<number>();
      for (let call = 0; call < 3; call++) {
        const [logits, tokens] = [found[2 * call]!, found[2 * call + 1]!];
        for (let row = 0; row < 2 * rows; row++) {
          const of = Array.from({ length: classes }, (_, at) => logits[row * classes + at]!);
          expect(of.filter(Number.isNaN)).toHaveLength(Math.ceil((classes - 3) / 7));
          const greatest = Math.max(...of.filter((value) => !Number.isNaN(value)));
          expect(tokens[row]).toBe(of.indexOf(greatest));
          seen.add(tokens[row]!);
        }
      }
      expect(seen.size).toBeGreaterThan(classes > 5 ? 1 : 0);
    });

    it("give the same tokens where logits are not asked for", async () => {
      const cell = headed(90, () => false);
      const both = await run(cell, 40);
      const alone = await run({ ...cell, outputs: cell.outputs.slice(1) }, 40);
      expect(alone).toEqual(both.filter((_, i) => i % 2 === 1));
    });

    it("give token 0 where all logits are NaN", async () => {
      const found = await run(
        headed(40, () => true),
        2,
      );
      expect([...Array.from(found[1]!)]).toEqual([0, 0, 0, 0]);
    });
  });
});

/** A cell whose classes come in pairs of equal logits, and whose logits are NaN where that is said. */
function headed(classes: number, isNaNAt: (at: number) => boolean): CellSpec {
  const cell = lstmCell("tokens", { hidden: HIDDEN, input: 19, symbols: SYMBOLS, classes });
  if (cell.body.kind !== "lstm") throw new Error("not an LSTM");
  const { weights, bias } = cell.body.head!;
  const data = weights.data.map(
    (_, i) => weights.data[(Math.floor(i / HIDDEN) >> 1) * HIDDEN + (i % HIDDEN)]! * 3,
  );
  return {
    ...cell,
    body: {
      ...cell.body,
      head: {
        weights: { ...weights, data },
        bias: bias!.map((_, at) => (isNaNAt(at) ? Number.NaN : bias![at >> 1]! * 0.1)),
      },
    },
  };
}
