import { describe, expect, it, onTestFinished } from "vitest";
import type { Kernel } from "../../kernels/kernel.ts";
import { DeviceEngine } from "../../kernels/native/device-engine.ts";
import { createNativeKernel } from "../../kernels/native/kernel.ts";
import { loadEmulated, type Numbers, nativeFor, nativeStatus } from "../../kernels/native/load.ts";
import { ReferenceKernel } from "../../kernels/reference/reference.ts";
import type { CellSpec } from "../../src/core/cell.ts";
import { advance, sample, uniformOf } from "../../src/engine/sampling.ts";
import { gruCell, lstmCell } from "../fixtures/models.ts";

// Units that fill neither a block nor a chunk of the tensor cores.
const HIDDEN = 37;
const SYMBOLS = 90;
const tokens = lstmCell("tokens", { hidden: HIDDEN, input: 19, symbols: SYMBOLS, classes: SYMBOLS });
const cells = [tokens, lstmCell("vectors", { hidden: HIDDEN, input: 19 }), gruCell("gru", HIDDEN, 19)];
/** Of the norm of all rows' states after up to 64 steps, against float64. */
const bounds: readonly (readonly [Numbers, number])[] = [
  ["fp32", 1e-5],
  ["tf32", 1e-3],
  ["bf16", 1e-2],
];

const devices = [
  ...(loadEmulated() ? (["emulated"] as const) : []),
  ...(nativeStatus().reason === "ok" ? (["cuda"] as const) : []),
];
if (devices.length === 0) it.skip("the CUDA kernels: there is neither a GPU nor an emulated one", () => {});

describe.each(devices)("the CUDA kernels, device %s,", (device) => {
  // Up to 64 rows, several steps are one launch whose blocks wait for each other.
  describe.each([
    [1, 64],
    [36, 16],
    [66, 16],
  ])("with %i rows, %i steps", (rows, steps) => {
    // Multiplications in float32 are slow to emulate, and the same kernel whatever the rows.
    it.each(bounds.filter(([numbers]) => numbers !== "fp32" || rows < 36))(
      "in %s stay near float64, and give each row what it gets alone",
      async (numbers, bound) => {
        for (const cell of cells) {
          const make = (maxBatch: number) => createNativeKernel({ device, numbers, maxBatch })([cell]);
          const [kernel, alone] = [await make(8 * rows), await make(1)];
          const reference = new ReferenceKernel([cell], { maxBatch: rows, stepSizes: [1] });
          const last = rows - 1;
          const slots = Int32Array.from({ length: rows }, (_, row) => (row * 7) % rows);
          for (const one of [kernel, reference]) one.reserve(rows);
          alone.reserve(1);
          for (let step = 0; step < steps; step += 8) {
            fill(kernel.stage(0, rows, 8)[0]!, cell, rows, step, 8);
            await kernel.run({ cell: 0, rows, steps: 8, reads: slots, writes: slots });
            for (let at = step; at < step + 8; at++) {
              const [staged] = reference.stage(0);
              fill(staged!, cell, rows, at, 1);
              const size = staged!.length / rows;
              alone.stage(0, 1, 1)[0]!.set(staged!.subarray(last * size, rows * size));
              await reference.run({ cell: 0, rows, steps: 1, reads: slots, writes: slots });
              await alone.run({ cell: 0, rows: 1, steps: 1, reads: NOUGHT, writes: NOUGHT });
            }
          }
          const all = (one: Kernel) => Float32Array.from([...slots].flatMap((slot) => [...one.read(slot)]));
          expect(distance(all(kernel), all(reference)), cell.name).toBeLessThan(bound);
          expect(kernel.read(slots[last]!)).toEqual(alone.read(0));
          const of = (one: typeof kernel, row: number, output: number, size: number) => [
            ...one.outputs(0)[output]!.subarray(row * size, (row + 1) * size),
          ];
          cell.outputs.forEach(({ shape }, output) => {
            const size = shape[0] ?? 1;
            expect(of(kernel, 7 * rows + last, output, size)).toEqual(of(alone, 0, output, size));
          });
          for (const one of [kernel, alone]) await one.dispose();
        }
      },
    );
  });

  it.each(bounds)("in %s draw the tokens that the engine draws from the same logits", async (numbers) => {
    const count = 60;
    const engine = DeviceEngine.open([tokens], {
      device,
      numbers,
      slots: count,
      rows: 16,
      tokens: 1,
    });
    onTestFinished(() => engine.close());
    const sampling = (slot: number) => ({
      temperature: [0.3, 1, 8][slot % 3]!,
      topK: [0, 1, 5, 40, 500][slot % 5]!,
      topP: [1, 0.9, 0.2, 0.01][slot % 4]!,
    });
    for (let slot = 0; slot < count; slot++) {
      engine.commands.admit(slot, {
        ...{
          cell: 0,
          steps: 1 + (slot % 3),
          inputs: Int32Array.from({ length: 1 + (slot % 3) }, (_, i) => (slot + i) % SYMBOLS),
        },
        generate: { most: 1, sampling: sampling(slot), seed: slot * 7919 },
      });
    }
    engine.submit(40);
    await engine.drain();
    const drawn: number[] = [];
    const expected: number[] = [];
    engine.poll((slot) => {
      const logits = engine.outputs.slice(slot * engine.width + 2 * HIDDEN, (slot + 1) * engine.width);
      drawn.push(engine.tokens[slot]!);
      expected.push(sample(logits, 0, SYMBOLS, sampling(slot), uniformOf(advance(slot * 7919))));
    });
    expect(drawn).toHaveLength(count);
    expect(drawn).toEqual(expected);
    expect(new Set(drawn).size).toBeGreaterThan(10);
  });
});

describe.each(devices)("an empty barrier, device %s,", (device) => {
  const native = nativeFor({ device });

  it("lets all blocks of a launch meet as often as they are told", () => {
    // Whatever it takes: where a block does not come, this throws.
    expect(native.barrier(0, 5, 7)).toSatisfy(Number.isFinite);
  });

  it("is refused where the arrivals cannot be counted", () => {
    expect(() => native.barrier(0, 128, 1 << 24)).toThrow(
      "16777216 barriers of 128 blocks cannot be counted",
    );
    expect(() => native.barrier(0, 0, 1)).toThrow("1 barriers of 0 blocks");
  });
});

const NOUGHT = Int32Array.of(0);

/** The same input of a row and step, however many are staged. */
function fill(
  staged: Float32Array | Int32Array,
  { inputs }: CellSpec,
  rows: number,
  from: number,
  steps: number,
): void {
  const size = inputs[0]!.shape[0] ?? 1;
  for (let i = 0; i < rows * steps * size; i++) {
    const at = from * rows * size + i;
    staged[i] = staged instanceof Int32Array ? (at * 31) % SYMBOLS : Math.sin(at);
  }
}

function distance(got: Float32Array, expected: Float32Array): number {
  const norm = (of: (i: number) => number) => Math.hypot(...got.map((_, i) => of(i)));
  return norm((i) => got[i]! - expected[i]!) / norm((i) => expected[i]!);
}
