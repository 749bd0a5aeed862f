import onnxProto from "onnx-proto";
import { describe, expect, it } from "vitest";
import { programBits } from "../../kernels/native/program.ts";
import { makeGemms } from "../../kernels/onnx/gemm-recurrence.ts";
import { FLOAT, GraphBuilder, INT32 } from "../../kernels/onnx/graph.ts";
import type { Graph } from "../../kernels/onnx/graph-patch.ts";
import { improveGraph } from "../../kernels/onnx/improve.ts";
import { recurrenceOf } from "../../kernels/onnx/recurrence-node.ts";
import { loadSession } from "../../kernels/onnx/session.ts";
import { givenGraph } from "../../kernels/onnx/step-graph.ts";
import { constantsOf } from "../../kernels/onnx/tensors.ts";
import { makeTable, symbolsOf, tokenProducts } from "../../kernels/onnx/token-tables.ts";
import { noise as tensors } from "../../kernels/onnx/trial.ts";
import type { CellSpec } from "../../src/core/cell.ts";

const { onnx } = onnxProto;
const SYMBOLS = 11;
const SIZE = 20;
const INPUT = 6;

interface Written {
  readonly op: "LSTM" | "GRU";
  /** What a row's step takes: a token of an embedding, or a vector; `steps` of them. */
  readonly input: "token" | "vector";
  readonly steps: number;
  readonly attributes: Readonly<Record<string, number | string>>;
}

const lstm: Written = { op: "LSTM", input: "vector", steps: 1, attributes: {} };

/** A step graph with an operator as an exporter writes it. */
function cellOf({ op, input, steps, attributes }: Written): CellSpec {
  const b = new GraphBuilder();
  const names = op === "LSTM" ? ["h", "c"] : ["h"];
  const gates = op === "LSTM" ? 4 : 3;
  const vectors =
    input === "token"
      ? b.node("Gather", [weights(b, [SYMBOLS, INPUT], 1), b.input("x", INT32, ["rows"])])
      : b.node("Transpose", [b.input("x", FLOAT, ["rows", steps, INPUT])], { perm: [1, 0, 2] });
  const x = input === "token" ? b.node("Unsqueeze", [vectors, b.integers([0])]) : vectors;
  const states = names.map((name) => b.input(name, FLOAT, [1, "rows", SIZE]));
  const w = weights(b, [1, gates * SIZE, INPUT], 2);
  const r = weights(b, [1, gates * SIZE, SIZE], 3);
  const bias = weights(b, [1, 2 * gates * SIZE], 4);
  const next = names.map((name) => `next ${name}`);
  b.nodes(op, [x, w, r, bias, "", ...states], 3, { hidden_size: SIZE, ...attributes }, ["y", ...next]);
  for (const name of next) b.output(name, FLOAT, [1, "rows", SIZE]);
  b.node("Squeeze", ["y", b.integers([1])], {}, "all");
  b.node("Gather", ["all", b.integers([-1])], { axis: 0 }, "last");
  b.node("Squeeze", ["last", b.integers([0])], {}, "out");
  b.output("out", FLOAT, ["rows", SIZE]);
  return {
    name: "cell",
    inputs: [
      input === "token"
        ? { name: "x", dtype: "int32", shape: [] }
        : { name: "x", dtype: "float32", shape: [steps, INPUT] },
    ],
    ...{ reads: 1, writes: true },
    states: names.map((name) => ({ name, shape: [1, SIZE] })),
    outputs: [{ name: "out", dtype: "float32", shape: [SIZE] }],
    body: {
      kind: "graph",
      graph: {
        onnx: b.encode(),
        states: names.map((name) => ({ input: name, output: `next ${name}`, batchAxis: 1 })),
      },
    },
  };
}

function weights(b: GraphBuilder, dims: readonly number[], seed: number): string {
  const length = dims.reduce((a, c) => a * c, 1);
  return b.weights(
    dims,
    Float32Array.from({ length }, (_, i) => Math.sin((i + seed) * 12.9898) / 2),
  );
}

/** All outputs of a graph, for noise and tokens. */
async function outputsOf(cell: CellSpec, bytes: Uint8Array, rows: number): Promise<number[][]> {
  const graph = givenGraph(cell);
  const session = await loadSession(bytes, { threads: 1 });
  const symbols = symbolsOf(onnx.ModelProto.decode(graph.onnx).graph as Graph);
  const names = [...graph.outputs, ...graph.writes].map(({ name }) => name);
  const outputs = await session.infer(tensors(cell, graph, rows, symbols), names);
  await session.dispose();
  return names.map((name) => [...(outputs[name]!.data as Float32Array)]);
}

