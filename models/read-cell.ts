import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, join, resolve, sep } from "node:path";
import type {
  AttentionWeights,
  CellBody,
  CellSpec,
  Head,
  Matrix,
  RecurrentWeights,
} from "../src/core/cell.ts";
import { Fault } from "../src/core/faults.ts";
import type { TensorSpec } from "../src/core/tensor.ts";
import type { CellManifest } from "./manifest.ts";
import { readSafetensors, type StoredTensor } from "./safetensors.ts";

/** Reads the cells of one model, each file once. */
export class CellReader {
  readonly #folder: string;
  readonly #files = new Map<string, Promise<Map<string, StoredTensor>>>();

  constructor(folder: string) {
    this.#folder = folder;
  }

  async read(cell: CellManifest): Promise<CellSpec> {
    if (cell.kind === "onnx") return this.#readOnnx(cell);
    const tensors = new Weights(
      await this.#weights(cell.weights.file),
      cell.weights.prefix,
      cell.weights.file,
    );
    const embedding = tensors.optional("embedding.weight");
    const inputWeights = tensors.optional("weight_ih");
    const head = headOf(tensors);
    const input: TensorSpec = embedding
      ? { name: "token", dtype: "int32", shape: [] }
      : {
          name: "x",
          dtype: "float32",
          shape: [inputWeights?.columns ?? 0],
        };
    const outputs = (hidden: number) =>
      (cell.outputs ?? (head ? ["logits", "token"] : ["h"])).map((name): TensorSpec => {
        if (name === "token") return { name, dtype: "int32", shape: [] };
        return { name, dtype: "float32", shape: [name === "logits" ? (head?.weights.rows ?? 0) : hidden] };
      });
    const { name, kind } = cell;
    const states = (hidden: number, names: readonly string[]) =>
      names.map((state) => ({ name: state, shape: [hidden] }));
    const given = { ...(embedding ? { embedding } : {}), ...(head ? { head } : {}) };
    const quantize = "quantize" in cell && cell.quantize ? { quantize: cell.quantize } : {};
    switch (kind) {
      case "lstm":
      case "gru": {
        const weights = recurrent(tensors, kind === "lstm" ? 4 : 3);
        const { hidden } = weights;
        const body = { kind, weights, ...given, ...quantize };
        const all = states(hidden, kind === "lstm" ? ["h", "c"] : ["h"]);
        return { name, inputs: [input], reads: 1, writes: true, states: all, outputs: outputs(hidden), body };
      }
      case "lstm-attention": {
        if (!embedding || !head) {
          const missing = embedding ? "head.weight" : "embedding.weight";
          throw new Fault("INVALID_REQUEST", `cell '${name}' has no '${missing}' in ${cell.weights.file}`);
        }
        const weights = recurrent(tensors, 4);
        const { hidden } = weights;
        const attention = attentionOf(tensors, hidden, head, cell.memorySteps);
        return {
          name,
          inputs: [
            input,
            { name: "memory", dtype: "float32", shape: [cell.memorySteps, attention.query.rows] },
            { name: "mask", dtype: "float32", shape: [cell.memorySteps] },
          ],
          reads: 1,
          writes: true,
          states: states(hidden, ["h", "c"]),
          outputs: outputs(hidden),
          body: { kind, weights, attention, embedding, head, ...quantize },
        };
      }
      case "tree-leaf":
      case "tree-node":
      case "tree-child":
      case "tree-sum": {
        const { reads, ...body } = treeBody(kind, tensors);
        return {
          name,
          inputs: inputWeights || embedding ? [input] : [],
          reads,
          writes: true,
          states: states(body.hidden, ["h", "c"]),
          outputs: cell.outputs ? outputs(body.hidden) : [],
          body: {
            ...body,
            ...(embedding ? { embedding } : {}),
            ...(kind === "tree-node" ? quantize : {}),
          } as CellBody,
        };
      }
      case "linear": {
        if (!head)
          throw new Fault("INVALID_REQUEST", `cell '${name}' has no 'head.weight' in ${cell.weights.file}`);
        const hidden = head.weights.columns;
        const body = { kind, head };
        return {
          name,
          inputs: [],
          reads: 1,
          writes: false,
          states: states(hidden, ["h"]),
          outputs: outputs(hidden),
          body,
        };
      }
    }
  }

