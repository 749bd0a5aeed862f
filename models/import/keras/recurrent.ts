import type { StoredTensor } from "../../safetensors.ts";
import type { Attribute, SequenceGraph } from "../sequence-graph.ts";
import type { LayerEntry } from "./config.ts";
import type { RecurrentDirection, RecurrentLayer } from "./layers.ts";
import type { Values } from "./values.ts";
import type { Weights } from "./weights.ts";

/** Adds a recurrent layer as one node, and what makes its output that of Keras. */
export function addRecurrent(
  graph: SequenceGraph,
  entry: LayerEntry,
  layer: RecurrentLayer,
  values: Values,
  weights: Weights,
): Values {
  const { op, units, directions, goBackwards, resetAfter, returnSequences } = layer;
  const isBoth = directions.length === 2;
  // What is forward to Keras is backward in the order of the input where an earlier layer has turned the steps.
  const isTurned = values.isReversed !== goBackwards;
  const ordered = isBoth && isTurned ? directions.toReversed() : directions;
  const read = ordered.map((direction) => readDirection(entry, layer, direction, values.width, weights));
  const [all, last] = graph.nodes(op, [values.at, ...stacked(graph, read, units)], 2, {
    hidden_size: units,
    direction: isBoth ? "bidirectional" : isTurned ? "reverse" : "forward",
    ...(op === "GRU" ? { linear_before_reset: resetAfter ? 1 : 0 } : {}),
    ...activationsOf(ordered),
  });
  const kept = { hasSteps: returnSequences, isReversed: returnSequences && isTurned };
  const from = returnSequences ? all! : last!;
  const axis = returnSequences ? 1 : 0;
  if (!isBoth) {
    return { ...kept, at: graph.node("Squeeze", [from, graph.integers([axis])]), width: units };
  }
  const width = layer.merge === "concat" ? 2 * units : units;
  return { ...kept, at: merged(graph, from, axis, layer.merge, isTurned), width };
}

interface DirectionWeights {
  /** `[gates * units, input]` in the order of gates that ONNX has. */
  readonly w: StoredTensor;
  /** `[gates * units, units]` */
  readonly r: StoredTensor;
  /** Of the input, then of the state; each `[gates * units]`. */
  readonly b: readonly [Float32Array, Float32Array];
}

/** Where ONNX wants which of Keras's gates: i, o, f, c of i, f, c, o; z, r, h are alike. */
const ORDER = { LSTM: [0, 3, 1, 2], GRU: [0, 1, 2], RNN: [0] } as const;

function readDirection(
  entry: LayerEntry,
  { op, units, useBias, resetAfter }: RecurrentLayer,
  { place }: RecurrentDirection,
  width: number,
  weights: Weights,
): DirectionWeights {
  const order = ORDER[op];
  const columns = order.length * units;
  const kernel = weights.read(entry, place, { name: "kernel", index: 0 }, [width, columns]);
  const state = weights.read(entry, place, { name: "recurrent_kernel", index: 1 }, [units, columns]);
  const hasStateBias = op === "GRU" && resetAfter;
  const shape = hasStateBias ? [2, columns] : [columns];
  const bias = useBias ? weights.read(entry, place, { name: "bias", index: 2 }, shape).data : undefined;
  const part = (at: number) => {
    const own = bias?.subarray(at * columns, (at + 1) * columns);
    return own && own.length > 0 ? reordered(own, order) : new Float32Array(columns);
  };
  return { w: byGate(kernel, order), r: byGate(state, order), b: [part(0), part(1)] };
}

/** A kernel `[input, gates * units]`, transposed, with its gates in another order. */
function byGate({ shape, data }: StoredTensor, order: readonly number[]): StoredTensor {
  const [rows = 0, columns = 0] = shape;
  const units = columns / order.length;
  const turned = new Float32Array(data.length);
  order.forEach((gate, at) => {
    for (let unit = 0; unit < units; unit++) {
      const to = (at * units + unit) * rows;
      const from = gate * units + unit;
      for (let row = 0; row < rows; row++) turned[to + row] = data[row * columns + from]!;
    }
  });
  return { shape: [columns, rows], data: turned };
}

function reordered(data: Float32Array, order: readonly number[]): Float32Array {
  const units = data.length / order.length;
  const moved = new Float32Array(data.length);
  order.forEach((gate, at) => {
    moved.set(data.subarray(gate * units, (gate + 1) * units), at * units);
  });
  return moved;
}

/** W, R and B of a node, `[directions, ...]`. */
function stacked(graph: SequenceGraph, directions: readonly DirectionWeights[], units: number): string[] {
  const [first] = directions;
  const columns = first!.r.data.length / units;
  const whole = (parts: readonly Float32Array[], shape: readonly number[]) => {
    const data = new Float32Array(parts.reduce((sum, { length }) => sum + length, 0));
    let at = 0;
    for (const part of parts) {
      data.set(part, at);
      at += part.length;
    }
    return graph.floats({ shape: [directions.length, ...shape], data });
  };
  return [
    whole(
      directions.map(({ w }) => w.data),
      first!.w.shape,
    ),
    whole(
      directions.map(({ r }) => r.data),
      first!.r.shape,
    ),
    whole(
      directions.flatMap(({ b }) => b),
      [2 * columns],
    ),
  ];
}

/** The functions of all directions, with the alphas and betas of those that take them. */
function activationsOf(directions: readonly RecurrentDirection[]): Record<string, Attribute> {
  const gates = directions.flatMap((direction) => direction.gates);
  const alphas = gates.flatMap(({ alpha }) => alpha ?? []);
  const betas = gates.flatMap(({ beta }) => beta ?? []);
  return {
    activations: gates.map(({ op }) => op),
    ...(alphas.length > 0 ? { activation_alpha: { floats: alphas } } : {}),
    ...(betas.length > 0 ? { activation_beta: { floats: betas } } : {}),
  };
}

const REDUCTIONS = { sum: "ReduceSum", mul: "ReduceProd", ave: "ReduceMean" } as const;

/** The outputs of both directions as one; `axis` tells them apart, the one that is forward to Keras is second where they are turned. */
function merged(
  graph: SequenceGraph,
  from: string,
  axis: 0 | 1,
  merge: RecurrentLayer["merge"],
  isTurned: boolean,
): string {
  if (merge !== "concat") {
    return graph.node(REDUCTIONS[merge], [from, graph.integers([axis])], { keepdims: 0 });
  }
  const own = isTurned ? graph.node("Gather", [from, graph.integers([1, 0])], { axis }) : from;
  const perm = axis === 1 ? [0, 2, 1, 3] : [1, 0, 2];
  const turned = graph.node("Transpose", [own], { perm });
  return graph.node("Reshape", [turned, graph.integers(axis === 1 ? [0, 0, -1] : [0, -1])]);
}
