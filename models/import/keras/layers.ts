import { z } from "zod";
import { activationOf, type Gate, gateOf, type KerasActivation, type KerasMajor } from "./activations.ts";
import { type LayerEntry, parse, readLayer } from "./config.ts";
import { refuse, sayLayer } from "./faults.ts";
import type { Place } from "./weights.ts";

/** What a layer computes, read from its config. */
export type KerasLayer =
  | { readonly kind: "nothing" }
  /** Leaves steps out that are padding. */
  | { readonly kind: "masking"; readonly skips: string }
  | {
      readonly kind: "embedding";
      readonly symbols: number;
      readonly width: number;
      readonly isMasking: boolean;
    }
  | {
      readonly kind: "dense";
      readonly units: number;
      readonly useBias: boolean;
      readonly activation: KerasActivation;
      readonly place: Place;
    }
  | { readonly kind: "activation"; readonly activation: KerasActivation }
  | { readonly kind: "pooling"; readonly how: "mean" | "max" }
  | RecurrentLayer;

export interface RecurrentLayer {
  readonly kind: "recurrent";
  /** The node of ONNX. */
  readonly op: "LSTM" | "GRU" | "RNN";
  readonly units: number;
  readonly useBias: boolean;
  /** Of a GRU. */
  readonly resetAfter: boolean;
  /** Whether all steps are given or the last one. */
  readonly returnSequences: boolean;
  /** Of a layer with one direction: whether it begins at the last step and gives its steps in that order. */
  readonly goBackwards: boolean;
  readonly isStateful: boolean;
  /** One, or forward and backward. */
  readonly directions: readonly RecurrentDirection[];
  /** How the outputs of two directions become one. */
  readonly merge: "concat" | "sum" | "mul" | "ave";
}

export interface RecurrentDirection {
  readonly place: Place;
  /** In the order in which ONNX wants them: for the gates first. */
  readonly gates: readonly Gate[];
}

/** Reads the config of a layer. Throws INVALID_REQUEST with its name and class where it is not supported. */
export function layerOf(entry: LayerEntry, major: KerasMajor): KerasLayer {
  if (NOTHING.has(entry.className)) return { kind: "nothing" };
  const read = Object.hasOwn(READERS, entry.className) ? READERS[entry.className] : undefined;
  if (!read) throw refuse(`${sayLayer(entry)} is not supported`);
  if (entry.config.quantization_config) throw refuse(`${sayLayer(entry)} is quantised`);
  return read(entry, major);
}

/** What answers its input when a model is not being trained. */
const NOTHING = new Set([
  "ActivityRegularization",
  "AlphaDropout",
  "Dropout",
  "GaussianDropout",
  "GaussianNoise",
  "InputLayer",
  "SpatialDropout1D",
]);

const size = z
  .number()
  .int()
  .positive()
  .max(2 ** 24);

const READERS: Readonly<Record<string, (entry: LayerEntry, major: KerasMajor) => KerasLayer>> = {
  Activation: (entry, major) => ({
    kind: "activation",
    activation: activationOf(entry, "activation", major),
  }),
  Bidirectional: bidirectional,
  Dense: (entry, major) => dense(entry, major, "own"),
  Embedding: (entry) => {
    const Config = z.looseObject({ input_dim: size, output_dim: size, mask_zero: z.boolean().nullish() });
    const config = read(Config, entry);
    if (entry.config.lora_rank) throw refuse(`${sayLayer(entry)} has LoRA weights: merge them before saving`);
    return {
      kind: "embedding",
      symbols: config.input_dim,
      width: config.output_dim,
      isMasking: config.mask_zero ?? false,
    };
  },
  GlobalAveragePooling1D: (entry) => pooling(entry, "mean"),
  GlobalMaxPooling1D: (entry) => pooling(entry, "max"),
  GRU: (entry, major) => recurrent(entry, entry, "GRU", major),
  LSTM: (entry, major) => recurrent(entry, entry, "LSTM", major),
  Masking: (entry) => ({ kind: "masking", skips: `value ${Number(entry.config.mask_value ?? 0)}` }),
  RNN: (entry, major) => {
    const cell = readLayer(entry.config.cell, `the cell of ${sayLayer(entry)}`);
    const op = CELLS[cell.className];
    if (!op) throw refuse(`${sayLayer(entry)} has ${sayLayer(cell)} for a cell, which is not supported`);
    return recurrent(entry, cell, op, major);
  },
  SimpleRNN: (entry, major) => recurrent(entry, entry, "RNN", major),
  TimeDistributed: (entry, major) => {
    const inner = readLayer(entry.config.layer, `the layer in ${sayLayer(entry)}`);
    if (inner.className === "Dense") return dense(inner, major, "inner");
    if (inner.className === "Activation" || inner.className === "Dropout") return layerOf(inner, major);
    throw refuse(`${sayLayer(entry)} holds ${sayLayer(inner)}, which is not supported there`);
  },
};