function expectClose(actual: readonly number[][], expected: readonly number[][]): void {
  expect(actual.map(({ length }) => length)).toEqual(expected.map(({ length }) => length));
  actual.flat().forEach((value, i) => expect(Math.abs(value - expected.flat()[i]!)).toBeLessThan(1e-6));
}

/** The graph with every LSTM and GRU as products; undefined where it has none that can be. */
function asGemms(cell: CellSpec): Uint8Array | undefined {
  const model = onnx.ModelProto.decode(givenGraph(cell).onnx);
  const graph = model.graph as Graph;
  const constants = constantsOf(graph);
  for (const node of [...graph.node]) {
    const of = recurrenceOf(node, (name) => (name ? constants.get(name) : undefined));
    if (!of) continue;
    makeGemms(graph, node, of);
    return onnx.ModelProto.encode(model).finish();
  }
  return undefined;
}

describe("an LSTM or GRU of one step", () => {
  it("gives the same as a product for each gate", async () => {
    const gru = (linear_before_reset: number): Written => ({
      ...lstm,
      op: "GRU",
      attributes: { linear_before_reset },
    });
    for (const written of [lstm, gru(0), gru(1), { ...lstm, input: "token" as const }]) {
      const cell = cellOf(written);
      const changed = asGemms(cell)!;
      for (const rows of [1, 5])
        expectClose(await outputsOf(cell, changed, rows), await outputsOf(cell, givenGraph(cell).onnx, rows));
    }
  });

  it("is left alone where it is more than its products", () => {
    for (const attributes of [{ direction: "reverse" }, { input_forget: 1 }])
      expect(asGemms(cellOf({ ...lstm, attributes }))).toBeUndefined();
  });
});

describe("a product of an embedding", () => {
  it("gives the same as a table of the products of all tokens", async () => {
    const cell = cellOf({ ...lstm, input: "token" });
    const model = onnx.ModelProto.decode(asGemms(cell)!);
    const graph = model.graph as Graph;
    const products = tokenProducts(graph, 1e6);
    expect(products.map(({ symbols, width }) => [symbols, width])).toEqual(
      Array.from({ length: 4 }, () => [SYMBOLS, SIZE]),
    );
    for (const one of products) makeTable(graph, one);
    const bytes = onnx.ModelProto.encode(model).finish();
    for (const rows of [1, 5, 64])
      expectClose(await outputsOf(cell, bytes, rows), await outputsOf(cell, givenGraph(cell).onnx, rows));
  });

  it("stays a product where the table would be large", () => {
    const graph = onnx.ModelProto.decode(asGemms(cellOf({ ...lstm, input: "token" }))!).graph as Graph;
    expect(tokenProducts(graph, SYMBOLS * SIZE - 1)).toEqual([]);
    expect(tokenProducts(graph, SYMBOLS * SIZE)).toHaveLength(4);
  });

  it("is compared with all tokens that the embedding has", () => {
    const cell = cellOf({ ...lstm, input: "token" });
    const graph = givenGraph(cell);
    const symbols = symbolsOf(onnx.ModelProto.decode(graph.onnx).graph as Graph);
    expect([...symbols]).toEqual([["in/x", SYMBOLS]]);
    const { data } = tensors(cell, graph, 64, symbols)["in/x"]!;
    expect(new Set(data as Int32Array).size).toBe(SYMBOLS);
  });
});

describe("a given step graph with an LSTM or GRU", () => {
  it("gives the same whatever was rewritten of it", async () => {
    for (const written of [lstm, { ...lstm, op: "GRU" as const }, { ...lstm, input: "token" as const }]) {
      const cell = cellOf(written);
      const { graph, rewrites } = await improveGraph(cell, givenGraph(cell), { threads: 1, vectorBits: 0 });
      for (const { gain } of rewrites) expect(gain).toBeGreaterThan(1);
      expectClose(await outputsOf(cell, graph.onnx, 7), await outputsOf(cell, givenGraph(cell).onnx, 7));
    }
  });

  it("that is given several steps at once keeps its operator", async () => {
    const cell = cellOf({ ...lstm, steps: 2 });
    const { graph, program, hindrance, rewrites } = await improveGraph(cell, givenGraph(cell), {
      threads: 1,
    });
    expect(program).toBeUndefined();
    if (programBits() > 0) expect(hindrance).toMatch(/^operator LSTM of node/);
    expect(rewrites.map(({ what }) => what).join()).not.toContain("units");
    expectClose(await outputsOf(cell, graph.onnx, 7), await outputsOf(cell, givenGraph(cell).onnx, 7));
  });
});
