import type { CellSpec, Matrix, Quantization, RecurrentWeights } from "../../src/core/cell.ts";
import { foldedBias } from "../input-table.ts";
import {
  type CellGraph,
  columnsOf,
  emit,
  finish,
  headOutputs,
  partOf,
  plain,
  rowsOf,
  weightsOf,
} from "./cell-graph.ts";
import { inputProduct, type StateProduct, stateProduct } from "./gate-products.ts";
import { FLOAT, GraphBuilder, INT32 } from "./graph.ts";

/**
 * Builds the graph of a recurrent cell for `steps` steps in one call; `table` is what `inputTable` gives, where it fits. Each
 * gate has a product of its own: ONNX Runtime then applies the activation where the product lies, and nothing is split,
 * 7 to 12 % of a step at 128 to 256 units.
 */
export function recurrentGraph(cell: CellSpec, steps: number, table?: Matrix): CellGraph {
  const { body } = cell;
  if (body.kind !== "lstm" && body.kind !== "gru") throw new Error(`cell '${cell.name}' is not recurrent`);
  const { hidden, inputWeights } = body.weights;
  const b = new GraphBuilder();
  let state = cell.states.map(({ name }) => b.input(`state/${name}`, FLOAT, ["rows", hidden]));
  const port = plain(body.embedding ? "in/token" : "in/x", body.embedding ? undefined : inputWeights.columns);
  const given = body.embedding
    ? b.input("in/token", INT32, ["inputs"])
    : b.input("in/x", FLOAT, ["inputs", inputWeights.columns]);
  const inputs = gateInputs(b, body.kind, body.weights, {
    given,
    ...(body.embedding ? { embedding: body.embedding } : {}),
    ...(table ? { table } : {}),
    ...(body.quantize ? { quantize: body.quantize } : {}),
  });
  const byGate = inputs.map((input) =>
    steps === 1 ? [input] : b.nodes("Split", [input], steps, { axis: 0, num_outputs: steps }),
  );
  const product = stateProduct(
    b,
    inputs.map((_, gate) => rowsOf(body.weights.stateWeights, gate, inputs.length)),
    body.quantize,
  );
  const step = body.kind === "lstm" ? lstmStep(b, product) : gruStep(b, product, body.weights);
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

/** A linear head on a state. */
export function headGraph(cell: CellSpec): CellGraph {
  const { body } = cell;
  if (body.kind !== "linear")
    throw new Error(`cell '${cell.name}' of kind '${body.kind}' has no built graph`);
  const b = new GraphBuilder();
  const h = b.input("state/h", FLOAT, ["rows", body.head.weights.columns]);
  return finish(b, cell, [], [], headOutputs(b, h, body.head, cell));
}

/**
 * What the input adds to each gate, biases that need no state among it: looked up in `table`, where given, else the product
 * of the vector `given`, or of the `embedding` of the token `given`.
 */
export function gateInputs(
  b: GraphBuilder,
  kind: "lstm" | "gru",
  weights: RecurrentWeights,
  from: {
    readonly given: string;
    readonly embedding?: Matrix;
    readonly table?: Matrix;
    readonly quantize?: Quantization;
  },
): string[] {
  const { given, embedding, table, quantize } = from;
  const { hidden, inputWeights } = weights;
  const count = inputWeights.rows / hidden;
  const lookUp = (matrix: Matrix) => b.node("Gather", [weightsOf(b, matrix), given]);
  if (table) return Array.from({ length: count }, (_, gate) => lookUp(columnsOf(table, gate, count)));
  const bias = foldedBias(kind, weights);
  const gates = Array.from({ length: count }, (_, gate) => ({
    weights: rowsOf(inputWeights, gate, count),
    bias: partOf(bias, gate, count),
  }));
  return inputProduct(b, embedding ? lookUp(embedding) : given, gates, quantize);
}

/** One step, from what its input adds to each gate, in the order of the weights. */
type Step = (input: readonly string[], state: readonly string[]) => string[];

export function lstmStep(b: GraphBuilder, product: StateProduct): Step {
  return (input, [h, c]) => {
    const sums = product(h!, input);
    const [i, f, , o] = sums.map((sum, gate) => (gate === 2 ? "" : b.node("Sigmoid", [sum])));
    const kept = b.node("Mul", [f!, c!]);
    const next = b.node("Add", [kept, b.node("Mul", [i!, b.node("Tanh", [sums[2]!])])]);
    return [b.node("Mul", [o!, b.node("Tanh", [next])]), next];
  };
}

function gruStep(b: GraphBuilder, product: StateProduct, { hidden, stateBias }: RecurrentWeights): Step {
  const bias = b.weights([hidden], stateBias.subarray(2 * hidden));
  return ([resetInput, updateInput, newInput], [h]) => {
    const [resetSum, updateSum, fromState] = product(h!, [resetInput!, updateInput!, bias]);
    const reset = b.node("Sigmoid", [resetSum!]);
    const update = b.node("Sigmoid", [updateSum!]);
    const n = b.node("Tanh", [b.node("Add", [newInput!, b.node("Mul", [reset, fromState!])])]);
    return [b.node("Add", [n, b.node("Mul", [update, b.node("Sub", [h!, n])])])];
  };
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
