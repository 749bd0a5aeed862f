import fc from "fast-check";
import onnxProto from "onnx-proto";
import { Tensor } from "onnxruntime-node";
import { describe, expect, it } from "vitest";
import { nativeStatus } from "../../kernels/native/load.ts";
import { programSession, type RowProgram } from "../../kernels/native/program.ts";
import type { CellGraph, Port } from "../../kernels/onnx/cell-graph.ts";
import { FLOAT, GraphBuilder } from "../../kernels/onnx/graph.ts";
import { rowProgram } from "../../kernels/onnx/row-program.ts";
import { loadSession, type Tensors } from "../../kernels/onnx/session.ts";
import type { CellSpec } from "../../src/core/cell.ts";

type Shapes = Readonly<Record<string, readonly number[]>>;
type Write = (b: GraphBuilder) => void;

/** A step graph over `inputs`; `write` gives each of `outputs` under its name. Shapes are of one row. */
interface Step {
  readonly cell: CellSpec;
  readonly graph: CellGraph;
}

function stepOf(inputs: Shapes, outputs: Shapes, write: Write): Step {
  const b = new GraphBuilder();
  for (const [name, shape] of Object.entries(inputs)) b.input(name, FLOAT, ["rows", ...shape]);
  write(b);
  for (const [name, shape] of Object.entries(outputs)) b.output(name, FLOAT, ["rows", ...shape]);
  const ports = (shapes: Shapes): Port[] =>
    Object.entries(shapes).map(([name, shape]) => ({ name, dims: (rows) => [rows, ...shape] }));
  const specs = (shapes: Shapes) =>
    Object.entries(shapes).map(([name, shape]) => ({ name, dtype: "float32" as const, shape }));
  const onnx = b.encode();
  return {
    cell: {
      name: "cell",
      ...{ inputs: specs(inputs), outputs: specs(outputs) },
      ...{ reads: 0, writes: false, states: [] },
      body: { kind: "graph", graph: { onnx, states: [] } },
    },
    graph: { onnx, inputs: ports(inputs), reads: [], writes: [], outputs: ports(outputs) },
  };
}

function programOf({ cell, graph }: Step): RowProgram {
  const program = rowProgram(onnxProto.onnx.ModelProto.decode(graph.onnx), cell, graph);
  if (typeof program === "string") throw new Error(program);
  return program;
}

function whyNot({ cell, graph }: Step): RowProgram | string {
  return rowProgram(onnxProto.onnx.ModelProto.decode(graph.onnx), cell, graph);
}

function noise(length: number, seed: number): Float32Array {
  return Float32Array.from({ length }, (_, i) => Math.sin((i + 1) * 12.9898 + seed * 7.31));
}

function product(shape: readonly number[]): number {
  return shape.reduce((a, b) => a * b, 1);
}

const widths = ([256, 512] as const).filter((bits) => bits <= nativeStatus().vectorBits);

/** Runs the untouched graph, and its program at every width of vectors that the processor has. */
async function expectSame(step: Step, rows: readonly number[], seed = 1): Promise<void> {
  const { graph } = step;
  const program = programOf(step);
  const session = await loadSession(graph.onnx, { threads: 1 });
  const sessions = widths.map((bits) => programSession(program, bits));
  const tensor = (port: Port, count: number, values: (length: number) => Float32Array) => {
    const dims = port.dims(count, 1);
    return new Tensor("float32", values(product(dims)), dims);
  };
  try {
    for (const count of rows) {
      const feeds: Tensors = {};
      graph.inputs.forEach((port, i) => {
        feeds[port.name] = tensor(port, count, (length) => noise(length, seed + i + count));
      });
      const names = graph.outputs.map(({ name }) => name);
      const expected = await session.infer(feeds, names);
      for (const one of sessions) {
        const given: Tensors = {};
        for (const port of graph.outputs) given[port.name] = tensor(port, count, (n) => new Float32Array(n));
        one.run(feeds, given);
        for (const name of names) expectClose(given[name]!, expected[name]!, `'${name}' of ${count} rows`);
      }
    }
  } finally {
    for (const one of [session, ...sessions]) await one.dispose();
  }
}