const CELLS: Readonly<Record<string, RecurrentLayer["op"]>> = {
  GRUCell: "GRU",
  LSTMCell: "LSTM",
  SimpleRNNCell: "RNN",
};

function read<T extends z.ZodType>(schema: T, entry: LayerEntry): z.infer<T> {
  return parse(schema, entry.config, `the config of ${sayLayer(entry)}`);
}

function dense(entry: LayerEntry, major: KerasMajor, place: Place): KerasLayer {
  const { units, use_bias: useBias } = read(z.looseObject({ units: size, use_bias: z.boolean() }), entry);
  if (entry.config.lora_rank) throw refuse(`${sayLayer(entry)} has LoRA weights: merge them before saving`);
  return { kind: "dense", units, useBias, activation: activationOf(entry, "activation", major), place };
}

function pooling(entry: LayerEntry, how: "mean" | "max"): KerasLayer {
  const { data_format: format, keepdims } = entry.config;
  if (format === "channels_first") throw refuse(`${sayLayer(entry)} has data_format 'channels_first'`);
  if (keepdims) throw refuse(`${sayLayer(entry)} has keepdims=True`);
  return { kind: "pooling", how };
}

const Recurrent = z.looseObject({
  return_sequences: z.boolean(),
  return_state: z.boolean().nullish(),
  go_backwards: z.boolean().nullish(),
  stateful: z.boolean().nullish(),
  time_major: z.boolean().nullish(),
});

const Cell = z.looseObject({ units: size, use_bias: z.boolean(), reset_after: z.boolean().nullish() });

/** A recurrent layer whose cell has a config of its own or shares the layer's. */
function recurrent(
  entry: LayerEntry,
  cell: LayerEntry,
  op: RecurrentLayer["op"],
  major: KerasMajor,
): RecurrentLayer {
  const config = read(Recurrent, entry);
  const { units, use_bias: useBias, reset_after: resetAfter } = read(Cell, cell);
  if (config.return_state) throw refuse(`${sayLayer(entry)} gives its states too (return_state)`);
  if (config.time_major) throw refuse(`${sayLayer(entry)} has time_major=True`);
  const activation = gateOf(cell, "activation", major);
  const gates = {
    LSTM: () => [gateOf(cell, "recurrent_activation", major), activation, activation],
    GRU: () => [gateOf(cell, "recurrent_activation", major), activation],
    RNN: () => [activation],
  }[op]();
  return {
    kind: "recurrent",
    op,
    units,
    useBias,
    resetAfter: resetAfter ?? false,
    returnSequences: config.return_sequences,
    goBackwards: config.go_backwards ?? false,
    isStateful: config.stateful ?? false,
    directions: [{ place: "cell", gates }],
    merge: "concat",
  };
}

const Merge = z.enum(["concat", "sum", "mul", "ave"]);

function bidirectional(entry: LayerEntry, major: KerasMajor): RecurrentLayer {
  const merge = entry.config.merge_mode;
  if (merge === null) throw refuse(`${sayLayer(entry)} gives two outputs (merge_mode=None)`);
  const forward = inDirection(entry, "layer", major);
  const backward = entry.config.backward_layer ? inDirection(entry, "backward_layer", major) : forward;
  if (forward.goBackwards || (backward !== forward && !backward.goBackwards)) {
    throw refuse(`${sayLayer(entry)} has go_backwards the other way round in its layers`);
  }
  for (const key of ["op", "units", "useBias", "resetAfter", "returnSequences"] as const) {
    if (forward[key] !== backward[key])
      throw refuse(`${sayLayer(entry)} has two directions that differ in ${key}`);
  }
  return {
    ...forward,
    directions: [
      { place: "forward", gates: forward.directions[0]!.gates },
      { place: "backward", gates: backward.directions[0]!.gates },
    ],
    merge: parse(Merge, merge ?? "concat", `merge_mode of ${sayLayer(entry)}`),
  };
}

function inDirection(entry: LayerEntry, key: "layer" | "backward_layer", major: KerasMajor): RecurrentLayer {
  const inner = readLayer(entry.config[key], `${key} of ${sayLayer(entry)}`);
  const layer = layerOf(inner, major);
  if (layer.kind === "recurrent" && layer.directions.length === 1) return layer;
  throw refuse(`${sayLayer(entry)} holds ${sayLayer(inner)}, which is not supported there`);
}
