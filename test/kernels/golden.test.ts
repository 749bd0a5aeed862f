import { readFileSync } from "node:fs";
import "@tensorflow/tfjs-backend-cpu";
import * as tf from "@tensorflow/tfjs-core";
import { describe, expect, it } from "vitest";
import type { Kernel } from "../../kernels/kernel.ts";
import { createNativeKernel, type NativeOptions } from "../../kernels/native/kernel.ts";
import { loadNative, nativeStatus } from "../../kernels/native/load.ts";
import { OnnxKernel } from "../../kernels/onnx/onnx.ts";
import { ReferenceKernel } from "../../kernels/reference/reference.ts";
import { createTfjsKernel } from "../../kernels/tfjs/tfjs.ts";
import type { CellSpec, Matrix } from "../../src/core/cell.ts";

interface Stored {
  readonly shape: number[];
  readonly values: number[];
}

interface Golden {
  readonly weights: Record<string, Stored>;
  readonly inputs: Stored;
  readonly symbols: Stored;
  readonly memory: Stored;
  readonly mask: Stored;
  readonly initial: Record<string, Stored>;
  readonly nodes: { leaf?: number; left: number; right: number }[];
  readonly expected: Record<string, Stored>;
}

const load = (name: string) =>
  JSON.parse(readFileSync(new URL(`../golden/${name}.json`, import.meta.url), "utf8")) as Golden;
const matrix = ({ shape, values }: Stored): Matrix => ({
  rows: shape[0]!,
  columns: shape[1]!,
  data: Float32Array.from(values),
});
const vector = ({ values }: Stored) => Float32Array.from(values);

const BATCH = 3;
const HIDDEN = 6;
const state = (name: string) => ({ name, shape: [HIDDEN] });

function recurrent(kind: "lstm" | "gru", { weights }: Golden): CellSpec {
  const embedding = weights["embedding.weight"];
  const head = weights["head.weight"];
  return {
    name: kind,
    inputs: [
      embedding ? { name: "token", dtype: "int32", shape: [] } : { name: "x", dtype: "float32", shape: [4] },
    ],
    reads: 1,
    writes: true,
    states: kind === "lstm" ? [state("h"), state("c")] : [state("h")],
    outputs: head
      ? [
          { name: "logits", dtype: "float32", shape: [head.shape[0]!] },
          { name: "token", dtype: "int32", shape: [] },
        ]
      : [],
    body: {
      kind,
      weights: {
        hidden: HIDDEN,
        inputWeights: matrix(weights.weight_ih!),
        stateWeights: matrix(weights.weight_hh!),
        inputBias: vector(weights.bias_ih!),
        stateBias: vector(weights.bias_hh!),
      },
      ...(embedding ? { embedding: matrix(embedding) } : {}),
      ...(head ? { head: { weights: matrix(head), bias: vector(weights["head.bias"]!) } } : {}),
    },
  };
}

const kernels: (readonly [string, (cells: readonly CellSpec[]) => Promise<Kernel>, number])[] = [
  ["onnx", (cells) => OnnxKernel.load(cells, { maxBatch: 8 }), 2e-6],
  ["onnx without token tables", (cells) => OnnxKernel.load(cells, { maxBatch: 8, tableBytes: 0 }), 2e-6],
  ["reference", async (cells) => new ReferenceKernel(cells), 1e-6],
  [
    "tfjs",
    async (cells) => {
      await tf.setBackend("cpu");
      return createTfjsKernel(tf, { maxBatch: 8 })(cells);
    },
    2e-6,
  ],
  ...natives().map(
    (options) => [`native ${Object.values(options).join(" ")}`, createNativeKernel(options), 2e-6] as const,
  ),
];

/** The devices of the native kernel that are there. */
function natives(): NativeOptions[] {
  if (!loadNative()) return [];
  const { reason, vectorBits } = nativeStatus();
  return [
    { device: "reference" },
    ...([256, 512] as const)
      .filter((bits) => bits <= vectorBits)
      .map((bits): NativeOptions => ({ device: "cpu", vectorBits: bits })),
    ...(reason === "ok" ? [{ device: "cuda" } as const] : []),
  ];
}

function near(got: ArrayLike<number>, expected: ArrayLike<number>, tolerance: number): void {
  expect(got.length).toBe(expected.length);
  for (let i = 0; i < got.length; i++) expect(Math.abs(got[i]! - expected[i]!)).toBeLessThan(tolerance);
}

