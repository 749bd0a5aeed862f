import { extname } from "node:path";
import { Fault } from "../../src/core/faults.ts";
import type { ImportedModel } from "./imported.ts";
import { importOnnx } from "./onnx/import-onnx.ts";
import type { OnnxImportOptions } from "./onnx/options.ts";

/** Makes a model of a foreign file, by its kind. Throws INVALID_REQUEST where it is of none that is known. */
export function importModel(source: string, options: OnnxImportOptions): Promise<ImportedModel> {
  if (extname(source).toLowerCase() === ".onnx") return importOnnx(source, options);
  throw new Fault("INVALID_REQUEST", `${source} cannot be imported: its name ends in none of .onnx`);
}
