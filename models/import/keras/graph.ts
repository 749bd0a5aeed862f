import type { StoredTensor } from "../../safetensors.ts";
import { DataType, SequenceGraph } from "../sequence-graph.ts";
import type { KerasMajor } from "./activations.ts";
import type { LayerEntry, Topology } from "./config.ts";
import { refuse, sayLayer } from "./faults.ts";
import { type KerasLayer, layerOf } from "./layers.ts";
import { addRecurrent } from "./recurrent.ts";
import type { Values } from "./values.ts";
import type { Weights } from "./weights.ts";

export interface KerasModel {
  readonly topology: Topology;
  /** Of the Keras that trained and wrote it. */
  readonly major: KerasMajor;
  readonly weights: Weights;
}

export interface WrittenGraph {
  readonly onnx: Uint8Array;
  /** What the layers are, in a few words. */
  readonly summary: string;
  readonly notes: readonly string[];
}

/** A row of layers as the ONNX file that another framework would export. Throws INVALID_REQUEST that names a layer that is not supported. */
export function sequenceGraph({ topology, major, weights }: KerasModel): WrittenGraph {
  const writer = new LayerWriter(weights);
  const layers = topology.layers.map((entry) => ({ entry, layer: layerOf(entry, major) }));
  if (!layers.some(({ layer }) => layer.kind === "recurrent")) {
    throw refuse("it has no layer with steps (LSTM, GRU, SimpleRNN, RNN or Bidirectional)");
  }
  const working = layers.filter(({ layer }) => layer.kind !== "nothing");
  let values = inputOf(writer.graph, topology, working);
  let name = "h";
  for (const { entry, layer } of working) {
    values = writer.add(entry, layer, values);
    name = nameAfter(layer, name);
  }
  if (values.isReversed && values.hasSteps) {
    writer.notes.push("its steps are answered in the order of the input; Keras answers the last one first");
  }
  const onnx = writer.graph.finish(values.at, name, values.width, values.hasSteps ? "all" : "last");
  return { onnx, summary: layers.flatMap(({ layer }) => wordsOf(layer)).join(", "), notes: writer.notes };
}

type Read = { readonly entry: LayerEntry; readonly layer: KerasLayer };

function inputOf(graph: SequenceGraph, { inputShape }: Topology, layers: readonly Read[]): Values {
  if (layers.find(({ layer }) => layer.kind !== "masking")?.layer.kind === "embedding") {
    const at = graph.input("token", DataType.INT64, ["steps", "rows"]);
    return { at, width: 0, hasSteps: true, isReversed: false };
  }
  const shape = JSON.stringify(inputShape) ?? "undefined";
  const width = Array.isArray(inputShape) && inputShape.length === 3 ? inputShape[2] : undefined;
  if (typeof width !== "number" || !Number.isInteger(width) || width < 1 || width > 2 ** 24) {
    throw refuse(`its input has shape ${shape}; [rows, steps, values] with a number of values is taken`);
  }
  const at = graph.input("x", DataType.FLOAT, ["steps", "rows", width]);
  return { at, width, hasSteps: true, isReversed: false };
}

class LayerWriter {
  readonly graph = new SequenceGraph();
  readonly notes: string[] = [];
  readonly #weights: Weights;

  constructor(weights: Weights) {
    this.#weights = weights;
  }

  add(entry: LayerEntry, layer: KerasLayer, values: Values): Values {
    switch (layer.kind) {
      case "nothing":
        return values;
      case "masking":
        this.#noteMasking(entry, layer.skips);
        return values;
      case "embedding":
        return this.#embedding(entry, layer, values);
      case "dense":
        return this.#dense(entry, layer, values);
      case "activation":
        return { ...values, at: layer.activation.write(this.graph, values.at) };
      case "pooling": {
        if (!values.hasSteps)
          throw refuse(`${sayLayer(entry)} wants steps, the layer before gives the last one`);
        const op = layer.how === "mean" ? "ReduceMean" : "ReduceMax";
        const at = this.graph.node(op, [values.at, this.graph.integers([0])], { keepdims: 0 });
        return { ...values, at, hasSteps: false };
      }
      case "recurrent":
        if (!values.hasSteps)
          throw refuse(`${sayLayer(entry)} wants steps, the layer before gives the last one`);
        if (layer.isStateful) {
          this.notes.push(
            `${sayLayer(entry)} is stateful; requests begin with zeros, sessions keep their state`,
          );
        }
        return addRecurrent(this.graph, entry, layer, values, this.#weights);
    }
  }

  #embedding(
    entry: LayerEntry,
    { symbols, width, isMasking }: Extract<KerasLayer, { kind: "embedding" }>,
    values: Values,
  ): Values {
    if (values.width !== 0) throw refuse(`${sayLayer(entry)} does not stand first, where it takes tokens`);
    if (isMasking) this.#noteMasking(entry, "token 0");
    const table = this.#weights.read(entry, "own", { name: "embeddings", index: 0 }, [symbols, width]);
    const at = this.graph.node("Gather", [this.graph.floats(table), values.at]);
    return { ...values, at, width };
  }

  #dense(
    entry: LayerEntry,
    { units, useBias, activation, place }: Extract<KerasLayer, { kind: "dense" }>,
    values: Values,
  ): Values {
    const read = (name: string, index: number, shape: readonly number[]): StoredTensor =>
      this.#weights.read(entry, place, { name, index }, shape);
    const kernel = this.graph.floats(read("kernel", 0, [values.width, units]));
    let at = this.graph.node("MatMul", [values.at, kernel]);
    if (useBias) at = this.graph.node("Add", [at, this.graph.floats(read("bias", 1, [units]))]);
    return { ...values, at: activation.write(this.graph, at), width: units };
  }

  #noteMasking(entry: LayerEntry, what: string): void {
    this.notes.push(`${sayLayer(entry)} skips steps of ${what}; leave such padding out of requests`);
  }
}

/** The answer's name: `h` of a recurrent layer, `logits` of a dense one, `y` of what another function made of those. */
function nameAfter(layer: KerasLayer, name: string): string {
  switch (layer.kind) {
    case "recurrent":
    case "pooling":
      return "h";
    case "dense":
      return layer.activation.name === "linear" ? "logits" : "y";
    case "activation":
      return layer.activation.name === "linear" ? name : "y";
    default:
      return name;
  }
}

function wordsOf(layer: KerasLayer): string[] {
  switch (layer.kind) {
    case "embedding":
      return [`Embedding of ${layer.symbols}`];
    case "dense":
      return [`Dense of ${layer.units}`];
    case "recurrent":
      return [`${layer.op} of ${layer.units}${layer.directions.length === 2 ? " both ways" : ""}`];
    default:
      return [];
  }
}