describe.each(kernels)("the %s kernel computes what PyTorch computes", (name, make, tolerance) => {
  it.each(["lstm", "gru"] as const)("for the %s cell", async (kind) => {
    const golden = load(kind);
    const kernel = await make([recurrent(kind, golden)]);
    kernel.reserve(BATCH);
    const names = Object.keys(golden.initial);
    const slots = Int32Array.from([0, 1, 2]);
    const rowOf = (stored: Stored, at: number) => stored.values.slice(at * HIDDEN, (at + 1) * HIDDEN);
    for (const slot of slots)
      kernel.write(slot, Float32Array.from(names.flatMap((name) => rowOf(golden.initial[name]!, slot))));
    for (let step = 0; step < golden.inputs.shape[0]!; step++) {
      kernel.stage(0, BATCH, 1)[0]!.set(golden.inputs.values.slice(step * BATCH * 4, (step + 1) * BATCH * 4));
      await kernel.run({ cell: 0, rows: BATCH, steps: 1, reads: slots, writes: slots });
      for (const slot of slots) {
        near(
          kernel.read(slot),
          names.flatMap((name) => rowOf(golden.expected[name]!, step * BATCH + slot)),
          tolerance,
        );
      }
    }
  });

  it("for an LSTM with embedding and head", async () => {
    const golden = load("embedded-lstm");
    const kernel = await make([recurrent("lstm", golden)]);
    kernel.reserve(BATCH);
    const slots = Int32Array.from([0, 1, 2]);
    const classes = golden.weights["head.weight"]!.shape[0]!;
    for (let step = 0; step < golden.symbols.shape[0]!; step++) {
      kernel.stage(0, BATCH, 1)[0]!.set(golden.symbols.values.slice(step * BATCH, (step + 1) * BATCH));
      await kernel.run({ cell: 0, rows: BATCH, steps: 1, reads: slots, writes: slots });
      const [logits, token] = kernel.outputs(0);
      const width = BATCH * classes;
      near(
        logits!.subarray(0, width),
        golden.expected.logits!.values.slice(step * width, (step + 1) * width),
        tolerance * 4,
      );
      expect([...token!.subarray(0, BATCH)]).toEqual(
        golden.expected.best!.values.slice(step * BATCH, (step + 1) * BATCH),
      );
    }
  });

  it.skipIf(name.startsWith("native"))(
    "for an LSTM that attends over memories of several lengths",
    async () => {
      const golden = load("attending-lstm");
      const { weights, memory, mask } = golden;
      const [places, size] = memory.shape.slice(1) as [number, number];
      const classes = weights["head.weight"]!.shape[0]!;
      const { body, ...chain } = recurrent("lstm", golden);
      if (body.kind !== "lstm") throw new Error(body.kind);
      const attention = {
        query: matrix(weights["attention.query.weight"]!),
        combine: matrix(weights["attention.combine.weight"]!),
        combineBias: vector(weights["attention.combine.bias"]!),
        memorySteps: places,
      };
      const kernel = await make([
        {
          ...chain,
          inputs: [
            ...chain.inputs,
            { name: "memory", dtype: "float32", shape: [places, size] },
            { name: "mask", dtype: "float32", shape: [places] },
          ],
          body: { ...body, kind: "lstm-attention", embedding: body.embedding!, head: body.head!, attention },
        },
      ]);
      kernel.reserve(BATCH);
      const slots = Int32Array.from([0, 1, 2]);
      const staged = kernel.stage(0, BATCH, 1);
      staged[1]!.set(memory.values);
      staged[2]!.set(mask.values);
      for (let step = 0; step < golden.symbols.shape[0]!; step++) {
        staged[0]!.set(golden.symbols.values.slice(step * BATCH, (step + 1) * BATCH));
        await kernel.run({ cell: 0, rows: BATCH, steps: 1, reads: slots, writes: slots });
        const width = BATCH * classes;
        const expected = golden.expected.logits!.values.slice(step * width, (step + 1) * width);
        near(kernel.outputs(0)[0]!.subarray(0, width), expected, tolerance * 4);
      }
    },
  );

  it("for a binary tree-LSTM", async () => {
    const golden = load("tree-lstm");
    const { weights, nodes, inputs, expected } = golden;
    const states = [state("h"), state("c")];
    const kernel = await make([
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
          weights: matrix(weights.weight_ih!),
          bias: vector(weights.bias_ih!),
        },
      },
      {
        name: "node",
        inputs: [],
        reads: 2,
        writes: true,
        states,
        outputs: [],
        body: {
          kind: "tree-node",
          hidden: HIDDEN,
          weights: matrix(weights.weight_hh!),
          bias: vector(weights.bias_hh!),
        },
      },
    ]);
    kernel.reserve(nodes.length * BATCH);
    const rows = [0, 1, 2];
    for (const [at, node] of nodes.entries()) {
      const writes = Int32Array.from(rows, (row) => at * BATCH + row);
      const isLeaf = node.leaf !== undefined;
      const reads = Int32Array.from(
        isLeaf ? [] : rows.flatMap((row) => [node.left * BATCH + row, node.right * BATCH + row]),
      );
      if (isLeaf) {
        const size = BATCH * 4;
        kernel.stage(0, BATCH, 1)[0]!.set(inputs.values.slice(node.leaf! * size, (node.leaf! + 1) * size));
      }
      await kernel.run({ cell: isLeaf ? 0 : 1, rows: BATCH, steps: 1, reads, writes });
      for (const row of rows) {
        const from = (at * BATCH + row) * HIDDEN;
        const both = ["h", "c"].flatMap((name) => expected[name]!.values.slice(from, from + HIDDEN));
        near(kernel.read(at * BATCH + row), both, tolerance);
      }
    }
  });
});
