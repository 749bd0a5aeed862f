import fc from "fast-check";
import onnxProto from "onnx-proto";
import { InferenceSession, Tensor } from "onnxruntime-node";
import { describe, expect, it, onTestFinished } from "vitest";
import { programBits } from "../../kernels/native/program.ts";
import { convolutionsOf, denseForm, makeDense, makeFrames } from "../../kernels/onnx/dense-convolution.ts";
import { FLOAT, GraphBuilder } from "../../kernels/onnx/graph.ts";
import { improveGraph } from "../../kernels/onnx/improve.ts";
import { inlineBranches } from "../../kernels/onnx/inline-branches.ts";
import { OnnxKernel } from "../../kernels/onnx/onnx.ts";
import { rowProgram } from "../../kernels/onnx/row-program.ts";
import { givenGraph } from "../../kernels/onnx/step-graph.ts";
import { readModel } from "../../models/read-model.ts";
import { zooModels } from "../../models/zoo.ts";
import type { CellSpec } from "../../src/core/cell.ts";
import { kernelsFor } from "../../src/engine/kernels.ts";

const { onnx } = onnxProto;
type Graph = Parameters<typeof convolutionsOf>[0];

/** A convolution over rows of `shape`, and everything that may be said of one. */
interface Conv {
  readonly shape: readonly number[];
  readonly filters: number;
  readonly kernel: readonly number[];
  readonly groups: number;
  readonly strides: readonly number[];
  readonly dilations: readonly number[];
  readonly pads: readonly number[];
  readonly bias: boolean;
}

const conv: fc.Arbitrary<Conv> = fc.integer({ min: 1, max: 2 }).chain((axes) => {
  const each = (min: number, max: number) =>
    fc.array(fc.integer({ min, max }), { minLength: axes, maxLength: axes });
  return fc
    .record({
      groups: fc.constantFrom(1, 1, 2),
      channels: fc.integer({ min: 1, max: 3 }),
      size: each(3, 8),
      filters: fc.integer({ min: 1, max: 3 }),
      kernel: each(1, 3),
      strides: each(1, 3),
      dilations: each(1, 2),
      pads: fc.array(fc.integer({ min: 0, max: 2 }), { minLength: 2 * axes, maxLength: 2 * axes }),
      bias: fc.boolean(),
    })
    .map(({ groups, channels, size, filters, ...rest }) => ({
      ...rest,
      groups,
      shape: [groups * channels, ...size],
      filters: groups * filters,
    }))
    .filter(({ shape, kernel, dilations, pads }) =>
      kernel.every(
        (k, axis) => dilations[axis]! * (k - 1) < shape[axis + 1]! + pads[axis]! + pads[axis + axes]!,
      ),
    );
});

function noise(length: number, seed: number): Float32Array {
  return Float32Array.from({ length }, (_, i) => Math.sin((i + seed) * 12.9898));
}

function graphOf({ shape, filters, kernel, groups, strides, dilations, pads, bias }: Conv) {
  const b = new GraphBuilder();
  const x = b.input("x", FLOAT, ["rows", ...shape]);
  const dims = [filters, shape[0]! / groups, ...kernel];
  const weights = b.weights(
    dims,
    noise(
      dims.reduce((a, c) => a * c, 1),
      5,
    ),
  );
  const inputs = bias ? [x, weights, b.weights([filters], noise(filters, 9))] : [x, weights];
  b.node("Conv", inputs, { group: groups, strides, dilations, pads }, "y");
  b.output("y", FLOAT, []);
  return onnx.ModelProto.decode(b.encode());
}

async function outputOf(model: onnxProto.onnx.ModelProto, shape: readonly number[], rows: number) {
  for (const output of model.graph!.output!) delete output.type!.tensorType!.shape;
  const session = await InferenceSession.create(onnx.ModelProto.encode(model).finish(), {
    logSeverityLevel: 4,
  });
  const dims = [rows, ...shape];
  const { y } = await session.run({
    x: new Tensor(
      "float32",
      noise(
        dims.reduce((a, b) => a * b, 1),
        1,
      ),
      dims,
    ),
  });
  await session.release();
  return { dims: y!.dims, data: [...(y!.data as Float32Array)] };
}

