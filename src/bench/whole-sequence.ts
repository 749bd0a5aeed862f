import { FLOAT, GraphBuilder, INT32 } from "../../kernels/onnx/graph.ts";
import type { ModelDefinition, WholeGraph } from "../../models/definition.ts";
import type { CellSpec } from "../core/cell.ts";

/** How requests are batched whole. */
export interface WholeBatching {
  readonly maxBatch: number;
  readonly timeoutMs: number;
  readonly order: WholeGraph["order"];
  /** Requests of one buffer differ by less than this many steps; Infinity for one buffer. */
  readonly bucketWidth: number;
}

const LONGEST = 340;

/**
 * The model that people serve today: an LSTM or GRU over whole sequences as PyTorch exports it, padded, with the lengths as an
 * input of the operator, which stops each row at its own. A timeout of 0 takes a batch whenever the engine is idle.
 */
export function wholeSequenceModel(name: string, cell: CellSpec, batching: WholeBatching): ModelDefinition {
  const { maxBatch, timeoutMs, order, bucketWidth } = batching;
  const edges = Number.isFinite(bucketWidth)
    ? Array.from({ length: Math.ceil(LONGEST / bucketWidth) - 1 }, (_, i) => (i + 1) * bucketWidth)
    : [];
  const inputs = [
    ...cell.inputs.map((input) => ({ ...input, shape: [-1, ...input.shape] })),
    { name: "lengths", dtype: "int32" as const, shape: [] },
  ];
  return {
    name,
    version: "1",
    description: "for measuring",
    cells: [
      {
        name: "graph",
        inputs,
        reads: 0,
        writes: false,
        states: [],
        outputs: cell.outputs,
        body: { kind: "graph", graph: { onnx: wholeSequenceGraph(cell), states: [] } },
      },
    ],
    program: {
      kind: "graph",
      cell: "graph",
      lengths: "lengths",
      pad: {},
      order,
      eager: timeoutMs === 0,
      buffers: [...edges.map((upTo) => ({ upTo, maxBatch, timeoutMs })), { maxBatch, timeoutMs }],
    },
    inputs: inputs.slice(0, -1),
    outputs: cell.outputs,
  };
}

function wholeSequenceGraph(cell: CellSpec): Uint8Array {
  const { body } = cell;
  if (body.kind !== "lstm" && body.kind !== "gru") throw new Error(`cell '${cell.name}' is not recurrent`);
  const { hidden, inputWeights, stateWeights, inputBias, stateBias } = body.weights;
  const isLstm = body.kind === "lstm";
  const b = new GraphBuilder();
  // ONNX wants the gates i, o, f, c of an LSTM, and z, r, h of a GRU.
  const order = isLstm ? [0, 3, 1, 2] : [1, 0, 2];
  const gates = order.length;
  const sorted = (data: Float32Array) => {
    const block = data.length / gates;
    const out = new Float32Array(data.length);
    order.forEach((from, to) => out.set(data.subarray(from * block, (from + 1) * block), to * block));
    return out;
  };
  const lengths = b.input("lengths", INT32, ["rows"]);
  const width = inputWeights.columns;
  const given = body.embedding
    ? b.node("Gather", [
        b.weights([body.embedding.rows, body.embedding.columns], body.embedding.data),
        b.node("Transpose", [b.input("token", INT32, ["rows", "steps"])], { perm: [1, 0] }),
      ])
    : b.node("Transpose", [b.input("x", FLOAT, ["rows", "steps", width])], { perm: [1, 0, 2] });
  const bias = new Float32Array(2 * gates * hidden);
  bias.set(sorted(inputBias));
  bias.set(sorted(stateBias), gates * hidden);
  const [, last] = b.nodes(
    isLstm ? "LSTM" : "GRU",
    [
      given,
      b.weights([1, gates * hidden, width], sorted(inputWeights.data)),
      b.weights([1, gates * hidden, hidden], sorted(stateWeights.data)),
      b.weights([1, 2 * gates * hidden], bias),
      lengths,
    ],
    2,
    { hidden_size: hidden, ...(isLstm ? {} : { linear_before_reset: 1 }) },
    ["", "last"],
  );
  b.node("Squeeze", [last!, b.integers([0])], {}, "h");
  b.output("h", FLOAT, ["rows", hidden]);
  return b.encode();
}
