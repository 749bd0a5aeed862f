import type { CellSpec, Head, Matrix, RecurrentWeights } from "../../src/core/cell.ts";
import { foldedBias } from "../input-table.ts";
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
  /** As `cell.outputs`; one that is a state's next value has the port of that. */
  readonly outputs: readonly Port[];
}

/**
 * Builds the graph of a recurrent cell for `steps` steps in one call; `table` is what `inputTable` gives, where it fits. Each
 * gate has a product of its own: ONNX Runtime then applies the activation where the product lies, and nothing is split,
 * 7 to 12 % of a step at 128 to 256 units.
 */
export function recurrentGraph(cell: CellSpec, steps: number, table?: Matrix): CellGraph {
  const { body } = cell;
  if (body.kind !== "lstm" && body.kind !== "gru") throw new Error(`cell '${cell.name}' is not recurrent`);
  const { hidden, inputWeights } = body.weights;
  const count = inputWeights.rows / hidden;
  const b = new GraphBuilder();
  let state = cell.states.map(({ name }) => b.input(`state/${name}`, FLOAT, ["rows", hidden]));
  const port = plain(body.embedding ? "in/token" : "in/x", body.embedding ? undefined : inputWeights.columns);
  const given = body.embedding
    ? b.input("in/token", INT32, ["inputs"])
    : b.input("in/x", FLOAT, ["inputs", inputWeights.columns]);
  const lookUp = (matrix: Matrix) => b.node("Gather", [weightsOf(b, matrix), given]);
  const x = !table && body.embedding ? lookUp(body.embedding) : given;
  const bias = foldedBias(body.kind, body.weights);
  const byGate = Array.from({ length: count }, (_, gate) => {
    const input = table
      ? lookUp(columnsOf(table, gate, count))
      : dense(b, x, rowsOf(inputWeights, gate, count), partOf(bias, gate, count));
    return steps === 1 ? [input] : b.nodes("Split", [input], steps, { axis: 0, num_outputs: steps });
  });
  const step = body.kind === "lstm" ? lstmStep(b, body.weights) : gruStep(b, body.weights);
  const all = Array.from({ length: steps }, (_, at) => {
    state = step(
      byGate.map((parts) => parts[at]!),
      state,
    );
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
    const given = table ? b.input("in/token", INT32, ["rows"]) : b.input("in/x", FLOAT, ["rows", width]);
    const [i, o, u] = [0, 1, 2].map((gate) =>
      table
        ? b.node("Gather", [weightsOf(b, columnsOf(table, gate, 3)), given])
        : dense(b, given, rowsOf(body.weights, gate, 3), partOf(body.bias, gate, 3)),
    );
    const c = b.node("Mul", [b.node("Sigmoid", [i!]), b.node("Tanh", [u!])]);
    const h = b.node("Mul", [b.node("Sigmoid", [o!]), b.node("Tanh", [c])]);
    return finish(b, cell, [plain(table ? "in/token" : "in/x", table ? undefined : width)], [h, c], { h, c });
  }
  if (body.kind === "tree-node") {
    const { hidden } = body;
    const [hl, cl, hr, cr] = ["state/h/0", "state/c/0", "state/h/1", "state/c/1"].map((name) =>
      b.input(name, FLOAT, ["rows", hidden]),
    ) as [string, string, string, string];
    const both = b.node("Concat", [hl, hr], { axis: 1 });
    const [i, left, right, o, u] = [0, 1, 2, 3, 4].map((gate) =>
      dense(b, both, rowsOf(body.weights, gate, 5), partOf(body.bias, gate, 5)),
    );
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

/** One step, from what its input adds to each gate, in the order of the weights. */
type Step = (input: readonly string[], state: readonly string[]) => string[];

function lstmStep(b: GraphBuilder, { hidden, stateWeights }: RecurrentWeights): Step {
  const r = [0, 1, 2, 3].map((gate) => transposed(b, rowsOf(stateWeights, gate, 4), hidden));
  return (input, [h, c]) => {
    const sums = input.map((added, gate) => b.node("Gemm", [h!, r[gate]!, added]));
    const [i, f, , o] = sums.map((sum, gate) => (gate === 2 ? "" : b.node("Sigmoid", [sum])));
    const kept = b.node("Mul", [f!, c!]);
    const next = b.node("Add", [kept, b.node("Mul", [i!, b.node("Tanh", [sums[2]!])])]);
    return [b.node("Mul", [o!, b.node("Tanh", [next])]), next];
  };
}

function gruStep(b: GraphBuilder, { hidden, stateWeights, stateBias }: RecurrentWeights): Step {
  const r = [0, 1, 2].map((gate) => transposed(b, rowsOf(stateWeights, gate, 3), hidden));
  const bias = b.weights([hidden], stateBias.subarray(2 * hidden));
  return ([resetInput, updateInput, newInput], [h]) => {
    const reset = b.node("Sigmoid", [b.node("Gemm", [h!, r[0]!, resetInput!])]);
    const update = b.node("Sigmoid", [b.node("Gemm", [h!, r[1]!, updateInput!])]);
    const fromState = b.node("Gemm", [h!, r[2]!, bias]);
    const n = b.node("Tanh", [b.node("Add", [newInput!, b.node("Mul", [reset, fromState])])]);
    return [b.node("Add", [n, b.node("Mul", [update, b.node("Sub", [h!, n])])])];
  };
}

/** One of `count` equal parts, as gates stand one after the other. */
function partOf<T extends Float32Array | Float64Array>(values: T, part: number, count: number): T {
  const size = values.length / count;
  return values.subarray(part * size, (part + 1) * size) as T;
}

function rowsOf({ rows, columns, data }: Matrix, part: number, count: number): Matrix {
  return { rows: rows / count, columns, data: partOf(data, part, count) };
}

function columnsOf({ rows, columns, data }: Matrix, part: number, count: number): Matrix {
  const size = columns / count;
  const cut = new Float32Array(rows * size);
  for (let row = 0; row < rows; row++) {
    const from = row * columns + part * size;
    cut.set(data.subarray(from, from + size), row * size);
  }
  return { rows, columns: size, data: cut };
}

/** A square matrix the way a plain product takes it. */
function transposed(b: GraphBuilder, { data }: Matrix, size: number): string {
  const turned = new Float32Array(data.length);
  for (let row = 0; row < size; row++)
    for (let column = 0; column < size; column++) turned[column * size + row] = data[row * size + column]!;
  return b.weights([size, size], turned);
}

function dense(b: GraphBuilder, x: string, weights: Matrix, bias: Float32Array | Float64Array): string {
  return b.node("Gemm", [x, weightsOf(b, weights), b.weights([weights.rows], Float32Array.from(bias))], {
    transB: 1,
  });
}

function weightsOf(b: GraphBuilder, { rows, columns, data }: Matrix): string {
  return b.weights([rows, columns], data);
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
  const given = new Map<string, string>();
  if (cell.writes) {
    cell.states.forEach(({ name, shape }, i) => {
      b.give(next[i]!, `next/${name}`, FLOAT, ["rows", ...shape]);
      given.set(next[i]!, `next/${name}`);
    });
  }
  const ports = cell.outputs.map((spec) => {
    const value = outputs[spec.name];
    if (value === undefined) throw new Error(`cell '${cell.name}' has no output '${spec.name}' to give`);
    const known = given.get(value);
    if (known === undefined) emit(b, cell, spec.name, value);
    return plain(known ?? `out/${spec.name}`, ...spec.shape);
  });
  const slots = Array.from({ length: cell.reads }, (_, slot) => (cell.reads === 1 ? "" : `/${slot}`));
  return {
    onnx: b.encode(),
    inputs,
    reads: slots.map((suffix) => cell.states.map(({ name, shape }) => rows(`state/${name}${suffix}`, shape))),
    writes: cell.writes ? cell.states.map(({ name, shape }) => rows(`next/${name}`, shape)) : [],
    outputs: ports,
  };
}

function emit(b: GraphBuilder, cell: CellSpec, name: string, value: string): void {
  const spec = cell.outputs.find((output) => output.name === name);
  if (!spec) return;
  b.give(value, `out/${name}`, spec.dtype === "int32" ? INT32 : FLOAT, ["outputs", ...spec.shape]);
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
