import type { StoredTensor } from "../../safetensors.ts";
import { DataType, SequenceGraph } from "../sequence-graph.ts";
import type { TorchCell, TorchLinear, TorchModel } from "./state-dict.ts";

/** A model of a state dict as the ONNX file that PyTorch would export: one node per layer over whole sequences. */
export function sequenceGraph(
  model: TorchModel,
  { nonlinearity, collect }: { readonly nonlinearity: "tanh" | "relu"; readonly collect: "last" | "all" },
): Uint8Array {
  const graph = new SequenceGraph();
  const { kind, hidden, layers, embedding, linear } = model;
  const directions = layers[0]!.length;
  let values = embedding
    ? graph.node("Gather", [graph.floats(embedding), graph.input("token", DataType.INT64, ["steps", "rows"])])
    : graph.input("x", DataType.FLOAT, ["steps", "rows", layers[0]![0]!.inputWeights.shape[1]!]);
  let last = "";
  for (const cells of layers) {
    const outputs = graph.nodes(kind, [values, ...weightsOf(graph, kind, cells)], kind === "LSTM" ? 3 : 2, {
      hidden_size: hidden,
      direction: directions === 2 ? "bidirectional" : "forward",
      ...(kind === "GRU" ? { linear_before_reset: 1 } : {}),
      ...(kind === "RNN"
        ? { activations: cells.map(() => (nonlinearity === "relu" ? "Relu" : "Tanh")) }
        : {}),
    });
    last = outputs[1]!;
    if (directions === 1) values = graph.node("Squeeze", [outputs[0]!, graph.integers([1])]);
    else {
      const turned = graph.node("Transpose", [outputs[0]!], { perm: [0, 2, 1, 3] });
      values = graph.node("Reshape", [turned, graph.integers([0, 0, -1])]);
    }
  }
  if (collect === "last") {
    // [directions, rows, hidden], in which a backward direction ends at the first step.
    const turned = graph.node("Transpose", [last], { perm: [1, 0, 2] });
    values = graph.node("Reshape", [turned, graph.integers([0, -1])]);
  }
  const width = directions * hidden;
  return graph.finish(...addLinear(graph, values, linear, width), collect);
}

/** One step of an LSTM with `proj_size`, which the LSTM node of ONNX does not have. Its states are `h0`, `c0`, `h1`, ... */
export function projectedStep({ hidden, layers, embedding, linear }: TorchModel): Uint8Array {
  const graph = new SequenceGraph();
  let values = embedding
    ? graph.node("Gather", [graph.floats(embedding), graph.input("token", DataType.INT32, ["rows"])])
    : graph.input("x", DataType.FLOAT, ["rows", layers[0]![0]!.inputWeights.shape[1]!]);
  layers.forEach(([cell], layer) => {
    const { inputWeights, stateWeights, inputBias, stateBias, projection } = cell!;
    const size = stateWeights.shape[1]!;
    const h = graph.input(`h${layer}`, DataType.FLOAT, ["rows", size]);
    const c = graph.input(`c${layer}`, DataType.FLOAT, ["rows", hidden]);
    const product = (from: string, weights: StoredTensor, bias: StoredTensor | undefined) =>
      graph.node("Gemm", [from, graph.floats(weights), ...(bias ? [graph.floats(bias)] : [])], { transB: 1 });
    const gates = graph.node("Add", [
      product(values, inputWeights, inputBias),
      product(h, stateWeights, stateBias),
    ]);
    const [i, f, g, o] = graph.nodes("Split", [gates, graph.integers([hidden, hidden, hidden, hidden])], 4, {
      axis: 1,
    });
    const kept = graph.node("Mul", [graph.node("Sigmoid", [f!]), c]);
    const added = graph.node("Mul", [graph.node("Sigmoid", [i!]), graph.node("Tanh", [g!])]);
    const cell1 = graph.node("Add", [kept, added]);
    const shown = graph.node("Mul", [graph.node("Sigmoid", [o!]), graph.node("Tanh", [cell1])]);
    values = product(shown, projection!, undefined);
    graph.output(`h${layer}_out`, values, ["rows", size]);
    graph.output(`c${layer}_out`, cell1, ["rows", hidden]);
  });
  const [result, name, width] = addLinear(graph, values, linear, layers[0]![0]!.stateWeights.shape[1]!);
  graph.output(name, result, ["rows", width]);
  return graph.encode();
}

function addLinear(
  graph: SequenceGraph,
  from: string,
  linear: readonly TorchLinear[],
  width: number,
): [values: string, name: string, width: number] {
  let values = from;
  for (const { weights, bias } of linear) {
    values = graph.node("MatMul", [values, graph.floats(transposed(weights))]);
    if (bias) values = graph.node("Add", [values, graph.floats(bias)]);
  }
  return [values, linear.length > 0 ? "logits" : "h", linear.at(-1)?.weights.shape[0] ?? width];
}

/** W, R and B of a node, `[directions, ...]`, with the gates in ONNX's order. */
function weightsOf(graph: SequenceGraph, kind: TorchModel["kind"], cells: readonly TorchCell[]): string[] {
  const order = ORDER[kind];
  const stacked = (tensors: readonly StoredTensor[]) => {
    const shape = [tensors.length, ...tensors[0]!.shape];
    const data = new Float32Array(shape.reduce((a, b) => a * b, 1));
    tensors.forEach((tensor, at) => {
      data.set(reordered(tensor, order), at * tensor.data.length);
    });
    return graph.floats({ shape, data });
  };
  const rows = cells[0]!.stateWeights.shape[0]!;
  const zeros = { shape: [rows], data: new Float32Array(rows) };
  const bias = (one: StoredTensor | undefined) => reordered(one ?? zeros, order);
  const biases = cells.map(({ inputBias, stateBias }) =>
    Float32Array.from([...bias(inputBias), ...bias(stateBias)]),
  );
  const data = Float32Array.from(biases.flatMap((one) => [...one]));
  return [
    stacked(cells.map(({ inputWeights }) => inputWeights)),
    stacked(cells.map(({ stateWeights }) => stateWeights)),
    graph.floats({ shape: [cells.length, 2 * rows], data }),
  ];
}

/** Where ONNX wants which of PyTorch's gates: i, o, f, c of i, f, g, o; and z, r, h of r, z, n. */
const ORDER = { LSTM: [0, 3, 1, 2], GRU: [1, 0, 2], RNN: [0] } as const;

function reordered({ data }: StoredTensor, order: readonly number[]): Float32Array {
  const size = data.length / order.length;
  const moved = new Float32Array(data.length);
  order.forEach((gate, at) => {
    moved.set(data.subarray(gate * size, (gate + 1) * size), at * size);
  });
  return moved;
}

function transposed({ shape, data }: StoredTensor): StoredTensor {
  const [rows = 0, columns = 0] = shape;
  const turned = new Float32Array(data.length);
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++)
      turned[column * rows + row] = data[row * columns + column]!;
  }
  return { shape: [columns, rows], data: turned };
}