  async #readOnnx(cell: Extract<CellManifest, { kind: "onnx" }>): Promise<CellSpec> {
    const root = cell.package === undefined ? this.#folder : packageFolder(cell.package, this.#folder);
    const onnx = await readFile(inside(root, cell.file));
    const { constants, context } = cell;
    const states = cell.states.map(({ input, shape }) => ({ name: input, shape }));
    if (context) states.push({ name: "context", shape: [context.size] });
    return {
      name: cell.name,
      inputs: cell.inputs,
      reads: states.length > 0 ? 1 : 0,
      writes: states.length > 0,
      states,
      outputs: cell.outputs,
      body: {
        kind: "graph",
        graph: {
          onnx: Uint8Array.from(onnx),
          states: cell.states,
          constants,
          ...(context ? { context } : {}),
        },
      },
    };
  }

  #weights(file: string): Promise<Map<string, StoredTensor>> {
    let tensors = this.#files.get(file);
    if (!tensors) {
      tensors = readFile(inside(this.#folder, file)).then((bytes) => readSafetensors(bytes, file));
      this.#files.set(file, tensors);
    }
    return tensors;
  }
}

/** The tensors of one cell, by the names that PyTorch gives them. */
class Weights {
  readonly #tensors: Map<string, StoredTensor>;
  readonly #prefix: string;
  readonly #file: string;

  constructor(tensors: Map<string, StoredTensor>, prefix: string, file: string) {
    this.#tensors = tensors;
    this.#prefix = prefix;
    this.#file = file;
  }

  optional(name: string): Matrix | undefined {
    return this.#tensors.has(this.#prefix + name) ? this.matrix(name) : undefined;
  }

  matrix(name: string): Matrix {
    const tensor = this.#tensors.get(this.#prefix + name);
    const [rows, columns] = tensor?.shape ?? [];
    if (tensor?.shape.length !== 2) {
      const found = tensor ? `has shape [${tensor.shape.join(", ")}]` : "is missing";
      throw new Fault("INVALID_REQUEST", `matrix '${this.#prefix}${name}' of ${this.#file} ${found}`);
    }
    return { rows: rows!, columns: columns!, data: tensor.data };
  }

  /** What is wrong with tensors that are there. */
  misfit(what: string): Fault {
    const behind = this.#prefix === "" ? "" : ` behind '${this.#prefix}'`;
    return new Fault("INVALID_REQUEST", `${this.#file}${behind}: ${what}`);
  }

  /** A bias; zeros where the file has none. */
  vector(name: string, length: number): Float32Array {
    const tensor = this.#tensors.get(this.#prefix + name);
    if (tensor && (tensor.shape.length !== 1 || tensor.data.length !== length)) {
      const shape = `[${tensor.shape.join(", ")}]`;
      throw new Fault(
        "INVALID_REQUEST",
        `'${this.#prefix}${name}' of ${this.#file} has shape ${shape}, expected [${length}]`,
      );
    }
    return tensor?.data ?? new Float32Array(length);
  }
}

function recurrent(tensors: Weights, gates: number): RecurrentWeights {
  const inputWeights = tensors.matrix("weight_ih");
  const stateWeights = tensors.matrix("weight_hh");
  const hidden = stateWeights.columns;
  const rows = gates * hidden;
  if (stateWeights.rows !== rows || inputWeights.rows !== rows) {
    throw new Fault(
      "INVALID_REQUEST",
      `'weight_ih' has ${inputWeights.rows} rows and 'weight_hh' [${stateWeights.rows}, ${hidden}], expected ${rows} rows`,
    );
  }
  const inputBias = tensors.vector("bias_ih", rows);
  return { hidden, inputWeights, stateWeights, inputBias, stateBias: tensors.vector("bias_hh", rows) };
}

