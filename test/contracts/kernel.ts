import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { Kernel } from "../../kernels/kernel.ts";
import { ReferenceKernel } from "../../kernels/reference/reference.ts";
import type { CellSpec } from "../../src/core/cell.ts";
import { lstmCell, noise } from "../fixtures/models.ts";

const HIDDEN = 6;
const states = ["h", "c"].map((name) => ({ name, shape: [HIDDEN] }));
const matrix = (rows: number, columns: number, seed: number) => ({
  rows,
  columns,
  data: noise(rows * columns, seed),
});

/** A node of a tree-LSTM that reads tokens too. */
function treeCell(kind: "tree-node" | "tree-child" | "tree-sum", reads: number, seed: number): CellSpec {
  const gates = { "tree-node": 3 + reads, "tree-child": 1, "tree-sum": 3 }[kind];
  const seen = kind === "tree-node" ? reads : 1;
  return {
    name: kind,
    inputs: [{ name: "token", dtype: "int32", shape: [] }],
    reads,
    writes: true,
    states,
    outputs: [{ name: "h", dtype: "float32", shape: [HIDDEN] }],
    body: {
      kind,
      hidden: HIDDEN,
      weights: matrix(gates * HIDDEN, seen * HIDDEN, seed),
      bias: noise(gates * HIDDEN, seed + 1),
      inputWeights: matrix(gates * HIDDEN, 4, seed + 2),
      embedding: matrix(5, 4, seed + 3),
    },
  };
}

/** Two chains that share states, trees of three forms and a head. */
export const contractCells: readonly CellSpec[] = [
  lstmCell("first", { hidden: HIDDEN, input: 4, symbols: 5 }),
  lstmCell("second", { hidden: HIDDEN, input: 4, symbols: 5, classes: 3 }),
  {
    name: "leaf",
    inputs: [{ name: "x", dtype: "float32", shape: [4] }],
    reads: 0,
    writes: true,
    states,
    outputs: [],
    body: {
      kind: "tree-leaf",
      hidden: HIDDEN,
      weights: matrix(3 * HIDDEN, 4, 11),
      bias: noise(3 * HIDDEN, 12),
    },
  },
  {
    name: "node",
    inputs: [],
    reads: 2,
    writes: true,
    states,
    outputs: [{ name: "h", dtype: "float32", shape: [HIDDEN] }],
    body: {
      kind: "tree-node",
      hidden: HIDDEN,
      weights: matrix(5 * HIDDEN, 2 * HIDDEN, 13),
      bias: noise(5 * HIDDEN, 14),
    },
  },
  {
    name: "head",
    inputs: [],
    reads: 1,
    writes: false,
    states: states.slice(0, 1),
    outputs: [{ name: "logits", dtype: "float32", shape: [3] }],
    body: { kind: "linear", head: { weights: matrix(3, HIDDEN, 15), bias: noise(3, 16) } },
  },
  lstmCell("vectors", { hidden: HIDDEN, input: 4 }),
  treeCell("tree-node", 3, 17),
  treeCell("tree-child", 2, 21),
  treeCell("tree-sum", 1, 25),
];
const [FIRST, SECOND, LEAF, NODE, HEAD, VECTORS, NARY, CHILD, SUM] = [0, 1, 2, 3, 4, 5, 6, 7, 8] as const;

export type MakeKernel = (cells: readonly CellSpec[], maxBatch: number) => Promise<Kernel>;

export interface ContractOptions {
  /** A kernel on which rows always run alone. @default the reference kernel */
  readonly oracle?: MakeKernel;
  /** The first ones of `contractCells`, for a kernel that computes no more. @default all of them */
  readonly cells?: readonly CellSpec[];
}

