import { mkdtemp, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { improveGraph } from "../../kernels/onnx/improve.ts";
import { givenGraph } from "../../kernels/onnx/step-graph.ts";
import type { Codec } from "../../models/codec.ts";
import type { ModelDefinition, Program } from "../../models/definition.ts";
import { importModel } from "../../models/import/import-model.ts";
import type { Stage } from "../../models/pipeline.ts";
import { readModel } from "../../models/read-model.ts";
import { writeModel } from "../../models/write-model.ts";
import type { AttentionWeights, CellBody, CellSpec, Matrix } from "../core/cell.ts";
import { Fault } from "../core/faults.ts";
import { sizeOf, type TensorSpec } from "../core/tensor.ts";
import { modelPath } from "./paths.ts";
import { table } from "./table.ts";

/** Prints what a model folder holds, or what would be made of a foreign file. */
export async function inspect(model: string): Promise<void> {
  const path = modelPath(model);
  const found = await stat(path).catch((error: Error) => {
    throw new Fault("INVALID_REQUEST", `${path} cannot be read: ${error.message}`);
  });
  if (found.isDirectory()) process.stdout.write(await describeFolder(path));
  else await inspectFile(path);
}

async function inspectFile(file: string): Promise<void> {
  const imported = await importModel(file);
  const { lane, why, notes } = imported;
  const folder = await mkdtemp(join(tmpdir(), "cellbatch-inspect-"));
  try {
    await writeModel(folder, imported);
    process.stdout.write(await describeFolder(folder));
  } finally {
    await rm(folder, { recursive: true });
  }
  process.stdout.write(`lane ${lane}: ${why}\n`);
  for (const note of notes) process.stdout.write(`note: ${note}\n`);
}

/** Program, tensors and cells of a model, as text. */
export async function describeFolder(folder: string): Promise<string> {
  const model = await readModel(folder);
  const { name, version, description, program } = model;
  if (program.kind === "pipeline") {
    const parts = (model.parts ?? []).map((part) => `'${part.name}'`).join(", ") || "none of its models";
    return `${name} ${version}: ${description}\nprogram ${programLine(program)}\nin its folder: ${parts}\n`;
  }
  const rows = [
    ["cell", "kind", "reads", "inputs", "states", "outputs", "weights", "MB"],
    ...model.cells.map(cellRow),
  ];
  return (
    `${name} ${version}: ${description}\n` +
    `program ${programLine(program)}\n` +
    `inputs  ${valuesLine(model, "inputs")}\n` +
    `outputs ${valuesLine(model, "outputs")}\n\n${table(rows)}\n` +
    (await rewritesOf(model))
  );
}

/** What the kernel makes of given step graphs, and what each change gained on this machine. */
async function rewritesOf({ cells, program }: ModelDefinition): Promise<string> {
  if (program.kind === "graph") return "";
  const lines: string[] = [];
  for (const cell of cells) {
    if (cell.body.kind !== "graph") continue;
    const { rewrites, hindrance } = await improveGraph(cell, givenGraph(cell), { threads: 1 });
    if (hindrance) lines.push(`'${cell.name}' is no program of the native kernel: ${hindrance}`);
    for (const { what, gain } of rewrites)
      lines.push(`rewritten in '${cell.name}': ${what}, ${gain.toFixed(2)}x`);
  }
  return lines.map((line) => `${line}\n`).join("");
}

function programLine(program: Program): string {
  switch (program.kind) {
    case "seq2seq":
      return `seq2seq: '${program.encoder}'${program.reverse ? " backwards" : ""}, then '${program.decoder}' until ${program.stop} or ${program.maxSteps} steps`;
    case "tree": {
      const { leaf, child, node, head } = program;
      const cells = [leaf, child, node].flatMap((name) => (name === undefined ? [] : [`'${name}'`]));
      return `tree: ${cells.join(", ")}${head === undefined ? "" : `, then '${head}' on the root`}`;
    }
    case "layers": {
      const layers = program.layers.map(({ forward, backward, merge }) => {
        if (backward === undefined) return `'${forward}'`;
        return forward === undefined
          ? `'${backward}' backwards`
          : `'${forward}' and '${backward}' backwards (${merge})`;
      });
      const head = program.head === undefined ? "" : `, then '${program.head}'`;
      const collect = typeof program.collect === "string" ? program.collect : JSON.stringify(program.collect);
      return `layers: ${layers.join("; ")}${head}; collects ${collect}`;
    }
    case "custom":
      return "custom";
    case "pipeline":
      return `pipeline: ${program.stages.map(stageText).join("; ")}`;
    case "generate":
      return `generate: '${program.cell}' from ${program.start} until ${program.stop} or ${program.maxSteps} steps`;
    case "chain":
      return `chain: '${program.cell}', answers ${program.collect === "all" ? "all steps" : "the last step"}`;
    case "graph": {
      const buffers = program.buffers.map(({ upTo, maxBatch, timeoutMs }) => {
        const sizes = upTo === undefined ? "" : ` of up to ${upTo} steps`;
        return `${maxBatch} requests${sizes} or ${timeoutMs} ms`;
      });
      return `graph: '${program.cell}', in batches of ${buffers.join(", ")}`;
    }
    default:
      return `${program.kind}: '${program.cell}'`;
  }
}

function stageText({ name, model, inputs, gate }: Stage): string {
  const given = Object.entries(inputs).map(([input, from]) => `${input} from ${from}`);
  const at = gate ? ` while ${gate.output} is ${gate.open} or more` : "";
  return `'${name}' (${[model, ...given].join(", ")})${at}`;
}

function valuesLine({ text, ...model }: ModelDefinition, side: "inputs" | "outputs"): string {
  const shapes = text?.inputs.flatMap(({ codec }) => (codec.kind === "brackets" ? [codec.tree] : [])) ?? [];
  return model[side]
    .filter(({ name }) => side === "outputs" || !shapes.includes(name))
    .map((spec) => {
      const codec = text?.[side].find(({ tensor }) => tensor === spec.name);
      return codec ? `${codec.name}: text (${codecText(codec.codec)})` : tensorText(spec);
    })
    .join(", ");
}

function codecText(codec: Codec): string {
  return codec.kind === "tokenizer" ? "tokenizer.json" : `${codec.symbols.length} ${codec.kind}`;
}

function cellRow({ name, body, reads, inputs, states, outputs }: CellSpec): string[] {
  const values = weightsOf(body);
  const stateText = states.map((state) => `${state.name}[${state.shape.join(", ")}]`).join(" ");
  return [
    name,
    kindOf(body),
    String(reads),
    inputs.map(tensorText).join(" ") || "-",
    stateText || "-",
    outputs.map(tensorText).join(" ") || "-",
    body.kind === "graph" ? "-" : String(values),
    (bytesOf(body, values) / 2 ** 20).toFixed(2),
  ];
}

function kindOf(body: CellBody): string {
  if (body.kind === "graph") return "onnx";
  return "quantize" in body && body.quantize ? `${body.kind} ${body.quantize}` : body.kind;
}

/** Bytes of the weights as the kernel keeps them for one step per call. */
function bytesOf(body: CellBody, values: number): number {
  if (body.kind === "graph") return body.graph.onnx.length;
  if (!("quantize" in body && body.quantize)) return values * 4;
  const { rows, columns } = "stateWeights" in body.weights ? body.weights.stateWeights : body.weights;
  return values * 4 - rows * columns * 3;
}

function tensorText({ name, dtype, shape }: TensorSpec): string {
  return `${name}:${dtype}[${shape.map((dim) => (dim === -1 ? "*" : dim)).join(", ")}]`;
}

/** How many weights a cell has; those inside a given graph are not counted. */
function weightsOf(body: CellBody): number {
  switch (body.kind) {
    case "lstm":
    case "lstm-attention":
    case "gru": {
      const { inputWeights, stateWeights, inputBias, stateBias } = body.weights;
      const own = matrix(inputWeights) + matrix(stateWeights) + inputBias.length + stateBias.length;
      const attention = body.kind === "lstm-attention" ? attentionWeights(body.attention) : 0;
      return own + matrix(body.embedding) + headWeights(body.head) + attention;
    }
    case "tree-leaf":
      return matrix(body.weights) + body.bias.length + matrix(body.embedding);
    case "tree-node":
    case "tree-child":
    case "tree-sum":
      return matrix(body.weights) + matrix(body.inputWeights) + body.bias.length + matrix(body.embedding);
    case "linear":
      return headWeights(body.head);
    default:
      return 0;
  }
}

function matrix(one: Matrix | undefined): number {
  return one ? sizeOf([one.rows, one.columns]) : 0;
}

function attentionWeights({ query, combine, combineBias }: AttentionWeights): number {
  return matrix(query) + matrix(combine) + combineBias.length;
}

function headWeights(head: Extract<CellBody, { kind: "linear" }>["head"] | undefined): number {
  return head ? head.weights.data.length + head.bias.length : 0;
}
