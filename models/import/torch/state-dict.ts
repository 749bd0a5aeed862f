import { Fault } from "../../../src/core/faults.ts";
import type { StoredTensor } from "../../safetensors.ts";

export interface TorchImportOptions {
  /** Name of the model. @default the file's, in lower case */
  readonly name?: string;
  /** What tensors are named in the file, by the names that PyTorch would give them. @default as PyTorch names them */
  readonly names?: Readonly<Record<string, string>>;
  /** What stands before `weight_ih_l0` in the names of the recurrent module. @default the only one there is */
  readonly prefix?: string;
  /** Name of the embedding's matrix, before the recurrent module. @default the matrix that fits there and is named like one */
  readonly embedding?: string;
  /** Names of the matrices of linear layers after it, in order. @default the only one that fits */
  readonly linear?: readonly string[];
  /** Of `nn.RNN`; the file does not tell. @default "tanh" */
  readonly nonlinearity?: "tanh" | "relu";
  /** Whether the outputs of the last step or of all steps are answered. @default "last" */
  readonly collect?: "last" | "all";
}

/** One direction of one layer, as PyTorch names it. */
export interface TorchCell {
  readonly inputWeights: StoredTensor;
  readonly stateWeights: StoredTensor;
  readonly inputBias: StoredTensor | undefined;
  readonly stateBias: StoredTensor | undefined;
  /** `weight_hr`, of an LSTM with `proj_size`. */
  readonly projection: StoredTensor | undefined;
}

export interface TorchLinear {
  readonly weights: StoredTensor;
  readonly bias: StoredTensor | undefined;
}

/** What a state dict says of a recurrent model. */
export interface TorchModel {
  readonly kind: "LSTM" | "GRU" | "RNN";
  readonly hidden: number;
  /** By layer: forward, and backward where it is bidirectional. */
  readonly layers: readonly (readonly TorchCell[])[];
  readonly embedding: StoredTensor | undefined;
  readonly linear: readonly TorchLinear[];
  readonly notes: readonly string[];
}

type Tensors = ReadonlyMap<string, StoredTensor>;

/** Finds the recurrent module of a state dict and what stands around it. Throws INVALID_REQUEST that names what is wrong. */
export function readStateDict(stored: Tensors, options: TorchImportOptions): TorchModel {
  const tensors = renamed(stored, options.names ?? {});
  const prefix = prefixOf(tensors, options.prefix);
  const layers = layersOf(tensors, prefix);
  const first = layers[0]![0]!;
  const rows = first.stateWeights.shape[0]!;
  const given = first.projection ? first.projection.shape[1]! : first.stateWeights.shape[1]!;
  const kind = ({ 4: "LSTM", 3: "GRU", 1: "RNN" } as const)[rows / given];
  if (!kind) {
    throw refuse(
      `'${prefix}weight_hh' has ${rows} rows of ${given}; an LSTM has 4, a GRU 3 and an RNN 1 for each unit`,
    );
  }
  checkShapes(layers, prefix, rows, given);
  const directions = layers[0]!.length;
  const state = first.stateWeights.shape[1]!;
  const used = new Set([...tensors.keys()].filter((name) => belongs(name, prefix)));
  const embedding = embeddingOf(tensors, used, first.inputWeights.shape[1]!, options.embedding);
  const linear = linearOf(tensors, used, directions * state, options.linear);
  const rest = [...tensors.keys()].filter((name) => !used.has(name));
  const notes = rest.length > 0 ? [`left out: ${rest.map((name) => `'${name}'`).join(", ")}`] : [];
  if (kind === "RNN" && !options.nonlinearity)
    notes.push("taken for an RNN with tanh; for ReLU give the nonlinearity");
  return { kind, hidden: given, layers, embedding, linear, notes };
}

/** The tensors under the names that PyTorch would give them; those without another name keep theirs. */
function renamed(stored: Tensors, names: Readonly<Record<string, string>>): Tensors {
  const tensors = new Map(stored);
  for (const name of Object.values(names)) tensors.delete(name);
  for (const [name, own] of Object.entries(names)) {
    const tensor = stored.get(own);
    if (!tensor) {
      const all = [...stored.keys()].map((one) => `'${one}'`).join(", ");
      throw refuse(`there is no '${own}', which is to be '${name}'; there are ${all}`);
    }
    if (tensors.has(name)) throw refuse(`'${own}' is to be '${name}', which the file has already`);
    tensors.set(name, tensor);
  }
  return tensors;
}

const PARAMETER = /^(.*?)(weight_ih|weight_hh|weight_hr|bias_ih|bias_hh)(?:_l(\d+)(_reverse)?)?$/;

function belongs(name: string, prefix: string): boolean {
  return PARAMETER.exec(name)?.[1] === prefix;
}

