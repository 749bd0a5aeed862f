import type { CellSpec, Head, Matrix, RecurrentWeights } from "../../src/core/cell.ts";
import { FLOAT, GraphBuilder, INT32 } from "./graph.ts";

/** A tensor of a session: its name there, and its dimensions for a number of rows and steps. */
export interface Port {
  readonly name: string;
  readonly dims: (rows: number, steps: number) => number[];
}

/** An ONNX graph for a cell, and how the tensors of a task go in and out. */
export interface CellGraph {
  readonly onnx: Uint8Array;
  /** As `cell.inputs`. */
  readonly inputs: readonly Port[];
  /** As `cell.states`, one for each slot that a row reads. */
  readonly reads: readonly (readonly Port[])[];
  /** As `cell.states`; empty where the cell does not write. */
  readonly writes: readonly Port[];
  /** As `cell.outputs`. */
  readonly outputs: readonly Port[];
}

/** Builds the graph of a recurrent cell for `steps` steps in one call; `table` is what `inputTable` gives, where it fits. */
export function recurrentGraph(cell: CellSpec, steps: number, table?: Matrix): CellGraph {
  const { body } = cell;
  if (body.kind !== "lstm" && body.kind !== "gru") throw new Error(`cell '${cell.name}' is not recurrent`);
  const { hidden, inputWeights } = body.weights;
  const b = new GraphBuilder();
  let state = cell.states.map(({ name }) => b.input(`state/${name}`, FLOAT, ["rows", hidden]));
  const port = plain(body.embedding ? "in/token" : "in/x", body.embedding ? undefined : inputWeights.columns);
  const given = body.embedding
    ? b.node("Gather", [weightsOf(b, table ?? body.embedding), b.input("in/token", INT32, ["inputs"])])
    : b.input("in/x", FLOAT, ["inputs", inputWeights.columns]);
  const input = table ? given : projection(b, body.weights, given);
  const parts = steps === 1 ? [input] : b.nodes("Split", [input], steps, { axis: 0, num_outputs: steps });
  const step = body.kind === "lstm" ? lstmStep(b, body.weights) : gruStep(b, body.weights);
  const all = parts.map((part) => {
    state = step(part, state);
    return state;
  });
  const h =
    steps === 1
      ? state[0]!
      : b.node(
          "Concat",
          all.map((one) => one[0]!),
          { axis: 0 },
        );
  const c = steps === 1 ? state[1] : undefined;
  return finish(b, cell, [port], state, {
    h,
    ...(c === undefined ? {} : { c }),
    ...headOutputs(b, h, body.head, cell),
  });
}

/** An LSTM cell over vectors as the LSTM operator of ONNX, which takes any number of steps. */
export function lstmOperatorGraph(cell: CellSpec): CellGraph {
  const { body } = cell;
  if (body.kind !== "lstm") throw new Error(`cell '${cell.name}' is no LSTM`);
  const { hidden, inputWeights, stateWeights, inputBias, stateBias } = body.weights;
  const b = new GraphBuilder();
  const x = b.input("in/x", FLOAT, ["steps", "rows", inputWeights.columns]);
  const h0 = b.input("state/h", FLOAT, [1, "rows", hidden]);
  const c0 = b.input("state/c", FLOAT, [1, "rows", hidden]);
  const order = [0, 3, 1, 2];
  const w = b.weights([1, 4 * hidden, inputWeights.columns], gates(inputWeights.data, order));
  const r = b.weights([1, 4 * hidden, hidden], gates(stateWeights.data, order));
  const bias = new Float32Array(8 * hidden);
  bias.set(gates(inputBias, order));
  bias.set(gates(stateBias, order), 4 * hidden);
  const names = ["out/h", "next/h", "next/c"];
  b.nodes("LSTM", [x, w, r, b.weights([1, 8 * hidden], bias), "", h0, c0], 3, { hidden_size: hidden }, names);
  b.output("next/h", FLOAT, [1, "rows", hidden]);
  b.output("next/c", FLOAT, [1, "rows", hidden]);
  const wanted = new Set(cell.outputs.map(({ name }) => name));
  if (wanted.has("h")) b.output("out/h", FLOAT, ["steps", 1, "rows", hidden]);
  const flat = body.head ? b.node("Reshape", ["out/h", b.integers([-1, hidden])]) : "";
  for (const [name, value] of Object.entries(headOutputs(b, flat, body.head, cell)))
    emit(b, cell, name, value);
  return {
    onnx: b.encode(),
    inputs: [{ name: "in/x", dims: (rows, steps) => [steps, rows, inputWeights.columns] }],
    reads: [["h", "c"].map((name) => ({ name: `state/${name}`, dims: (rows: number) => [1, rows, hidden] }))],
    writes: ["h", "c"].map((name) => ({ name: `next/${name}`, dims: (rows: number) => [1, rows, hidden] })),
    outputs: cell.outputs.map((output) =>
      output.name === "h"
        ? { name: "out/h", dims: (rows, steps) => [steps, 1, rows, hidden] }
        : plain(`out/${output.name}`, ...output.shape),
    ),
  };
}

