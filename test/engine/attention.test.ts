import { describe, expect, it, onTestFinished } from "vitest";
import { FLOAT, GraphBuilder, INT32 } from "../../kernels/onnx/graph.ts";
import { ReferenceKernel } from "../../kernels/reference/reference.ts";
import type { Beam, ModelDefinition } from "../../models/definition.ts";
import type { CellSpec } from "../../src/core/cell.ts";
import { int32, type Tensor } from "../../src/core/tensor.ts";
import { createRuntime } from "../../src/runtime/create.ts";
import { lstmCell, noise } from "../fixtures/models.ts";

const HIDDEN = 4;
const SYMBOLS = 7;
const MOST = 6;
const MAX_STEPS = 5;

const embedding = noise(SYMBOLS * HIDDEN, 11).map((value) => 3 * value);
const recurrent = noise(HIDDEN * HIDDEN, 12);
const query = noise(HIDDEN * 2 * HIDDEN, 13).map((value) => 8 * value);
const output = noise(3 * HIDDEN * SYMBOLS, 14).map((value) => 3 * value);

/** `h' = tanh(E[token] + h R)`, attention by `h' Q . memory`, logits from `[context; h']`. */
function decoder(): CellSpec {
  const graph = new GraphBuilder();
  const token = graph.input("token", INT32, ["rows"]);
  const memory = graph.input("memory", FLOAT, ["rows", MOST, 2 * HIDDEN]);
  const mask = graph.input("mask", FLOAT, ["rows", MOST]);
  const h = graph.input("h", FLOAT, ["rows", HIDDEN]);
  const e = graph.node("Gather", [graph.weights([SYMBOLS, HIDDEN], embedding), token]);
  const r = graph.node("MatMul", [h, graph.weights([HIDDEN, HIDDEN], recurrent)]);
  const next = graph.node("Tanh", [graph.node("Add", [e, r])], {}, "next");
  const q = graph.node("MatMul", [next, graph.weights([HIDDEN, 2 * HIDDEN], query)]);
  const column = graph.node("Unsqueeze", [q, graph.integers([2])]);
  const scores = graph.node("Squeeze", [graph.node("MatMul", [memory, column]), graph.integers([2])]);
  const far = graph.node("Mul", [
    graph.node("Sub", [mask, graph.weights([1], Float32Array.of(1))]),
    graph.weights([1], Float32Array.of(1e9)),
  ]);
  const weights = graph.node("Softmax", [graph.node("Add", [scores, far])], { axis: 1 });
  const row = graph.node("Unsqueeze", [weights, graph.integers([1])]);
  const context = graph.node("Squeeze", [graph.node("MatMul", [row, memory]), graph.integers([1])]);
  const both = graph.node("Concat", [context, next], { axis: 1 });
  graph.node("MatMul", [both, graph.weights([3 * HIDDEN, SYMBOLS], output)], {}, "logits");
  graph.output("next", FLOAT, ["rows", HIDDEN]);
  graph.output("logits", FLOAT, ["rows", SYMBOLS]);
  return {
    name: "decoder",
    inputs: [
      { name: "token", dtype: "int32", shape: [] },
      { name: "memory", dtype: "float32", shape: [MOST, 2 * HIDDEN] },
      { name: "mask", dtype: "float32", shape: [MOST] },
    ],
    reads: 1,
    writes: true,
    states: [{ name: "h", shape: [HIDDEN] }],
    outputs: [{ name: "logits", dtype: "float32", shape: [SYMBOLS] }],
    body: { kind: "graph", graph: { onnx: graph.encode(), states: [{ input: "h", output: "next" }] } },
  };
}

function model(beam?: Beam): ModelDefinition {
  const tokens = { name: "token", dtype: "int32" as const, shape: [-1] };
  const encoder = lstmCell("ahead", { hidden: HIDDEN, input: 3, symbols: SYMBOLS });
  return {
    name: "translator",
    version: "1",
    description: "a model for tests",
    cells: [{ ...encoder, name: "back" }, encoder, decoder()],
    program: {
      kind: "seq2seq",
      encoder: "back",
      decoder: "decoder",
      reverse: true,
      attention: { memory: "memory", mask: "mask", output: "h", other: "ahead" },
      start: 1,
      stop: 0,
      maxSteps: MAX_STEPS,
      ...(beam ? { beam } : {}),
    },
    inputs: [tokens],
    outputs: beam ? [tokens, { name: "score", dtype: "float32", shape: [-1] }] : [tokens],
  };
}

