import { readFile } from "node:fs/promises";
import { basename, extname } from "node:path";
import type onnxProto from "onnx-proto";
import { Fault } from "../../../src/core/faults.ts";
import { Manifest } from "../../manifest.ts";
import type { ImportedModel } from "../imported.ts";
import { readExternalData } from "./external.ts";
import { refuse, Uncuttable } from "./faults.ts";
import { checkModel, decodeModel, type OnnxFile } from "./file.ts";
import type { OnnxImportOptions } from "./options.ts";
import { isRecurrent } from "./recurrence.ts";
import { cutSequenceModel } from "./sequence-model.ts";
import { findStatePairs } from "./state-pairs.ts";
import { takeStepModel } from "./step-model.ts";
import { takeWholeGraph } from "./whole-graph.ts";

/**
 * Reads an ONNX file, with what it keeps in other files of its folder, and makes a model of it. A graph that cannot be cut
 * into cells comes back whole, in lane `graph`. Throws INVALID_REQUEST that names what is wrong with file or options.
 */
export async function importOnnx(file: string, options: OnnxImportOptions = {}): Promise<ImportedModel> {
  const bytes = await readFile(file).catch((error: Error) => {
    throw new Fault("INVALID_REQUEST", `${file} cannot be read: ${error.message}`);
  });
  const model = decodeModel(bytes);
  await readExternalData(model, file);
  return importModel(model, { name: nameOf(file), ...options });
}

/** As `importOnnx`, for a file with all its values inside. */
export function importOnnxBytes(
  bytes: Uint8Array,
  options: OnnxImportOptions & { readonly name: string },
): ImportedModel {
  return importModel(decodeModel(bytes), options);
}

function importModel(
  model: onnxProto.onnx.IModelProto,
  options: OnnxImportOptions & { readonly name: string },
): ImportedModel {
  try {
    return importFile(checkModel(model), options);
  } catch (error) {
    if (error instanceof RangeError) throw refuse(`it is too large or nested too deeply (${error.message})`);
    throw error;
  }
}

/** Takes a graph that computes one step of its states. */
export function importStepModel(
  file: OnnxFile,
  options: OnnxImportOptions & { readonly name: string },
): ImportedModel {
  return orWhole(file, options, () => {
    const { cell, program, onnx, notes } = takeStepModel(file, options);
    const states = cell.states.map(({ input, output }) => `'${input}' to '${output}'`).join(", ");
    return {
      manifest: manifestOf(options.name, "One step", { cells: [cell], program }),
      files: new Map([[cell.file, onnx]]),
      lane: "cellular",
      why: `it computes one step of its states (${states})`,
      notes: [...notes],
    };
  });
}

/** Cuts a graph over whole sequences into cells. */
export function importSequenceModel(
  file: OnnxFile,
  options: OnnxImportOptions & { readonly name: string },
): ImportedModel {
  return orWhole(file, options, () => {
    const { cells, program, files, notes } = cutSequenceModel(file, options);
    const count = file.nodes.filter(({ op }) => isRecurrent(op)).length;
    return {
      manifest: manifestOf(options.name, "Sequences", { cells: [...cells], program }),
      files,
      lane: "cellular",
      why: `its ${count} recurrent node${count === 1 ? "" : "s"} became ${cells.length} cell${cells.length === 1 ? "" : "s"}`,
      notes: [...notes],
    };
  });
}

/** As a graph over sequences where it has recurrent nodes and can be cut there; else as one step, if it can be one. */
function importFile(file: OnnxFile, options: OnnxImportOptions & { readonly name: string }): ImportedModel {
  const { form, states } = options;
  const recurs = file.nodes.some(({ op }) => isRecurrent(op));
  if (form === "step" || (!form && !recurs)) return importStepModel(file, options);
  if (form === "sequence") return importSequenceModel(file, options);
  const hasStates = states !== undefined || findStatePairs(file.inputs, file.outputs).length > 0;
  if (!hasStates) return importSequenceModel(file, options);
  if (takesOneStep(file)) return importStepModel(file, options);
  const cut = importSequenceModel(file, options);
  return cut.lane === "cellular" ? cut : (asStep(file, options) ?? cut);
}

function asStep(
  file: OnnxFile,
  options: OnnxImportOptions & { readonly name: string },
): ImportedModel | undefined {
  try {
    return importStepModel(file, options);
  } catch (error) {
    // It is neither; why it cannot be cut says more.
    if (error instanceof Fault) return undefined;
    throw error;
  }
}

/** Whether recurrent nodes take an input whose axis of steps is fixed to 1. */
function takesOneStep({ nodes, inputs }: OnnxFile): boolean {
  const ports = new Map(inputs.map((port) => [port.name, port]));
  return nodes.some(({ op, inputs: [x = ""], attributes }) => {
    const shape = isRecurrent(op) ? ports.get(x)?.shape : undefined;
    return shape?.[attributes.int("layout", 0) === 0 ? 0 : 1] === 1;
  });
}

function orWhole(
  file: OnnxFile,
  options: OnnxImportOptions & { readonly name: string },
  cut: () => ImportedModel,
): ImportedModel {
  try {
    return cut();
  } catch (error) {
    if (!(error instanceof Uncuttable)) throw error;
    const { cell, program, onnx, notes } = takeWholeGraph(file, options);
    return {
      manifest: manifestOf(options.name, "A whole graph", { cells: [cell], program }),
      files: new Map([[cell.file, onnx]]),
      lane: "graph",
      why: error.message,
      notes: [...notes],
    };
  }
}

function manifestOf(
  name: string,
  what: string,
  parts: { readonly cells: unknown[]; readonly program: unknown },
): Manifest {
  const description = `${what}, imported from ONNX`;
  const parsed = Manifest.safeParse({ format: 1, name, version: "1", description, ...parts });
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw refuse(`its model.json would be wrong at ${issue!.path.join(".")}: ${issue!.message}`);
}

/** A model's name from its file's. */
function nameOf(file: string): string {
  const stem = basename(file, extname(file)).toLowerCase();
  return (
    stem
      .replace(/[^a-z0-9._-]/g, "-")
      .replace(/^[^a-z0-9]+/, "")
      .slice(0, 64) || "model"
  );
}