/** A binary tree-LSTM leaf or node, or a linear head. */
export function simpleGraph(cell: CellSpec, table?: Matrix): CellGraph {
  const { body } = cell;
  const b = new GraphBuilder();
  if (body.kind === "linear") {
    const h = b.input("state/h", FLOAT, ["rows", body.head.weights.columns]);
    return finish(b, cell, [], [], headOutputs(b, h, body.head, cell));
  }
  if (body.kind === "tree-leaf") {
    const width = body.weights.columns;
    const gate = table
      ? b.node("Gather", [weightsOf(b, table), b.input("in/token", INT32, ["rows"])])
      : dense(b, b.input("in/x", FLOAT, ["rows", width]), body.weights, body.bias);
    const [i, o, u] = split(b, gate, body.hidden, 3);
    const c = b.node("Mul", [b.node("Sigmoid", [i!]), b.node("Tanh", [u!])]);
    const h = b.node("Mul", [b.node("Sigmoid", [o!]), b.node("Tanh", [c])]);
    return finish(b, cell, [plain(table ? "in/token" : "in/x", table ? undefined : width)], [h, c], { h, c });
  }
  if (body.kind === "tree-node") {
    const { hidden } = body;
    const [hl, cl, hr, cr] = ["state/h/0", "state/c/0", "state/h/1", "state/c/1"].map((name) =>
      b.input(name, FLOAT, ["rows", hidden]),
    ) as [string, string, string, string];
    const gate = dense(b, b.node("Concat", [hl, hr], { axis: 1 }), body.weights, body.bias);
    const [i, left, right, o, u] = split(b, gate, hidden, 5);
    const kept = b.node("Add", [
      b.node("Mul", [b.node("Sigmoid", [left!]), cl]),
      b.node("Mul", [b.node("Sigmoid", [right!]), cr]),
    ]);
    const c = b.node("Add", [b.node("Mul", [b.node("Sigmoid", [i!]), b.node("Tanh", [u!])]), kept]);
    const h = b.node("Mul", [b.node("Sigmoid", [o!]), b.node("Tanh", [c])]);
    return finish(b, cell, [], [h, c], { h, c });
  }
  throw new Error(`cell '${cell.name}' of kind '${body.kind}' has no built graph`);
}

/**
 * What each token adds to the gates: embedding times input weights plus the biases that need no state, `[tokens, gates]`.
 * Summed in float64, rounded once.
 */
export function inputTable(cell: CellSpec): Matrix {
  const { body } = cell;
  if ((body.kind !== "lstm" && body.kind !== "gru" && body.kind !== "tree-leaf") || !body.embedding) {
    throw new Error(`cell '${cell.name}' takes no tokens`);
  }
  const { embedding } = body;
  const weights = body.kind === "tree-leaf" ? body.weights : body.weights.inputWeights;
  const bias = body.kind === "tree-leaf" ? body.bias : body.weights.inputBias;
  const data = new Float32Array(embedding.rows * weights.rows);
  for (let token = 0; token < embedding.rows; token++) {
    for (let gate = 0; gate < weights.rows; gate++) {
      let sum = bias[gate]!;
      if (body.kind === "lstm") sum += body.weights.stateBias[gate]!;
      const e = token * embedding.columns;
      const w = gate * weights.columns;
      for (let k = 0; k < weights.columns; k++) sum += embedding.data[e + k]! * weights.data[w + k]!;
      data[token * weights.rows + gate] = sum;
    }
  }
  const table = { rows: embedding.rows, columns: weights.rows, data };
  return body.kind === "lstm" ? { ...table, data: columnGates(table, LSTM_ORDER) } : table;
}

type Step = (input: string, state: readonly string[]) => string[];

/** Gates in the order i, f, o, g: one sigmoid serves three. */
const LSTM_ORDER = [0, 1, 3, 2];

function lstmStep(b: GraphBuilder, weights: RecurrentWeights): Step {
  const { hidden } = weights;
  const r = b.weights([4 * hidden, hidden], gates(weights.stateWeights.data, LSTM_ORDER));
  const sizes = b.integers([3 * hidden, hidden]);
  const thirds = b.integers([hidden, hidden, hidden]);
  return (input, [h, c]) => {
    const gate = b.node("Gemm", [h!, r, input], { transB: 1 });
    const [ifo, g] = b.nodes("Split", [gate, sizes], 2, { axis: 1 });
    const [i, f, o] = b.nodes("Split", [b.node("Sigmoid", [ifo!]), thirds], 3, { axis: 1 });
    const kept = b.node("Mul", [f!, c!]);
    const next = b.node("Add", [kept, b.node("Mul", [i!, b.node("Tanh", [g!])])]);
    return [b.node("Mul", [o!, b.node("Tanh", [next])]), next];
  };
}

