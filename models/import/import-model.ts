import { stat } from "node:fs/promises";
import { extname } from "node:path";
import type { Quantization } from "../../src/core/cell.ts";
import { Fault } from "../../src/core/faults.ts";
import { importFolder } from "./import-folder.ts";
import type { ImportedModel } from "./imported.ts";
import {
  importKeras,
  importLayersModel,
  isLayersModel,
  type KerasImportOptions,
} from "./keras/import-keras.ts";
import { importOnnx } from "./onnx/import-onnx.ts";
import type { OnnxImportOptions } from "./onnx/options.ts";
import { quantizeModel } from "./quantize.ts";
import { importTorch } from "./torch/import-torch.ts";
import type { TorchImportOptions } from "./torch/state-dict.ts";

export interface ImportOptions {
  /** Name of the model. @default the file's, in lower case */
  readonly name?: string;
  readonly onnx?: OnnxImportOptions;
  readonly torch?: TorchImportOptions;
  readonly keras?: KerasImportOptions;
  /** Quantises the cells that can be; see `Quantization`. @default float32 */
  readonly quantize?: Quantization;
}

/**
 * Makes a model of a foreign file, by its kind, or of the folder of a model. Throws INVALID_REQUEST where it is of none that is
 * known.
 */
export async function importModel(source: string, options: ImportOptions = {}): Promise<ImportedModel> {
  const { quantize, ...rest } = options;
  const model = await readSource(source, rest);
  return quantize === undefined ? model : quantizeModel(model, quantize);
}

async function readSource(source: string, options: Omit<ImportOptions, "quantize">): Promise<ImportedModel> {
  const { name, onnx, torch, keras } = options;
  const named = name === undefined ? {} : { name };
  const found = await stat(source).catch(() => undefined);
  if (found?.isDirectory()) return importFolder(source, name);
  switch (extname(source).toLowerCase()) {
    case ".onnx":
      return importOnnx(source, { ...onnx, ...named });
    case ".safetensors":
      return importTorch(source, { ...torch, ...named });
    case ".keras":
      return importKeras(source, { ...keras, ...named });
    case ".json":
      if (await isLayersModel(source)) return importLayersModel(source, { ...keras, ...named });
      throw new Fault("INVALID_REQUEST", `${source} cannot be imported: it has no 'modelTopology'`);
    default:
      throw new Fault(
        "INVALID_REQUEST",
        `${source} cannot be imported: its name ends in none of .onnx, .safetensors, .keras and .json, and it is no folder`,
      );
  }
}