/** h of every step of the encoder, in float64. */
function encoded(tokens: readonly number[]): number[][] {
  const kernel = new ReferenceKernel([lstmCell("ahead", { hidden: HIDDEN, input: 3, symbols: SYMBOLS })]);
  kernel.reserve(1);
  const slot = Int32Array.of(0);
  return tokens.map((token) => {
    kernel.stage(0)[0]![0] = token;
    kernel.run({ cell: 0, rows: 1, steps: 1, reads: slot, writes: slot });
    return [...kernel.outputs(0)[0]!.subarray(0, HIDDEN)];
  });
}

/** The likeliest tokens, by loops over the formulas. */
function translated(tokens: readonly number[]): number[] {
  const ahead = encoded(tokens);
  const back = encoded(tokens.toReversed()).toReversed();
  const memory = back.map((values, step) => [...values, ...ahead[step]!]);
  let h = back[0]!;
  const said: number[] = [];
  for (let token = 1; said.length < MAX_STEPS; ) {
    const from = h;
    h = Array.from({ length: HIDDEN }, (_, i) =>
      Math.tanh(
        embedding[token * HIDDEN + i]! +
          from.reduce((sum, value, k) => sum + value * recurrent[k * HIDDEN + i]!, 0),
      ),
    );
    const q = Array.from({ length: 2 * HIDDEN }, (_, i) =>
      h.reduce((sum, value, k) => sum + value * query[k * 2 * HIDDEN + i]!, 0),
    );
    const scores = memory.map((values) => Math.exp(values.reduce((sum, value, i) => sum + value * q[i]!, 0)));
    const total = scores.reduce((a, b) => a + b, 0);
    const context = q.map((_, i) =>
      memory.reduce((sum, values, step) => sum + (values[i]! * scores[step]!) / total, 0),
    );
    const both = [...context, ...h];
    const logits = Array.from({ length: SYMBOLS }, (_, i) =>
      both.reduce((sum, value, k) => sum + value * output[k * SYMBOLS + i]!, 0),
    );
    token = logits.indexOf(Math.max(...logits));
    if (token === 0) break;
    said.push(token);
  }
  return said;
}

describe("a decoder that attends over the encoder's steps", () => {
  const sources = Array.from({ length: 40 }, (_, i) =>
    Array.from({ length: 1 + (i % MOST) }, (_, at) => (i * 5 + at * 3 + ((i * at) % 4)) % SYMBOLS),
  );
  const ask = (source: readonly number[]) => ({ token: int32([source.length], Int32Array.from(source)) });

  it("says what loops over the formulas say, for sources of all lengths at once", async () => {
    const runtime = await createRuntime({ models: [model()], inline: true, maxBatch: 8 });
    onTestFinished(() => runtime.close(0));
    const answers = await Promise.all(sources.map((source) => runtime.run("translator", ask(source))));
    const said = answers.map(({ outputs }) => [...(outputs.token as Tensor).data]);
    expect(said).toEqual(sources.map(translated));
    expect(new Set(said.map(String)).size).toBeGreaterThan(3);
  });

  it("gives each of several hypotheses the memory of its own request", async () => {
    const wide = { width: 3, lengthPenalty: 1, nBest: 1 };
    const runtime = await createRuntime({ models: [model(wide)], inline: true, maxBatch: 8 });
    onTestFinished(() => runtime.close(0));
    const together = await Promise.all(sources.map((source) => runtime.run("translator", ask(source))));
    for (const [i, source] of sources.entries()) {
      const alone = await runtime.run("translator", ask(source));
      expect(alone.outputs).toEqual(together[i]!.outputs);
    }
  });

  it("refuses a source that is longer than the attention reaches", async () => {
    const runtime = await createRuntime({ models: [model()], inline: true });
    onTestFinished(() => runtime.close(0));
    const long = ask(Array.from({ length: MOST + 1 }, () => 2));
    await expect(runtime.run("translator", long)).rejects.toMatchObject({
      code: "TOO_LARGE",
      message: expect.stringMatching(/has 7 steps, its attention reaches over 6/),
    });
  });
});
