import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import type { CellSpec } from "../src/core/cell.ts";
import { Fault } from "../src/core/faults.ts";
import type { TensorSpec } from "../src/core/tensor.ts";
import type { Codec } from "./codec.ts";
import type { ModelDefinition, Program, TextValue } from "./definition.ts";
import { Manifest } from "./manifest.ts";
import { CellReader, inside } from "./read-cell.ts";
import { readParts } from "./read-parts.ts";
import { checkTree, treeTensors } from "./tree-cells.ts";
import { checkWholeGraph } from "./whole-graph.ts";

/** Reads the model of a folder with a `model.json`. Throws INVALID_REQUEST that names file and field. */
export async function readModel(folder: string): Promise<ModelDefinition> {
  const manifest = await readManifest(folder);
  const reader = new CellReader(folder);
  const cells = await Promise.all(manifest.cells.map((cell) => reader.read(cell)));
  const program = manifest.program as Program;
  checkCells(folder, program, cells);
  const text = manifest.text && {
    inputs: await Promise.all(manifest.text.inputs.map((value) => readText(folder, value))),
    outputs: await Promise.all(manifest.text.outputs.map((value) => readText(folder, value))),
  };
  const parts = program.kind === "pipeline" ? await readParts(folder, program, readModel) : [];
  const { name, version, description, maxInputSteps, example } = manifest;
  const tensors = tensorsOf(program, cells);
  for (const { codec } of text?.inputs ?? []) {
    if (codec.kind === "brackets") checkShapeTensor(folder, codec.tree, tensors.inputs);
  }
  return {
    name,
    version,
    description,
    cells,
    program,
    ...tensors,
    ...(text ? { text } : {}),
    ...(maxInputSteps === undefined ? {} : { maxInputSteps }),
    ...(example ? { example } : {}),
    ...(parts.length > 0 ? { parts } : {}),
  };
}

/** What `model.json` of a folder says. Throws INVALID_REQUEST that names the field. */
export async function readManifest(folder: string): Promise<Manifest> {
  const file = join(folder, "model.json");
  const json = await readJson(file);
  const parsed = Manifest.safeParse(json);
  if (parsed.success) return parsed.data;
  throw new Fault("INVALID_REQUEST", `${file} is no model: ${z.prettifyError(parsed.error)}`);
}

async function readJson(file: string): Promise<unknown> {
  try {
    return JSON.parse(await readFile(file, "utf8"));
  } catch (error) {
    throw new Fault("INVALID_REQUEST", `${file} cannot be read: ${(error as Error).message}`);
  }
}

async function readText(
  folder: string,
  value: NonNullable<Manifest["text"]>["inputs"][number],
): Promise<TextValue> {
  if (value.codec.kind === "tokenizer") {
    const { file, ...rest } = value.codec;
    const path = inside(folder, file);
    const json = await readFile(path, "utf8").catch((error: Error) => {
      throw new Fault("INVALID_REQUEST", `${path} cannot be read: ${error.message}`);
    });
    return { ...value, codec: { ...rest, json } as Codec };
  }
  const { symbols } = value.codec;
  if (Array.isArray(symbols)) return { ...value, codec: value.codec as Codec };
  const json = (await readJson(inside(folder, symbols.file))) as Record<string, unknown>;
  const found = z.array(z.string()).safeParse(json[symbols.key]);
  if (!found.success) {
    throw new Fault("INVALID_REQUEST", `${symbols.file} has no list of symbols under '${symbols.key}'`);
  }
  return { ...value, codec: { ...value.codec, symbols: found.data } as Codec };
}

/** A tree in brackets is for inputs that say the shape of a tree; see `Tree`. */
function checkShapeTensor(folder: string, name: string, inputs: readonly TensorSpec[]): void {
  const spec = inputs.find((one) => one.name === name);
  if (spec?.dtype === "int32" && spec.shape[0] === -1 && spec.shape.length <= 2) return;
  throw new Fault("INVALID_REQUEST", `${folder}: '${name}' is no input for the shape of a tree in brackets`);
}

function checkCells(folder: string, program: Program, cells: readonly CellSpec[]): void {
  for (const role of ["cell", "encoder", "decoder", "leaf", "child", "node", "head"]) {
    const wanted = (program as unknown as Record<string, string | undefined>)[role];
    if (wanted !== undefined) find(folder, cells, wanted, `the program's ${role}`);
  }
  if (program.kind === "graph") checkWholeGraph(folder, program, cells);
  if (program.kind === "tree") checkTree(folder, program, cells);
  if (program.kind === "seq2seq" && program.attention) checkAttention(folder, program, cells);
  if ((program.kind === "seq2seq" || program.kind === "generate") && program.beam) {
    const name = program.kind === "generate" ? program.cell : program.decoder;
    if (
      !cells.some((cell) => cell.name === name && cell.outputs.some((output) => output.name === "logits"))
    ) {
      throw new Fault(
        "INVALID_REQUEST",
        `${folder}: beam search needs the output 'logits' of cell '${name}'`,
      );
    }
  }
  if (program.kind !== "layers") return;
  program.layers.forEach(({ forward, backward }, layer) => {
    if (forward !== undefined) find(folder, cells, forward, `the forward cell of layer ${layer}`);
    if (backward !== undefined) find(folder, cells, backward, `the backward cell of layer ${layer}`);
  });
}

