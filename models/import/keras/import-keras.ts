import { readFile, stat } from "node:fs/promises";
import { basename, dirname, extname, resolve } from "node:path";
import { z } from "zod";
import type { ImportedModel } from "../imported.ts";
import { importOnnxBytes } from "../onnx/import-onnx.ts";
import type { KerasMajor } from "./activations.ts";
import { readArchive } from "./archive.ts";
import { archiveWeights, readWeightsFile } from "./archive-weights.ts";
import { parse, readTopology } from "./config.ts";
import { refuse } from "./faults.ts";
import { type KerasModel, sequenceGraph } from "./graph.ts";
import { namedWeights } from "./named-weights.ts";
import { readShards } from "./shards.ts";

export interface KerasImportOptions {
  /** Name of the model. @default the file's or, of a `model.json`, its folder's, in lower case */
  readonly name?: string;
  /** `session` for input that arrives over time, where every step is answered. @default "chain" */
  readonly program?: "chain" | "session";
}

/**
 * Makes a model of a `.keras` archive: Sequential, or Functional with one layer after the other. Throws INVALID_REQUEST that
 * names the layer, file or value that cannot be taken.
 */
export async function importKeras(file: string, options: KerasImportOptions = {}): Promise<ImportedModel> {
  const { config, metadata, weights: bytes } = await readArchive(file);
  const { keras_version: version } = parse(Versioned, metadata, "'metadata.json'");
  const topology = shallow(() => readTopology(config));
  const weights = archiveWeights(topology, await readWeightsFile(bytes));
  return written({ topology, weights, major: majorOf(version) }, file, options);
}

/** As `importKeras`, for the `model.json` of a TensorFlow.js layers model with its weights in files beside it. */
export async function importLayersModel(
  file: string,
  options: KerasImportOptions = {},
): Promise<ImportedModel> {
  const { format, modelTopology, weightsManifest } = parse(LayersModel, await readJson(file), "'model.json'");
  if (format === "graph-model" || !modelTopology) {
    throw refuse("it is a graph model of TensorFlow.js, whose layers are gone; a layers model is taken");
  }
  const { keras_version: version, model_config: config } = modelTopology;
  const topology = shallow(() => readTopology(config ?? modelTopology));
  const weights = namedWeights(topology, await readShards(weightsManifest ?? [], file));
  const imported = written({ topology, weights, major: majorOf(version ?? "2") }, file, options);
  const unused = weights.unused().map((name) => `'${name}'`);
  return unused.length === 0
    ? imported
    : { ...imported, notes: [...imported.notes, `left out: ${unused.join(", ")}`] };
}

/** Whether a JSON file is a model of TensorFlow.js. */
export async function isLayersModel(file: string): Promise<boolean> {
  const json = await readJson(file);
  return typeof json === "object" && json !== null && "modelTopology" in json;
}

const Versioned = z.looseObject({ keras_version: z.string() });

const LayersModel = z.looseObject({
  format: z.string().optional(),
  modelTopology: z
    .looseObject({ keras_version: z.string().optional(), model_config: z.unknown().optional() })
    .nullish(),
  weightsManifest: z.unknown().optional(),
});

/** Most bytes of a `model.json`. */
const MAX_JSON = 2 ** 26;

async function readJson(file: string): Promise<unknown> {
  try {
    const { size } = await stat(file);
    if (size <= MAX_JSON) return JSON.parse(await readFile(file, "utf8"));
  } catch (error) {
    throw refuse(`${file} cannot be read: ${(error as Error).message}`);
  }
  throw refuse(`${file} takes more than ${MAX_JSON} bytes`);
}

/** `3.4.1` and the like; TensorFlow.js calls itself `tfjs-layers 4.22.0` and follows Keras 2. */
function majorOf(version: string): KerasMajor {
  return /^3\./.test(version) ? 3 : 2;
}

function written(model: KerasModel, file: string, { name, program }: KerasImportOptions): ImportedModel {
  const { onnx, summary, notes } = shallow(() => sequenceGraph(model));
  const imported = importOnnxBytes(onnx, {
    name: name ?? nameOf(file),
    form: "sequence",
    ...(program === undefined ? {} : { program }),
  });
  if (imported.lane !== "cellular") throw refuse(`its layers cannot be cut into cells: ${imported.why}`);
  return {
    ...imported,
    manifest: { ...imported.manifest, description: `${summary.slice(0, 400)}, imported from Keras` },
    notes: [...notes, ...imported.notes],
  };
}

function shallow<T>(read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (error instanceof RangeError) throw refuse(`it is too large or nested too deeply (${error.message})`);
    throw error;
  }
}

/** A model's name from its file's, or from its folder's where all such files are called the same. */
function nameOf(file: string): string {
  const own = basename(file, extname(file));
  const stem = (own === "model" ? basename(dirname(resolve(file))) : own).toLowerCase();
  return (
    stem
      .replace(/[^a-z0-9._-]/g, "-")
      .replace(/^[^a-z0-9]+/, "")
      .slice(0, 64) || "model"
  );
}