function expectSame(actual: { dims: readonly number[]; data: number[] }, expected: typeof actual): void {
  expect(actual.dims).toEqual(expected.dims);
  expected.data.forEach((value, i) => expect(Math.abs(actual.data[i]! - value)).toBeLessThan(1e-5));
}

describe("a convolution over few fixed places", () => {
  it("gives the same as a matrix", async () => {
    await fc.assert(
      fc.asyncProperty(conv, async (one) => {
        const model = graphOf(one);
        const [found] = convolutionsOf(model.graph as Graph);
        const expected = await outputOf(graphOf(one), one.shape, 3);
        makeDense(model.graph as Graph, found!, denseForm(found!, one.shape, 1e6)!);
        expectSame(await outputOf(model, one.shape, 3), expected);
      }),
      { numRuns: 60 },
    );
  });

  it("gives the same as the product of its windows, where there is no padding", async () => {
    let compared = 0;
    await fc.assert(
      fc.asyncProperty(conv, async (one) => {
        const model = graphOf({ ...one, pads: one.pads.map(() => 0) });
        const [found] = convolutionsOf(model.graph as Graph);
        if (!makeFrames(model.graph as Graph, found!, one.shape)) return;
        compared++;
        const expected = await outputOf(graphOf({ ...one, pads: one.pads.map(() => 0) }), one.shape, 3);
        expectSame(await outputOf(model, one.shape, 3), expected);
      }),
      { numRuns: 200 },
    );
    expect(compared).toBeGreaterThan(5);
  });

  it("is left alone where the matrix would be large", () => {
    const one: Conv = {
      shape: [4, 100],
      filters: 4,
      kernel: [3],
      groups: 1,
      strides: [1],
      dilations: [1],
      pads: [1, 1],
      bias: false,
    };
    const [found] = convolutionsOf(graphOf(one).graph as Graph);
    expect(denseForm(found!, one.shape, 4 * 100 * 4 * 100 - 1)).toBeUndefined();
    expect(denseForm(found!, one.shape, 4 * 100 * 4 * 100)?.rows).toBe(400);
  });
});

describe("a branch", () => {
  const model = () => {
    const branch = (op: string) => ({
      name: op,
      node: [{ opType: op, input: ["x"], output: [`${op}/out`] }],
      output: [{ name: `${op}/out`, type: { tensorType: { elemType: FLOAT } } }],
    });
    const graph = new GraphBuilder();
    graph.input("x", FLOAT, ["rows", 4]);
    const made = onnx.ModelProto.decode(graph.encode());
    const { AttributeType } = onnx.AttributeProto;
    made.graph!.node = [
      { opType: "Shape", input: ["x"], output: ["shape"] },
      { opType: "Gather", input: ["shape", "axis"], output: ["length"] },
      { opType: "Equal", input: ["length", "four"], output: ["condition"] },
      {
        opType: "If",
        input: ["condition"],
        output: ["y"],
        attribute: [
          { name: "then_branch", type: AttributeType.GRAPH, g: branch("Neg") },
          { name: "else_branch", type: AttributeType.GRAPH, g: branch("Abs") },
        ],
      },
    ];
    const int64 = (name: string, value: number) => ({
      name,
      dataType: onnx.TensorProto.DataType.INT64,
      dims: [],
      rawData: new Uint8Array(BigInt64Array.of(BigInt(value)).buffer),
    });
    made.graph!.initializer = [int64("axis", 1), int64("four", 4)];
    made.graph!.output = [{ name: "y", type: { tensorType: { elemType: FLOAT, shape: { dim: [{}, {}] } } } }];
    return made;
  };

  it("that is taken for any number of rows takes the place of its node", async () => {
    const expected = await outputOf(model(), [4], 3);
    const changed = model();
    expect(await inlineBranches(changed.graph!, async () => [[true, true, true]])).toBe(1);
    expect(changed.graph!.node!.map(({ opType }) => opType)).not.toContain("If");
    expectSame(await outputOf(changed, [4], 3), expected);
  });

  it("that depends on the rows stays", async () => {
    const changed = model();
    expect(await inlineBranches(changed.graph!, async () => [[true, false, false]])).toBe(0);
    expect(changed.graph!.node!.map(({ opType }) => opType)).toContain("If");
  });
});

