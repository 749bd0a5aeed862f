import type onnxProto from "onnx-proto";
import { type Constant, decoded } from "./tensors.ts";

type Node = onnxProto.onnx.INodeProto;

/** A node LSTM or GRU that runs forwards with the usual functions from a given state. */
export interface Recurrence {
  readonly kind: "LSTM" | "GRU";
  /** Units; `gates` times as many rows are in each matrix: `i, o, f, c` of an LSTM, `z, r, h` of a GRU. */
  readonly size: number;
  readonly gates: number;
  readonly input: number;
  /** `[gates * size, input]`. */
  readonly inputWeights: Float32Array;
  /** `[gates * size, size]`. */
  readonly stateWeights: Float32Array;
  readonly inputBias: Float32Array;
  readonly stateBias: Float32Array;
  /** Of a GRU: whether the reset gate is applied to the product with the state, bias and all, instead of the state. */
  readonly resetsProduct: boolean;
  readonly x: string;
  readonly h: string;
  /** Of an LSTM. */
  readonly c: string | undefined;
}

const GATES = { LSTM: 4, GRU: 3 } as const;

/** Undefined for any other node, and for one with peepholes, lengths of sequences, other functions or more directions. */
export function recurrenceOf(
  node: Node,
  constant: (name: string | undefined) => Constant | undefined,
): Recurrence | undefined {
  const { opType } = node;
  if (opType !== "LSTM" && opType !== "GRU") return undefined;
  const of = decoded(node);
  const [x, w, r, b, lengths, h, c, peepholes] = node.input!;
  const size = of.int("hidden_size");
  const isPlain =
    !["activations", "clip"].some((name) => of.has(name)) &&
    !["input_forget", "layout"].some((name) => of.int(name)) &&
    (of.text("direction") ?? "forward") === "forward";
  const [weights, state, bias] = [constant(w), constant(r), constant(b)];
  if (!isPlain || lengths || peepholes || !size || !weights || !state || (b && !bias)) return undefined;
  if (!h || (opType === "LSTM" && !c)) return undefined;
  const gates = GATES[opType];
  const biases = Float32Array.from(bias?.values ?? new Float32Array(2 * gates * size));
  return {
    ...{ kind: opType, size, gates, input: weights.dims[2]!, x: x!, h },
    c: opType === "LSTM" ? c : undefined,
    inputWeights: Float32Array.from(weights.values),
    stateWeights: Float32Array.from(state.values),
    inputBias: biases.subarray(0, gates * size),
    stateBias: biases.subarray(gates * size),
    resetsProduct: of.int("linear_before_reset") === 1,
  };
}

/** Both biases in one, as they are added where nothing stands between them. */
export function summed(a: Float32Array, b: Float32Array): Float32Array {
  return a.map((value, i) => value + b[i]!);
}
