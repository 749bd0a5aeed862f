import { z } from "zod";
import { refuse, sayLayer } from "./faults.ts";

/** A layer as the file has it. */
export interface LayerEntry {
  readonly name: string;
  readonly className: string;
  /** What `get_config` gives. */
  readonly config: Readonly<Record<string, unknown>>;
  /** Of a layer that had no InputLayer before it, what Keras 3 says it was built for. */
  readonly inputShape: unknown;
}

/** A model as a row of layers. */
export interface Topology {
  readonly name: string;
  /** In the order of computation. */
  readonly layers: readonly LayerEntry[];
  /** All layers in the order of the file, which is the order that its weights are numbered in. */
  readonly all: readonly LayerEntry[];
  /** `[rows, steps]` or `[rows, steps, values]`, null where a size is open; undefined where the file does not say. */
  readonly inputShape: unknown;
}

const Layer = z.looseObject({
  class_name: z.string(),
  config: z.record(z.string(), z.unknown()),
  name: z.string().optional(),
  module: z.string().nullish(),
  registered_name: z.string().nullish(),
  inbound_nodes: z.unknown().optional(),
  build_config: z.looseObject({ input_shape: z.unknown().optional() }).nullish(),
});

const Sequential = z.looseObject({
  name: z.string().default("sequential"),
  layers: z.array(Layer).min(1),
  build_input_shape: z.unknown().optional().optional(),
});

const Functional = z.looseObject({
  name: z.string().default("model"),
  layers: z.array(Layer).min(1),
  input_layers: z.unknown().optional(),
  output_layers: z.unknown().optional(),
});

const Model = z.looseObject({ class_name: z.string(), config: z.unknown() });

type LayerJson = z.infer<typeof Layer>;

/** Reads what `model.to_json()` writes, of Keras 2 and 3. Throws INVALID_REQUEST where it is no row of layers. */
export function readTopology(json: unknown): Topology {
  const { class_name: kind, config } = parse(Model, json, "the topology");
  switch (kind) {
    case "Sequential":
      return sequential(config);
    case "Functional":
    case "Model":
      return functional(config);
    default:
      throw refuse(`its class is '${kind}'; a Sequential or a Functional model is taken`);
  }
}

/** Checks a value of the file against a schema. */
export function parse<T extends z.ZodType>(schema: T, value: unknown, what: string): z.infer<T> {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  const path = issue!.path.map(String).join(".");
  throw refuse(`${what} is malformed${path === "" ? "" : ` at ${path}`}: ${issue!.message}`);
}

/** A layer inside a layer: of a Bidirectional, a TimeDistributed or an RNN. */
export function readLayer(json: unknown, what: string): LayerEntry {
  return entryOf(parse(Layer, json, what));
}

function sequential(config: unknown): Topology {
  // Before Keras 2.2.3 the layers stood alone.
  const whole = Array.isArray(config) ? { layers: config } : config;
  const { name, layers, build_input_shape: built } = parse(Sequential, whole, "the Sequential model");
  const entries = layers.map(entryOf);
  checkNames(entries);
  const inputShape = inputShapeOf(entries[0]!) ?? built ?? entries[0]!.inputShape;
  return { name, layers: entries, all: entries, inputShape };
}

function functional(config: unknown): Topology {
  const whole = parse(Functional, config, "the Functional model");
  const all = whole.layers.map(entryOf);
  checkNames(all);
  const byName = new Map(whole.layers.map((layer, i) => [all[i]!.name, { layer, entry: all[i]! }]));
  const first = soleName(whole.input_layers, "input");
  const row: LayerEntry[] = [];
  for (let name: string | undefined = soleName(whole.output_layers, "output"); name !== undefined; ) {
    const found = byName.get(name);
    if (!found) throw refuse(`it has no layer '${name}', which others take their input from`);
    if (row.includes(found.entry)) throw refuse(`${sayLayer(found.entry)} takes its own output`);
    row.push(found.entry);
    name = sourceOf(found.layer, found.entry);
  }
  row.reverse();
  if (row[0]!.name !== first) throw refuse(`its input is '${first}', its layers begin at '${row[0]!.name}'`);
  const beside = all.find((entry) => !row.includes(entry));
  if (beside) throw refuse(`${sayLayer(beside)} stands beside the row of layers from input to output`);
  return { name: whole.name, layers: row, all, inputShape: inputShapeOf(row[0]!) };
}