function checkAttention(
  folder: string,
  { encoder, decoder, attention }: Extract<Program, { kind: "seq2seq" }>,
  cells: readonly CellSpec[],
): void {
  const { memory, mask, output, other } = attention!;
  const need = (cell: string, side: "inputs" | "outputs", name: string) => {
    const specs = cells.find((one) => one.name === cell)![side];
    const spec = specs.find((one) => one.name === name);
    if (spec) return spec;
    const names = specs.map((one) => `'${one.name}'`).join(", ");
    throw new Fault(
      "INVALID_REQUEST",
      `${folder}: cell '${cell}' has no '${name}' among its ${side} ${names}`,
    );
  };
  if (other !== undefined) find(folder, cells, other, "the other encoder");
  const sizes = [encoder, ...(other === undefined ? [] : [other])].map(
    (cell) => need(cell, "outputs", output).shape[0] ?? 0,
  );
  const size = sizes.reduce((a, b) => a + b, 0);
  const { shape } = need(decoder, "inputs", memory);
  const [most] = need(decoder, "inputs", mask).shape;
  if (shape.length === 2 && shape[0] === most && shape[1] === size) return;
  throw new Fault(
    "INVALID_REQUEST",
    `${folder}: input '${memory}' of cell '${decoder}' has shape [${shape.join(", ")}], the mask has ${most} steps and the encoders give ${size} values a step`,
  );
}

function find(folder: string, cells: readonly CellSpec[], wanted: string, role: string): void {
  if (cells.some(({ name }) => name === wanted)) return;
  const names = cells.map(({ name }) => `'${name}'`).join(", ");
  throw new Fault("INVALID_REQUEST", `${folder}: ${role} is '${wanted}', the cells are ${names}`);
}

/** What a program's callers give and get. */
function tensorsOf(
  program: Program,
  cells: readonly CellSpec[],
): { readonly inputs: readonly TensorSpec[]; readonly outputs: readonly TensorSpec[] } {
  const cell = (name: string) => cells.find((one) => one.name === name)!;
  const overSteps = (specs: readonly TensorSpec[]) =>
    specs.map((spec) => ({ ...spec, shape: [-1, ...spec.shape] }));
  const tokens: TensorSpec[] = [{ name: "token", dtype: "int32", shape: [-1] }];
  switch (program.kind) {
    case "chain": {
      const { inputs, outputs } = cell(program.cell);
      return { inputs: overSteps(inputs), outputs: program.collect === "all" ? overSteps(outputs) : outputs };
    }
    case "session":
      return { inputs: overSteps(cell(program.cell).inputs), outputs: cell(program.cell).outputs };
    case "layers":
      return layersTensors(program, cell, overSteps);
    case "tree": {
      const { values, shape, outputs } = treeTensors(program, cell);
      return { inputs: [...overSteps(values), shape], outputs };
    }
    case "generate":
    case "seq2seq": {
      const nBest = program.beam?.nBest ?? 1;
      const others = Array.from({ length: nBest - 1 }, (_, i) => ({ ...tokens[0]!, name: `token.${i + 2}` }));
      const score: TensorSpec = { name: "score", dtype: "float32", shape: [-1] };
      return { inputs: tokens, outputs: program.beam ? [...tokens, ...others, score] : tokens };
    }
    case "graph": {
      const { inputs, outputs } = cell(program.cell);
      const made = [program.lengths, program.mask];
      return { inputs: inputs.filter(({ name }) => !made.includes(name)), outputs };
    }
    case "pipeline":
      return { inputs: [], outputs: [] };
    default:
      return { inputs: tokens, outputs: tokens };
  }
}

function layersTensors(
  { layers, collect, head }: Extract<Program, { kind: "layers" }>,
  cell: (name: string) => CellSpec,
  overSteps: (specs: readonly TensorSpec[]) => TensorSpec[],
): { readonly inputs: readonly TensorSpec[]; readonly outputs: readonly TensorSpec[] } {
  const first = layers[0]!;
  const inputs = new Map(
    [first.forward, first.backward].flatMap((name) =>
      name === undefined ? [] : cell(name).inputs.map((spec) => [spec.name, spec] as const),
    ),
  );
  const { forward, backward, merge } = layers.at(-1)!;
  const given = new Map(
    (forward === undefined ? [] : cell(forward).outputs).map((spec) => [spec.name, spec]),
  );
  for (const spec of backward === undefined ? [] : cell(backward).outputs) {
    const other = given.get(spec.name);
    const last = spec.shape.at(-1);
    const both = other && merge === "concat" && last !== undefined;
    const shape = both ? [...spec.shape.slice(0, -1), last + other.shape.at(-1)!] : spec.shape;
    given.set(spec.name, { ...spec, shape });
  }
  const collected = [...given.values()].flatMap((spec) => {
    const how = typeof collect === "string" ? collect : collect[spec.name];
    if (how === undefined) return [];
    return how === "all" ? overSteps([spec]) : [spec];
  });
  if (head === undefined) return { inputs: overSteps([...inputs.values()]), outputs: collected };
  const taken = new Set(cell(head).inputs.map(({ name }) => name));
  const outputs = [...cell(head).outputs, ...collected.filter(({ name }) => !taken.has(name))];
  return { inputs: overSteps([...inputs.values()]), outputs };
}