function expectClose(given: Tensor, expected: Tensor, what: string): void {
  const [a, b] = [given.data as Float32Array, expected.data as Float32Array];
  expect(a.length, what).toBe(b.length);
  // Sums in another order differ by what their terms are large.
  const largest = b.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  for (let i = 0; i < a.length; i++) {
    if (Math.abs(a[i]! - b[i]!) <= Math.max(2e-5, 1e-6 * largest)) continue;
    throw new Error(`${what}: value ${i} is ${a[i]}, expected ${b[i]}`);
  }
}

const FEW = [1, 3, 33];

/** One step of an operator over 9 values, without its axis of steps. */
function recurrent(op: "LSTM" | "GRU", size: number, attributes: Record<string, number>): Step {
  const gates = op === "LSTM" ? 4 : 3;
  const states = op === "LSTM" ? ["h", "c"] : ["h"];
  const shapes = (names: readonly string[]) => Object.fromEntries(names.map((name) => [name, [size]]));
  const next = states.map((name) => `next ${name}`);
  return stepOf({ x: [9], ...shapes(states) }, shapes(next), (b) => {
    const zero = b.integers([0]);
    const [x, ...given] = ["x", ...states].map((name) => b.node("Unsqueeze", [name, zero]));
    const w = b.weights([1, gates * size, 9], noise(gates * size * 9, 3));
    const r = b.weights([1, gates * size, size], noise(gates * size * size, 4));
    const bias = b.weights([1, 2 * gates * size], noise(2 * gates * size, 5));
    const all = { hidden_size: size, ...attributes };
    const [, ...made] = b.nodes(op, [x!, w, r, bias, "", ...given], 1 + states.length, all);
    made.forEach((value, i) => void b.node("Squeeze", [value, zero], {}, next[i]!));
  });
}