function prefixOf(tensors: Tensors, wanted: string | undefined): string {
  const found = new Set([...tensors.keys()].flatMap((name) => PARAMETER.exec(name)?.[1] ?? []));
  if (found.size === 0) {
    throw refuse("it has no 'weight_ih' and 'weight_hh', so there is no nn.LSTM, nn.GRU or nn.RNN in it");
  }
  const names = [...found].map((one) => `'${one}'`).join(", ");
  if (wanted !== undefined) {
    if (found.has(wanted)) return wanted;
    throw refuse(`no recurrent module is named '${wanted}', there are ${names}`);
  }
  if (found.size === 1) return [...found][0]!;
  throw refuse(`it has several recurrent modules, ${names}: give the 'prefix' of one`);
}

function layersOf(tensors: Tensors, prefix: string): TorchCell[][] {
  const isCell = tensors.has(`${prefix}weight_ih`);
  const layers: TorchCell[][] = [];
  for (;;) {
    const directions: TorchCell[] = [];
    for (const turned of ["", "_reverse"]) {
      const suffix = isCell ? "" : `_l${layers.length}${turned}`;
      const of = (name: string) => tensors.get(`${prefix}${name}${suffix}`);
      const inputWeights = of("weight_ih");
      if (!inputWeights || (isCell && turned !== "")) continue;
      const stateWeights = of("weight_hh");
      if (!stateWeights) throw refuse(`'${prefix}weight_hh${suffix}' is missing`);
      directions.push({
        inputWeights,
        stateWeights,
        inputBias: of("bias_ih"),
        stateBias: of("bias_hh"),
        projection: of("weight_hr"),
      });
    }
    if (directions.length === 0) break;
    layers.push(directions);
    if (isCell) break;
  }
  if (layers.length === 0) throw refuse(`'${prefix}weight_ih_l0' is missing`);
  return layers;
}

function checkShapes(
  layers: readonly (readonly TorchCell[])[],
  prefix: string,
  rows: number,
  hidden: number,
): void {
  const directions = layers[0]!.length;
  const state = layers[0]![0]!.stateWeights.shape[1]!;
  layers.forEach((layer, at) => {
    if (layer.length !== directions) {
      throw refuse(`layer ${at} of '${prefix}' has ${layer.length} directions, layer 0 has ${directions}`);
    }
    const input = at === 0 ? layer[0]!.inputWeights.shape[1]! : directions * state;
    for (const cell of layer) {
      const wanted: [string, StoredTensor | undefined, readonly number[]][] = [
        ["weight_ih", cell.inputWeights, [rows, input]],
        ["weight_hh", cell.stateWeights, [rows, state]],
        ["bias_ih", cell.inputBias, [rows]],
        ["bias_hh", cell.stateBias, [rows]],
        ["weight_hr", cell.projection, [state, hidden]],
      ];
      for (const [name, tensor, shape] of wanted) {
        if (!tensor || String(tensor.shape) === String(shape)) continue;
        throw refuse(
          `'${prefix}${name}' of layer ${at} has shape [${tensor.shape.join(", ")}], expected [${shape.join(", ")}]`,
        );
      }
    }
  });
}

function embeddingOf(
  tensors: Tensors,
  used: Set<string>,
  width: number,
  wanted: string | undefined,
): StoredTensor | undefined {
  const fits = (name: string) =>
    tensors.get(name)!.shape.length === 2 && tensors.get(name)!.shape[1] === width;
  const name = wanted ?? [...tensors.keys()].find((one) => !used.has(one) && /emb/i.test(one) && fits(one));
  if (name === undefined) return undefined;
  const tensor = tensors.get(name);
  if (!tensor) throw refuse(`there is no embedding '${name}'`);
  if (!fits(name)) {
    throw refuse(
      `embedding '${name}' has shape [${tensor.shape.join(", ")}], the first layer takes ${width}`,
    );
  }
  used.add(name);
  return tensor;
}

function linearOf(
  tensors: Tensors,
  used: Set<string>,
  width: number,
  wanted: readonly string[] | undefined,
): TorchLinear[] {
  const candidates = [...tensors.keys()].filter((name) => {
    const { shape } = tensors.get(name)!;
    return !used.has(name) && name.endsWith("weight") && shape.length === 2 && shape[1] === width;
  });
  if (!wanted && candidates.length > 1) {
    const names = candidates.map((name) => `'${name}'`).join(", ");
    throw refuse(
      `several matrices could follow the recurrent module, ${names}: give 'linear' in their order`,
    );
  }
  let columns = width;
  return (wanted ?? candidates).map((name) => {
    const weights = tensors.get(name);
    if (weights?.shape.length !== 2 || weights.shape[1] !== columns) {
      const shape = weights ? `has shape [${weights.shape.join(", ")}]` : "is missing";
      throw refuse(`linear layer '${name}' ${shape}, expected [*, ${columns}]`);
    }
    columns = weights.shape[0]!;
    const biasName = name.replace(/weight$/, "bias");
    const bias = tensors.get(biasName);
    if (bias && String(bias.shape) !== String([columns])) {
      throw refuse(`'${biasName}' has shape [${bias.shape.join(", ")}], expected [${columns}]`);
    }
    used.add(name).add(biasName);
    return { weights, bias };
  });
}

function refuse(why: string): Fault {
  return new Fault("INVALID_REQUEST", `the state dict cannot be taken: ${why}`);
}