function entryOf(layer: LayerJson): LayerEntry {
  const { class_name: className, config, module, registered_name: registered } = layer;
  const name = typeof config.name === "string" ? config.name : (layer.name ?? "");
  const entry = { name, className, config, inputShape: layer.build_config?.input_shape };
  const isForeign = registered?.includes(">") || (module && !KERAS_MODULE.test(module));
  if (isForeign) throw refuse(`${sayLayer(entry)} is a class of its own, '${registered ?? module}'`);
  return entry;
}

const KERAS_MODULE = /^(tf_)?keras(\.|$)/;

function inputShapeOf({ config, className }: LayerEntry): unknown {
  const given = config.batch_shape ?? config.batch_input_shape;
  if (given || className !== "InputLayer") return given;
  return Array.isArray(config.input_shape) ? [null, ...config.input_shape] : undefined;
}

function checkNames(layers: readonly LayerEntry[]): void {
  const seen = new Set<string>();
  for (const layer of layers) {
    if (seen.has(layer.name)) throw refuse(`two of its layers are called '${layer.name}'`);
    seen.add(layer.name);
  }
}

/** The only layer that inputs or outputs name. */
function soleName(json: unknown, what: "input" | "output"): string {
  const found = references(json);
  if (found.length === 1) return found[0]!.name;
  const names = found.map(({ name }) => `'${name}'`).join(", ");
  throw refuse(`it has ${found.length} ${what}s${names && ` (${names})`}; models with one are taken`);
}

/** The layer whose output a layer takes; undefined for an InputLayer. */
function sourceOf({ inbound_nodes: nodes }: LayerJson, entry: LayerEntry): string | undefined {
  const calls = Array.isArray(nodes) ? nodes : [];
  if (entry.className === "InputLayer" && calls.length === 0) return undefined;
  if (calls.length !== 1)
    throw refuse(`${sayLayer(entry)} is used ${calls.length} times; layers used once are taken`);
  const found = references(calls[0]);
  if (found.length !== 1)
    throw refuse(`${sayLayer(entry)} takes ${found.length} inputs; layers with one are taken`);
  const [{ name, node, output, isTraining }] = found as [Reference];
  if (node !== 0 || output !== 0) {
    throw refuse(
      `${sayLayer(entry)} takes output ${output} of call ${node} of '${name}'; the first is taken`,
    );
  }
  if (isTraining || isCalledTraining(calls[0]))
    throw refuse(`${sayLayer(entry)} is called with training=True`);
  return name;
}

interface Reference {
  readonly name: string;
  readonly node: number;
  readonly output: number;
  readonly isTraining: boolean;
}

const KerasTensor = z.looseObject({
  class_name: z.literal("__keras_tensor__"),
  config: z.looseObject({ keras_history: z.tuple([z.string(), z.number(), z.number()]) }),
});
/** `[layer, call, output]`, from Keras 2 with the arguments of the call. */
const Triple = z.tuple([z.string(), z.number(), z.number()]).rest(z.unknown());

/** The tensors that a nested list or record of arguments names. */
function references(json: unknown, depth = 0): Reference[] {
  if (typeof json !== "object" || json === null) return [];
  if (depth > MAX_DEPTH) throw refuse(`the arguments of a layer are nested more than ${MAX_DEPTH} deep`);
  const tensor = KerasTensor.safeParse(json);
  if (tensor.success) {
    const [name, node, output] = tensor.data.config.keras_history;
    return [{ name, node, output, isTraining: false }];
  }
  const triple = Triple.safeParse(json);
  if (triple.success) {
    const [name, node, output, ...rest] = triple.data;
    return [
      { name, node, output, isTraining: rest.some(isTrainingArgument) },
      ...references(rest, depth + 1),
    ];
  }
  return Object.values(json).flatMap((value) => references(value, depth + 1));
}

const MAX_DEPTH = 16;

function isCalledTraining(call: unknown): boolean {
  return typeof call === "object" && call !== null && "kwargs" in call && isTrainingArgument(call.kwargs);
}

function isTrainingArgument(value: unknown): boolean {
  return typeof value === "object" && value !== null && "training" in value && value.training === true;
}