function gruStep(b: GraphBuilder, weights: RecurrentWeights): Step {
  const { hidden } = weights;
  const r = b.weights([3 * hidden, hidden], weights.stateWeights.data);
  const bias = b.weights([3 * hidden], weights.stateBias);
  const sizes = b.integers([2 * hidden, hidden]);
  const halves = b.integers([hidden, hidden]);
  return (input, [h]) => {
    const gate = b.node("Gemm", [h!, r, bias], { transB: 1 });
    const [rzFromState, nFromState] = b.nodes("Split", [gate, sizes], 2, { axis: 1 });
    const [rzFromInput, nFromInput] = b.nodes("Split", [input, sizes], 2, { axis: 1 });
    const rz = b.node("Sigmoid", [b.node("Add", [rzFromInput!, rzFromState!])]);
    const [reset, update] = b.nodes("Split", [rz, halves], 2, { axis: 1 });
    const n = b.node("Tanh", [b.node("Add", [nFromInput!, b.node("Mul", [reset!, nFromState!])])]);
    return [b.node("Add", [n, b.node("Mul", [update!, b.node("Sub", [h!, n])])])];
  };
}

/** What vectors add to the gates, in the order that the step wants. */
function projection(b: GraphBuilder, weights: RecurrentWeights, x: string): string {
  const { inputWeights, inputBias, stateBias, hidden } = weights;
  if (inputWeights.rows === 3 * hidden) return dense(b, x, inputWeights, inputBias);
  const bias = inputBias.map((value, gate) => value + stateBias[gate]!);
  const data = gates(inputWeights.data, LSTM_ORDER);
  return dense(b, x, { ...inputWeights, data }, gates(bias, LSTM_ORDER));
}

function dense(b: GraphBuilder, x: string, weights: Matrix, bias: Float32Array): string {
  return b.node("Gemm", [x, weightsOf(b, weights), b.weights([weights.rows], bias)], { transB: 1 });
}

function weightsOf(b: GraphBuilder, { rows, columns, data }: Matrix): string {
  return b.weights([rows, columns], data);
}

function split(b: GraphBuilder, gate: string, hidden: number, count: number): string[] {
  return b.nodes("Split", [gate, b.integers(new Array<number>(count).fill(hidden))], count, { axis: 1 });
}

function headOutputs(
  b: GraphBuilder,
  h: string,
  head: Head | undefined,
  cell: CellSpec,
): Record<string, string> {
  if (!head || !cell.outputs.some(({ name }) => name === "logits" || name === "token")) return {};
  const logits = dense(b, h, head.weights, head.bias);
  if (!cell.outputs.some(({ name }) => name === "token")) return { logits };
  const best = b.node("ArgMax", [logits], { axis: 1, keepdims: 0 });
  return { logits, token: b.node("Cast", [best], { to: INT32 }) };
}

/** Declares states and outputs under the names that every built graph has. */
function finish(
  b: GraphBuilder,
  cell: CellSpec,
  inputs: Port[],
  next: readonly string[],
  outputs: Record<string, string>,
): CellGraph {
  if (cell.writes) {
    cell.states.forEach(({ name, shape }, i) => {
      b.node("Identity", [next[i]!], {}, `next/${name}`);
      b.output(`next/${name}`, FLOAT, ["rows", ...shape]);
    });
  }
  for (const { name } of cell.outputs) {
    if (outputs[name] === undefined) throw new Error(`cell '${cell.name}' has no output '${name}' to give`);
    emit(b, cell, name, outputs[name]);
  }
  const slots = Array.from({ length: cell.reads }, (_, slot) => (cell.reads === 1 ? "" : `/${slot}`));
  return {
    onnx: b.encode(),
    inputs,
    reads: slots.map((suffix) => cell.states.map(({ name, shape }) => rows(`state/${name}${suffix}`, shape))),
    writes: cell.writes ? cell.states.map(({ name, shape }) => rows(`next/${name}`, shape)) : [],
    outputs: cell.outputs.map(({ name, shape }) => plain(`out/${name}`, ...shape)),
  };
}

function emit(b: GraphBuilder, cell: CellSpec, name: string, value: string): void {
  const spec = cell.outputs.find((output) => output.name === name);
  if (!spec) return;
  b.node("Identity", [value], {}, `out/${name}`);
  b.output(`out/${name}`, spec.dtype === "int32" ? INT32 : FLOAT, ["outputs", ...spec.shape]);
}

function rows(name: string, shape: readonly number[]): Port {
  return { name, dims: (count) => [count, ...shape] };
}

function plain(name: string, ...shape: (number | undefined)[]): Port {
  const rest = shape.filter((size) => size !== undefined);
  return { name, dims: (count, steps) => [count * steps, ...rest] };
}

/** Puts blocks of rows, one per gate, into another order. */
function gates(data: Float32Array, order: readonly number[]): Float32Array {
  const block = data.length / order.length;
  const sorted = new Float32Array(data.length);
  order.forEach((from, to) => {
    sorted.set(data.subarray(from * block, (from + 1) * block), to * block);
  });
  return sorted;
}

function columnGates(matrix: Matrix, order: readonly number[]): Float32Array {
  const sorted = new Float32Array(matrix.data.length);
  for (let row = 0; row < matrix.rows; row++) {
    const from = row * matrix.columns;
    sorted.set(gates(matrix.data.subarray(from, from + matrix.columns), order), from);
  }
  return sorted;
}
