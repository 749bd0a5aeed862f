import { extname } from "node:path";
import { Fault } from "../../src/core/faults.ts";
import type { ImportedModel } from "./imported.ts";
import { importOnnx } from "./onnx/import-onnx.ts";
import type { OnnxImportOptions } from "./onnx/options.ts";
import { importTorch } from "./torch/import-torch.ts";
import type { TorchImportOptions } from "./torch/state-dict.ts";

export interface ImportOptions {
  /** Name of the model. @default the file's, in lower case */
  readonly name?: string;
  readonly onnx?: OnnxImportOptions;
  readonly torch?: TorchImportOptions;
}

/** Makes a model of a foreign file, by its kind. Throws INVALID_REQUEST where it is of none that is known. */
export function importModel(source: string, options: ImportOptions = {}): Promise<ImportedModel> {
  const { name, onnx, torch } = options;
  const named = name === undefined ? {} : { name };
  switch (extname(source).toLowerCase()) {
    case ".onnx":
      return importOnnx(source, { ...onnx, ...named });
    case ".safetensors":
      return importTorch(source, { ...torch, ...named });
    default:
      throw new Fault(
        "INVALID_REQUEST",
        `${source} cannot be imported: its name ends neither in .onnx nor in .safetensors`,
      );
  }
}
