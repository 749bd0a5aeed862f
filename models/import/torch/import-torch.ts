import { readFile } from "node:fs/promises";
import { basename, extname } from "node:path";
import { Fault } from "../../../src/core/faults.ts";
import { readSafetensors } from "../../safetensors.ts";
import type { ImportedModel } from "../imported.ts";
import { importOnnxBytes } from "../onnx/import-onnx.ts";
import { projectedStep, sequenceGraph } from "./graph.ts";
import { readStateDict, type TorchImportOptions } from "./state-dict.ts";

/**
 * Makes a model of the state dict of an `nn.LSTM`, `nn.GRU`, `nn.RNN` or one of their cells, with an `nn.Embedding` before
 * and `nn.Linear` after, saved as safetensors. Throws INVALID_REQUEST that names what is wrong or has to be chosen.
 */
export async function importTorch(file: string, options: TorchImportOptions = {}): Promise<ImportedModel> {
  const bytes = await readFile(file).catch((error: Error) => {
    throw new Fault("INVALID_REQUEST", `${file} cannot be read: ${error.message}`);
  });
  return importTorchBytes(bytes, { name: nameOf(file), ...options });
}

/** As `importTorch`, for the content of a file. */
export function importTorchBytes(
  bytes: Uint8Array,
  options: TorchImportOptions & { readonly name: string },
): ImportedModel {
  const { name, nonlinearity = "tanh", collect = "last" } = options;
  const model = readStateDict(readSafetensors(bytes, name), options);
  const isProjected = model.layers[0]![0]!.projection !== undefined;
  if (isProjected && model.layers[0]!.length === 2) {
    throw new Fault(
      "INVALID_REQUEST",
      "the state dict cannot be taken: both directions of an LSTM with proj_size are not served; export it as ONNX",
    );
  }
  const imported = isProjected
    ? importOnnxBytes(projectedStep(model), {
        name,
        form: "step",
        program: "chain",
        states: model.layers.flatMap((_, layer) =>
          ["h", "c"].map((state) => ({ input: `${state}${layer}`, output: `${state}${layer}_out` })),
        ),
      })
    : importOnnxBytes(sequenceGraph(model, { nonlinearity, collect }), { name, form: "sequence" });
  const { program } = imported.manifest;
  const layers = model.layers.length;
  const directions = model.layers[0]!.length === 2 ? ", both directions" : "";
  return {
    ...imported,
    manifest: {
      ...imported.manifest,
      program: isProjected && program.kind === "chain" ? { ...program, collect } : program,
      description: `${model.kind} of ${model.hidden}, ${layers} layer${layers === 1 ? "" : "s"}${directions}, imported from PyTorch`,
    },
    notes: [...model.notes, ...imported.notes],
  };
}

/** A model's name from its file's. */
function nameOf(file: string): string {
  const stem = basename(file, extname(file))
    .toLowerCase()
    .replace(/[^a-z0-9._-]/g, "-");
  return stem.replace(/^[^a-z0-9]+/, "").slice(0, 64) || "model";
}