/** What every kernel must do, as tests. */
export function kernelContract(
  name: string,
  make: MakeKernel,
  { oracle = referenceAlone, cells = contractCells }: ContractOptions = {},
): void {
  describe(`the ${name} kernel`, () => {
    const both = async (maxBatch = 8) => {
      const pair = [await make(cells, maxBatch), await oracle(cells, maxBatch)] as const;
      for (const kernel of pair) kernel.reserve(16);
      return pair;
    };

    it("starts a slot at zero, and again after clear", async () => {
      const [kernel] = await both();
      await step(kernel, FIRST, [3], { tokens: [1] });
      const once = kernel.read(3);
      await step(kernel, FIRST, [3], { tokens: [1] });
      expect(kernel.read(3)).not.toEqual(once);
      kernel.clear(3);
      await step(kernel, FIRST, [3], { tokens: [1] });
      expect(kernel.read(3)).toEqual(once);
    });

    it("gives back what was written, and keeps it while it grows", async () => {
      const [kernel] = await both();
      await step(kernel, FIRST, [1, 2], { tokens: [1, 2] });
      const state = kernel.read(2);
      kernel.write(9, state);
      kernel.reserve(100);
      expect(kernel.read(9)).toEqual(state);
      expect(kernel.read(2)).toEqual(state);
    });

    it("reads one slot for several rows that write others, which is a fork", async () => {
      const [kernel, alone] = await both();
      for (const one of [kernel, alone]) {
        await step(one, FIRST, [0], { tokens: [2] });
        await step(one, FIRST, [4, 5, 0], { tokens: [1, 3, 4], reads: [0, 0, 0] });
      }
      for (const slot of [4, 5, 0]) near(kernel, kernel.read(slot), alone.read(slot));
    });

    it("refuses more rows times steps than it has room for", async () => {
      const [kernel] = await both();
      if (kernel.name !== "onnx") return;
      const slots = Int32Array.from({ length: 9 }, (_, slot) => slot);
      expect(() => kernel.run({ cell: FIRST, rows: 9, steps: 1, reads: slots, writes: slots })).toThrow(
        /maxBatch 8/,
      );
    });

    it("gives in k steps of one call what k calls give", async () => {
      const [kernel, single] = [await make(cells, 16), await make(cells, 16)];
      for (const one of [kernel, single]) one.reserve(4);
      for (const cell of [FIRST, SECOND, VECTORS]) {
        for (const steps of kernel.stepSizes(cell).filter((size) => 2 * size <= 16)) {
          const tokens = Array.from({ length: 2 * steps }, (_, i) => (i * 3) % 5);
          await step(kernel, cell, [1, 3], { tokens, steps });
          const together = outputsOf(kernel, cell, 2 * steps);
          const apart: number[][] = [];
          for (let at = 0; at < steps; at++) {
            await step(single, cell, [1, 3], { tokens: tokens.slice(2 * at, 2 * at + 2) });
            outputsOf(single, cell, 2).forEach((values, i) => {
              apart[i] = [...(apart[i] ?? []), ...values];
            });
          }
          together.forEach((values, i) => near(kernel, values, apart[i]!));
          for (const slot of [1, 3]) near(kernel, kernel.read(slot), single.read(slot));
        }
      }
    });

    it("gives every row what it gets alone, whatever joins, leaves, moves, forks or is cleared", async () => {
      const action = fc.record({
        cell: fc.constantFrom(
          ...[FIRST, FIRST, FIRST, SECOND, LEAF, NODE, HEAD, VECTORS, NARY, CHILD, SUM].filter(
            (cell) => cell < cells.length,
          ),
        ),
        slots: fc.uniqueArray(fc.nat(15), { minLength: 1, maxLength: 8 }),
        others: fc.array(fc.nat(15), { minLength: 24, maxLength: 24 }),
        forks: fc.boolean(),
        clears: fc.array(fc.nat(15), { maxLength: 2 }),
      });
      await fc.assert(
        fc.asyncProperty(fc.array(action, { minLength: 1, maxLength: 25 }), async (actions) => {
          const [kernel, alone] = await shared();
          for (const one of [kernel, alone]) for (let slot = 0; slot < 16; slot++) one.clear(slot);
          for (const { cell, slots, others, forks, clears } of actions) {
            const { reads } = contractCells[cell]!;
            const from = reads > 1 || forks ? others.slice(0, slots.length * reads) : slots;
            const tokens = slots.map((slot) => slot % 5);
            for (const one of [kernel, alone]) {
              await step(one, cell, slots, { tokens, reads: from });
              for (const slot of clears) one.clear(slot);
            }
            const [got, expected] = [kernel, alone].map((one) => outputsOf(one, cell, slots.length));
            const names = contractCells[cell]!.outputs.map(({ name }) => name);
            names.forEach((name, i) => {
              // In few bits two logits may be nearer than the error: a token is then that of its own logits.
              if (name === "token" && kernel.tolerance > 1e-4)
                expect(got![i]).toEqual(likeliest(got![names.indexOf("logits")]!, slots.length));
              else near(kernel, got![i]!, expected![i]!);
            });
          }
          for (let slot = 0; slot < 16; slot++) near(kernel, kernel.read(slot), alone.read(slot));
        }),
        { numRuns: 60 },
      );
    });

    it("reads frozen slots as before, and every row of such a task as it would alone", async () => {
      if (cells.length <= NODE) return;
      const [kernel, alone] = await both(16);
      for (const one of [kernel, alone]) {
        for (let slot = 0; slot < 8; slot++) one.write(slot, noise(2 * HIDDEN, slot + 1));
        one.freeze?.(2, 4);
      }
      const pairs = Array.from({ length: 16 }, (_, i) => [(i * 3) % 8, (i * 5 + 1) % 8] as const);
      const slots = pairs.map((_, i) => 8 + (i % 8));
      for (const some of [pairs.slice(0, 8), pairs.slice(8)]) {
        for (const one of [kernel, alone])
          await step(one, NODE, slots.slice(0, 8), { tokens: [], reads: some.flat() });
        const together = slots.slice(0, 8).map((slot) => kernel.read(slot));
        for (const [row, got] of together.entries()) {
          near(kernel, got, alone.read(slots[row]!));
          await step(kernel, NODE, [slots[row]!], { tokens: [], reads: some[row]! });
          if (kernel.rowsAreIndependent) expect(kernel.read(slots[row]!)).toEqual(got);
        }
      }
    });

    let kept: Promise<readonly [Kernel, Kernel]> | undefined;
    const shared = () => {
      kept ??= both();
      return kept;
    };
  });
}