describe.skipIf(widths.length === 0)("a step graph as a program over rows", () => {
  it("convolves over one axis as the graph does, whatever its taps, stride and padding", async () => {
    const conv = fc.record({
      channels: fc.integer({ min: 1, max: 20 }),
      filters: fc.integer({ min: 1, max: 70 }),
      taps: fc.constantFrom(1, 2, 3, 3, 3, 4),
      length: fc.integer({ min: 4, max: 20 }),
      stride: fc.constantFrom(1, 1, 2, 3),
      pads: fc.tuple(fc.integer({ min: 0, max: 2 }), fc.integer({ min: 0, max: 2 })),
      bias: fc.boolean(),
    });
    await fc.assert(
      fc.asyncProperty(conv, async ({ channels, filters, taps, length, stride, pads, bias }) => {
        // Padding alone, without a value, is refused.
        fc.pre(taps > Math.max(...pads));
        const count = Math.floor((length + pads[0] + pads[1] - taps) / stride) + 1;
        const step = stepOf({ x: [channels, length] }, { y: [filters, count] }, (b) => {
          const weights = b.weights([filters, channels, taps], noise(filters * channels * taps, 3));
          const added = bias ? [b.weights([filters], noise(filters, 5))] : [];
          b.node("Conv", ["x", weights, ...added], { strides: [stride], pads }, "y");
        });
        await expectSame(step, FEW);
      }),
      { numRuns: 60 },
    );
  });

  it("convolves with three taps by six products for four places", async () => {
    for (const [length, multiplied] of [
      [4, 6],
      [5, 13],
      [8, 12],
    ] as const) {
      const step = stepOf({ x: [20, length] }, { y: [40, length] }, (b) => {
        const weights = b.weights([40, 20, 3], noise(2400, 3));
        b.node("Conv", ["x", weights, b.weights([40], noise(40, 5))], { pads: [1, 1] }, "y");
      });
      const counts = programOf(step).operations.flatMap(({ kind, runs }) =>
        kind === "dense" ? runs.map(({ count }) => count / 20) : [],
      );
      expect(counts.reduce((a, b) => a + b)).toBe(multiplied);
      await expectSame(step, FEW);
    }
  });

  it("convolves what a convolution gave", async () => {
    const step = stepOf({ x: [5, 8] }, { y: [33, 2] }, (b) => {
      const first = b.weights([40, 5, 3], noise(600, 2));
      const second = b.weights([33, 40, 3], noise(33 * 120, 4));
      const inner = b.node("Relu", [b.node("Conv", ["x", first], { strides: [2], pads: [1, 1] })]);
      b.node("Conv", [inner, second], { strides: [2], pads: [1, 1] }, "y");
    });
    await expectSame(step, FEW);
  });

  it("transforms windows to frequencies as the graph does, for windows of even and of odd length", async () => {
    for (const [size, hop, share] of [
      [128, 64, 0.3],
      [256, 128, 0.25],
      [101, 50, 0.55],
    ] as const) {
      const bins = Math.floor(size / 2) + 1;
      const filters = Float32Array.from({ length: 2 * bins * size }, (_, i) => {
        const [filter, n] = [Math.floor(i / size), i % size];
        const angle = (2 * Math.PI * (filter % bins) * n) / size;
        const window = 0.5 - 0.5 * Math.cos((2 * Math.PI * n) / size);
        return window * (filter < bins ? Math.cos(angle) : -Math.sin(angle));
      });
      const step = stepOf({ x: [1, 3 * hop + size] }, { y: [2 * bins, 4] }, (b) => {
        b.node("Conv", ["x", b.weights([2 * bins, 1, size], filters)], { strides: [hop] }, "y");
      });
      const products = programOf(step).operations.filter(({ kind }) => kind === "dense");
      const values = products.reduce((sum, { matrix }) => sum + matrix!.values.length, 0);
      expect(values).toBeLessThan(share * filters.length);
      await expectSame(step, FEW);
    }
  });

  it("multiplies with a matrix as the graph does", async () => {
    const gemm = fc.record({
      depth: fc.integer({ min: 1, max: 40 }),
      width: fc.integer({ min: 1, max: 150 }),
      turned: fc.boolean(),
      bias: fc.boolean(),
    });
    await fc.assert(
      fc.asyncProperty(gemm, async ({ depth, width, turned, bias }) => {
        const step = stepOf({ x: [depth] }, { y: [width] }, (b) => {
          const dims = turned ? [width, depth] : [depth, width];
          const inputs = ["x", b.weights(dims, noise(depth * width, 3))];
          if (bias) inputs.push(b.weights([width], noise(width, 4)));
          b.node("Gemm", inputs, { transB: turned ? 1 : 0 }, "y");
        });
        await expectSame(step, FEW);
      }),
      { numRuns: 40 },
    );
    const matMul = stepOf({ x: [3, 10] }, { y: [3, 20] }, (b) => {
      b.node("MatMul", ["x", b.weights([10, 20], noise(200, 3))], {}, "y");
    });
    await expectSame(matMul, FEW);
  });

  it("steps an LSTM as the graph does", async () => {
    for (const size of [7, 16, 40]) await expectSame(recurrent("LSTM", size, {}), FEW);
  });

  it("steps a GRU as the graph does, whether it resets the state or its product", async () => {
    for (const size of [7, 16, 40]) {
      for (const linear_before_reset of [0, 1])
        await expectSame(recurrent("GRU", size, { linear_before_reset }), FEW);
    }
  });

  it("moves elements as the graph does", async () => {
    const step = stepOf({ x: [2, 3, 8] }, { y: [8, 6], z: [2, 3, 12], u: [3, 3] }, (b) => {
      const slice = b.node("Slice", ["x", b.integers([-6]), b.integers([100]), b.integers([3])]);
      const picked = b.node("Gather", [slice, b.integers([5, 0, 2])], { axis: 3 });
      const [left, right] = b.nodes("Split", ["x", b.integers([3, 5])], 2, { axis: 3 });
      const joined = b.node("Concat", [right!, left!], { axis: -1 });
      b.node("Pad", [joined, b.integers([0, 0, 0, 3, 0, 0, 0, 1])], { mode: "reflect" }, "z");
      const flat = b.node("Reshape", [joined, b.integers([0, -1, 8])]);
      b.node("Transpose", [flat], { perm: [0, 2, 1] }, "y");
      const [first] = b.nodes("Split", [picked, b.integers([1, 1])], 2, { axis: 1 });
      b.node("Squeeze", [first!, b.integers([1])], {}, "u");
    });
    await expectSame(step, FEW);
  });

  it("computes each value's function as the graph does", async () => {
    const step = stepOf({ x: [37], y: [37] }, { a: [37], b: [37], c: [37] }, (b) => {
      const squares = b.node("Add", [
        b.node("Pow", ["x", b.weights([], Float32Array.of(2))]),
        b.node("Mul", ["y", "y"]),
      ]);
      b.node("Sqrt", [squares], {}, "a");
      b.node("Sub", [b.node("Tanh", ["x"]), b.node("Sigmoid", ["y"])], {}, "b");
      b.node("Relu", ["x"], {}, "c");
    });
    await expectSame(step, FEW);
  });

  it("gives every number of rows from 1 to 128 the same as the graph", async () => {
    const products = stepOf({ x: [12] }, { y: [50] }, (b) => {
      const hidden = b.node("Tanh", [b.node("Gemm", ["x", b.weights([12, 70], noise(840, 3))])]);
      b.node("Gemm", [hidden, b.weights([70, 50], noise(3500, 4)), b.weights([50], noise(50, 5))], {}, "y");
    });
    const convolutions = stepOf({ x: [9, 4] }, { y: [35, 2] }, (b) => {
      const inner = b.node("Conv", ["x", b.weights([20, 9, 3], noise(540, 3))], { pads: [1, 1] });
      const second = b.weights([35, 20, 3], noise(2100, 4));
      b.node("Conv", [b.node("Relu", [inner]), second], { strides: [2], pads: [1, 1] }, "y");
    });
    const all = Array.from({ length: 128 }, (_, i) => i + 1);
    for (const step of [products, convolutions, recurrent("LSTM", 20, {}), recurrent("GRU", 20, {})])
      await expectSame(step, all);
  });

  it("gives a row the same bits alone and in company", () => {
    const step = stepOf({ x: [12] }, { y: [50] }, (b) => {
      b.node("Sigmoid", [b.node("Gemm", ["x", b.weights([12, 50], noise(600, 3))])], {}, "y");
    });
    const x = noise(100 * 12, 1);
    for (const bits of widths) {
      const session = programSession(programOf(step), bits);
      const run = (from: Float32Array) => {
        const rows = from.length / 12;
        const y = new Float32Array(rows * 50);
        session.run(
          { x: new Tensor("float32", from, [rows, 12]) },
          { y: new Tensor("float32", y, [rows, 50]) },
        );
        return y;
      };
      const together = run(x);
      for (let row = 0; row < 100; row++) {
        const alone = run(x.slice(row * 12, (row + 1) * 12));
        expect(together.slice(row * 50, (row + 1) * 50)).toEqual(alone);
      }
      session.dispose();
    }
  });

  it("says which operator stands in the way", () => {
    const erf = stepOf({ x: [4] }, { y: [4] }, (b) => void b.node("Erf", ["x"], {}, "y"));
    expect(whyNot(erf)).toMatch(/operator Erf/);
    const grouped = stepOf({ x: [4, 8] }, { y: [4, 6] }, (b) => {
      b.node("Conv", ["x", b.weights([4, 2, 3], noise(24, 1))], { group: 2 }, "y");
    });
    expect(whyNot(grouped)).toMatch(/operator Conv/);
    const byRow = stepOf(
      { x: [4], w: [4, 4] },
      { y: [4] },
      (b) => void b.node("MatMul", ["x", "w"], {}, "y"),
    );
    expect(whyNot(byRow)).toMatch(/operator MatMul/);
  });

  it("does not run what would leave a row's columns or its matrix", () => {
    const program = programOf(
      stepOf({ x: [4] }, { y: [5] }, (b) => {
        b.node("Gemm", ["x", b.weights([4, 5], noise(20, 1))], {}, "y");
      }),
    );
    const [dense] = program.operations;
    const [run] = dense!.runs;
    const withRun = (changed: object) =>
      programSession({ ...program, operations: [{ ...dense!, runs: [{ ...run!, ...changed }] }] });
    expect(() => withRun({ to: program.columns - 1 })).toThrow(/columns/);
    expect(() => withRun({ from: -1 })).toThrow(/columns/);
    expect(() => withRun({ other: 1 })).toThrow(/past its matrix/);
    expect(() => withRun({ count: 0 })).toThrow(/run of 0/);
  });
});