function attentionOf(tensors: Weights, hidden: number, head: Head, memorySteps: number): AttentionWeights {
  const query = tensors.matrix("attention.query.weight");
  const combine = tensors.matrix("attention.combine.weight");
  if (query.columns !== hidden || combine.columns !== query.rows + hidden) {
    throw new Fault(
      "INVALID_REQUEST",
      `'attention.query.weight' is [${query.rows}, ${query.columns}] and 'attention.combine.weight' ` +
        `[${combine.rows}, ${combine.columns}], a state of ${hidden} needs [memory, ${hidden}] and [any, memory + ${hidden}]`,
    );
  }
  if (head.weights.columns !== combine.rows) {
    throw new Fault(
      "INVALID_REQUEST",
      `'head.weight' takes ${head.weights.columns} values, 'attention.combine.weight' gives ${combine.rows}`,
    );
  }
  return { query, combine, combineBias: tensors.vector("attention.combine.bias", combine.rows), memorySteps };
}

/** A cell of a tree-LSTM, and how many slots it reads. Throws INVALID_REQUEST where the matrices do not fit each other. */
function treeBody(kind: "tree-leaf" | "tree-node" | "tree-child" | "tree-sum", tensors: Weights) {
  const bias = (rows: number) => {
    const [a, b] = [tensors.vector("bias_ih", rows), tensors.vector("bias_hh", rows)];
    return a.map((value, i) => value + b[i]!);
  };
  if (kind === "tree-leaf") {
    const weights = tensors.matrix("weight_ih");
    if (weights.rows % 3 !== 0)
      throw tensors.misfit(`'weight_ih' of a tree-leaf has ${weights.rows} rows, expected 3 * hidden`);
    return { kind, reads: 0, hidden: weights.rows / 3, weights, bias: bias(weights.rows) } as const;
  }
  const weights = tensors.matrix("weight_hh");
  const { rows, columns } = weights;
  // N-ary: (3 + N) * hidden rows, N * hidden columns.
  const hidden = kind === "tree-node" ? (rows - columns) / 3 : columns;
  const children = kind === "tree-node" ? columns / hidden : 1;
  const gates = { "tree-node": 3 + children, "tree-child": 1, "tree-sum": 3 }[kind];
  if (!(hidden >= 1) || !Number.isInteger(hidden) || !Number.isInteger(children) || rows !== gates * hidden)
    throw tensors.misfit(
      `'weight_hh' of a ${kind} has shape [${rows}, ${columns}], expected ${HH_SHAPES[kind]}`,
    );
  if (kind === "tree-node" && children < 2)
    throw tensors.misfit(`'weight_hh' [${rows}, ${columns}] is that of a tree-node of one child`);
  const inputWeights = tensors.optional("weight_ih");
  if (!inputWeights && tensors.optional("embedding.weight"))
    throw tensors.misfit(`a ${kind} has 'embedding.weight' and no 'weight_ih' to take it`);
  if (inputWeights && inputWeights.rows !== rows)
    throw tensors.misfit(`'weight_ih' of a ${kind} has ${inputWeights.rows} rows, 'weight_hh' has ${rows}`);
  const reads = { "tree-node": children, "tree-child": 2, "tree-sum": 1 }[kind];
  return {
    kind,
    reads,
    hidden,
    weights,
    bias: bias(rows),
    ...(inputWeights ? { inputWeights } : {}),
  } as const;
}

const HH_SHAPES = {
  "tree-node": "[(3 + N) * hidden, N * hidden]",
  "tree-child": "[hidden, hidden]",
  "tree-sum": "[3 * hidden, hidden]",
};

function headOf(tensors: Weights): Head | undefined {
  const weights = tensors.optional("head.weight");
  return weights && { weights, bias: tensors.vector("head.bias", weights.rows) };
}

/** A path below `folder`. Throws INVALID_REQUEST for one that leads out of it. */
export function inside(folder: string, file: string): string {
  const path = resolve(folder, file);
  if (path.startsWith(resolve(folder) + sep)) return path;
  throw new Fault("INVALID_REQUEST", `'${file}' lies outside the model's folder`);
}

/** The folder of an installed npm package. */
export function packageFolder(name: string, from: string): string {
  const require = createRequire(join(resolve(from), "model.json"));
  for (const modules of require.resolve.paths(name) ?? []) {
    try {
      return dirname(require.resolve(join(modules, name, "package.json")));
    } catch {
      // Not in this node_modules; the next may have it.
    }
  }
  throw new Fault("MODEL_NOT_READY", `npm package '${name}', which holds the model's file, is not installed`);
}