const referenceAlone: MakeKernel = async (cells, maxBatch) => new ReferenceKernel(cells, { maxBatch });

interface StepOptions {
  readonly tokens: readonly number[];
  readonly steps?: number;
  readonly reads?: readonly number[];
}

async function step(
  kernel: Kernel,
  cell: number,
  slots: readonly number[],
  options: StepOptions,
): Promise<void> {
  const { tokens, steps = 1, reads = slots } = options;
  const rows = slots.length;
  const [staged] = kernel.stage(cell, rows, steps);
  tokens.forEach((token, i) => {
    if (staged instanceof Int32Array) staged[i] = token;
    else staged?.set([token, token / 2, -token, 1], 4 * i);
  });
  await kernel.run({ cell, rows, steps, reads: Int32Array.from(reads), writes: Int32Array.from(slots) });
}

function outputsOf(kernel: Kernel, cell: number, rows: number): number[][] {
  return contractCells[cell]!.outputs.map(({ shape }, i) => [
    ...kernel.outputs(cell)[i]!.subarray(0, rows * shape.reduce((product, dim) => product * dim, 1)),
  ]);
}

/** By row, the first of the greatest logits. */
function likeliest(logits: readonly number[], rows: number): number[] {
  const width = logits.length / rows;
  return Array.from({ length: rows }, (_, row) => {
    const own = logits.slice(row * width, (row + 1) * width);
    return own.indexOf(Math.max(...own));
  });
}

/** Equal to the kernel's tolerance, which is of one step; states keep errors of at most some 25 steps. */
function near(kernel: Kernel, got: ArrayLike<number>, expected: ArrayLike<number>): void {
  expect(got.length).toBe(expected.length);
  for (let i = 0; i < got.length; i++) {
    expect(Math.abs(got[i]! - expected[i]!)).toBeLessThanOrEqual(
      25 * kernel.tolerance * Math.max(1, Math.abs(expected[i]!)),
    );
  }
}
