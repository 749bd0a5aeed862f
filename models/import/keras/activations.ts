import { z } from "zod";
import type { SequenceGraph } from "../sequence-graph.ts";
import { type LayerEntry, parse } from "./config.ts";
import { refuse, sayLayer } from "./faults.ts";

/** A function of values. */
export interface KerasActivation {
  readonly name: string;
  /** As LSTM, GRU and RNN nodes of ONNX name it, alpha and beta where it takes them; undefined where they do not know it. */
  readonly gate: Gate | undefined;
  /** Adds it to a graph and answers where its values are. */
  readonly write: (graph: SequenceGraph, values: string) => string;
}

export interface Gate {
  readonly op: string;
  readonly alpha?: number;
  readonly beta?: number;
}

/** What is computed follows the major version of the Keras that wrote a model; TensorFlow.js computes as 2. */
export type KerasMajor = 2 | 3;

const Named = z.union([
  z.string(),
  z.looseObject({
    class_name: z.literal("function"),
    config: z.string(),
    module: z.string().nullish(),
  }),
]);

/** The activation that a layer's config names. Throws INVALID_REQUEST for one that is not known. */
export function activationOf(layer: LayerEntry, key: string, major: KerasMajor): KerasActivation {
  const given = layer.config[key];
  if (given === null) return activation("linear", major)!;
  const named = parse(Named, given, `${key} of ${sayLayer(layer)}`);
  const name = typeof named === "string" ? named : named.config;
  const found = activation(name, major);
  if (found) return found;
  throw refuse(`${sayLayer(layer)} has ${key} '${name}', which is not known`);
}

/** As `activationOf`, for the gates of a recurrent layer. */
export function gateOf(layer: LayerEntry, key: string, major: KerasMajor): Gate {
  const { name, gate } = activationOf(layer, key, major);
  if (gate) return gate;
  throw refuse(`${sayLayer(layer)} has ${key} '${name}', which gates do not take`);
}

function activation(name: string, major: KerasMajor): KerasActivation | undefined {
  if (name === "hard_sigmoid") return gated(name, hardSigmoid(major));
  if (Object.hasOwn(GATES, name)) return gated(name, GATES[name]!);
  if (Object.hasOwn(OTHERS, name)) return { name, gate: undefined, write: OTHERS[name]! };
  return undefined;
}

/** Keras 3 took the one of PyTorch, `relu6(x + 3) / 6`, in place of `0.2 x + 0.5` between 0 and 1. */
function hardSigmoid(major: KerasMajor): Gate {
  return { op: "HardSigmoid", alpha: major === 3 ? 1 / 6 : 0.2, beta: 0.5 };
}

const GATES: Readonly<Record<string, Gate>> = {
  linear: { op: "Affine", alpha: 1, beta: 0 },
  tanh: { op: "Tanh" },
  sigmoid: { op: "Sigmoid" },
  relu: { op: "Relu" },
  softplus: { op: "Softplus" },
  softsign: { op: "Softsign" },
  elu: { op: "Elu", alpha: 1 },
  leaky_relu: { op: "LeakyRelu", alpha: 0.2 },
};

function gated(name: string, gate: Gate): KerasActivation {
  const { op, alpha, beta } = gate;
  if (op === "Affine") return { name, gate, write: (_, values) => values };
  const attributes = {
    ...(alpha === undefined ? {} : { alpha: { float: alpha } }),
    ...(beta === undefined ? {} : { beta: { float: beta } }),
  };
  return { name, gate, write: (graph, values) => graph.node(op, [values], attributes) };
}

const swish = (graph: SequenceGraph, values: string) =>
  graph.node("Mul", [values, graph.node("Sigmoid", [values])]);

const OTHERS: Readonly<Record<string, KerasActivation["write"]>> = {
  softmax: (graph, values) => graph.node("Softmax", [values], { axis: -1 }),
  log_softmax: (graph, values) => graph.node("LogSoftmax", [values], { axis: -1 }),
  exponential: (graph, values) => graph.node("Exp", [values]),
  selu: (graph, values) => graph.node("Selu", [values]),
  mish: (graph, values) => graph.node("Mish", [values]),
  hard_silu: (graph, values) => graph.node("HardSwish", [values]),
  silu: swish,
  swish,
  relu6: (graph, values) => graph.node("Clip", [values, graph.scalar(0), graph.scalar(6)]),
  gelu: (graph, values) => {
    const erf = graph.node("Erf", [graph.node("Mul", [values, graph.scalar(Math.SQRT1_2)])]);
    const half = graph.node("Mul", [values, graph.scalar(0.5)]);
    return graph.node("Mul", [half, graph.node("Add", [erf, graph.scalar(1)])]);
  },
};