describe("a given step graph", () => {
  const silero = async () => {
    const folder = zooModels().folders.find((one) => one.endsWith("silero-vad"));
    return folder ? (await readModel(folder)).cells[0] : undefined;
  };

  it("is rewritten operator by operator where no program can run, and says what was", async () => {
    const cell = await silero();
    if (!cell) return;
    const { rewrites, graph, program } = await improveGraph(cell, givenGraph(cell), {
      threads: 1,
      vectorBits: 0,
    });
    expect(program).toBeUndefined();
    expect(graph.onnx).not.toEqual(givenGraph(cell).onnx);
    for (const { what, gain } of rewrites) {
      expect(what).toMatch(/^Conv over|branches|^LSTM of 128 units as a product for each gate$/);
      expect(gain).toBeGreaterThan(1);
    }
  });

  it.skipIf(programBits() === 0)("becomes one program at either width of vectors", async () => {
    const cell = await silero();
    if (!cell) return;
    for (const vectorBits of [256, 512].filter((bits) => bits <= programBits())) {
      const { rewrites, program } = await improveGraph(cell, givenGraph(cell), { threads: 1, vectorBits });
      expect(program?.operations.length).toBeGreaterThan(10);
      expect(rewrites.map(({ what }) => what)).toEqual([
        `the whole step as ${program!.operations.length} operations of the native kernel`,
      ]);
    }
    const kernel = await OnnxKernel.load([cell]);
    onTestFinished(() => kernel.dispose());
    expect(kernel.rowsAreIndependent).toBe(true);
  });

  it("is left to ONNX Runtime where that was asked for by name", async () => {
    const cell = await silero();
    if (!cell) return;
    const load = await kernelsFor({ device: "cpu", session: { threads: 1 }, kernel: "onnx" });
    const kernel = (await load([cell])) as OnnxKernel;
    onTestFinished(() => kernel.dispose());
    expect(kernel.rewrites.flat().map(({ what }) => what)).not.toContainEqual(
      expect.stringContaining("native"),
    );
  });

  it("whose rows are not independent becomes no program", async () => {
    const b = new GraphBuilder();
    const x = b.input("x", FLOAT, ["rows", 4, 8]);
    const y = b.node("Conv", [x, b.weights([4, 4, 3], noise(48, 1))]);
    // The mean over the rows: of one row alone it would be that row.
    b.node("Sub", [y, b.node("ReduceMean", [y, b.integers([0])])], {}, "y");
    b.output("y", FLOAT, ["rows", 4, 6]);
    const spec = (name: string, shape: readonly number[]) => ({ name, dtype: "float32" as const, shape });
    const cell: CellSpec = {
      name: "cell",
      ...{ inputs: [spec("x", [4, 8])], outputs: [spec("y", [4, 6])] },
      ...{ reads: 0, writes: false, states: [] },
      body: { kind: "graph", graph: { onnx: b.encode(), states: [] } },
    };
    const graph = givenGraph(cell);
    expect(rowProgram(onnx.ModelProto.decode(graph.onnx), cell, graph)).toHaveProperty("operations");
    expect(await improveGraph(cell, graph, { threads: 1 })).not.toHaveProperty("program");
  });

  it("without convolutions or branches is not touched", async () => {
    const b = new GraphBuilder();
    b.node("Neg", [b.input("x", FLOAT, ["rows", 2])], {}, "y");
    b.output("y", FLOAT, ["rows", 2]);
    const cell: CellSpec = {
      name: "cell",
      inputs: [{ name: "x", dtype: "float32", shape: [2] }],
      reads: 0,
      writes: false,
      states: [],
      outputs: [{ name: "y", dtype: "float32", shape: [2] }],
      body: { kind: "graph", graph: { onnx: b.encode(), states: [] } },
    };
    const graph = givenGraph(cell);
    expect(await improveGraph(cell, graph, { threads: 1 })).toEqual({ graph, rewrites: [] });
  });
});
