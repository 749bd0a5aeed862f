import { readFile } from "node:fs/promises";
import { Fault } from "../../src/core/faults.ts";
import type { Manifest } from "../manifest.ts";
import { inside } from "../read-cell.ts";
import { readManifest } from "../read-model.ts";
import type { ImportedModel } from "./imported.ts";

/** A model folder as if it had been imported: `model.json` and the files that it names. Throws INVALID_REQUEST. */
export async function importFolder(folder: string, name?: string): Promise<ImportedModel> {
  const manifest = await readManifest(folder);
  if (manifest.program.kind === "pipeline") {
    throw new Fault("INVALID_REQUEST", `${folder} is a pipeline, which has no cells: import its stages`);
  }
  const files = new Map<string, Uint8Array>();
  for (const file of filesOf(manifest)) {
    const content = await readFile(inside(folder, file)).catch((error: Error) => {
      throw new Fault("INVALID_REQUEST", `${folder}: '${file}' cannot be read: ${error.message}`);
    });
    files.set(file, content);
  }
  const isGraph = manifest.program.kind === "graph";
  return {
    manifest: name === undefined ? manifest : { ...manifest, name },
    files,
    lane: isGraph ? "graph" : "cellular",
    why: isGraph ? "the model's program is one graph" : "the model is made of cells",
    notes: [],
  };
}

/** Names of the files of a folder that its `model.json` mentions, each once. */
function filesOf({ cells, text }: Manifest): Set<string> {
  const codecs = [...(text?.inputs ?? []), ...(text?.outputs ?? [])].map(({ codec }) => codec);
  return new Set([
    ...cells.flatMap((cell) => {
      if (cell.kind !== "onnx") return [cell.weights.file];
      return cell.package === undefined ? [cell.file] : [];
    }),
    ...codecs.flatMap((codec) => {
      if (codec.kind === "tokenizer") return [codec.file];
      return Array.isArray(codec.symbols) ? [] : [codec.symbols.file];
    }),
  ]);
}
