import type { Quantization } from "../../src/core/cell.ts";
import { Fault } from "../../src/core/faults.ts";
import type { CellManifest } from "../manifest.ts";
import type { ImportedModel } from "./imported.ts";

/**
 * The same model with its products of states quantised, cell by cell where that can be. The weights stay as they are stored:
 * the kernel quantises them when it loads. Throws INVALID_REQUEST where no cell can be.
 */
export function quantizeModel(model: ImportedModel, quantize: Quantization): ImportedModel {
  const { manifest, notes } = model;
  const left: string[] = [];
  const cells = manifest.cells.map((cell): CellManifest => {
    const obstacle = obstacleOf(cell);
    if (obstacle === undefined) return { ...cell, quantize } as CellManifest;
    left.push(`'${cell.name}' ${obstacle}`);
    return cell;
  });
  if (left.length === cells.length) {
    throw new Fault(
      "INVALID_REQUEST",
      `model '${manifest.name}' has no cell to quantise: ${left.join("; ")}`,
    );
  }
  const note = left.length === 0 ? [] : [`left in float32: ${left.join("; ")}`];
  return { ...model, manifest: { ...manifest, cells }, notes: [...notes, ...note] };
}

/** Why a cell stays in float32; undefined where it need not. */
function obstacleOf({ kind }: CellManifest): string | undefined {
  switch (kind) {
    case "lstm":
    case "gru":
    case "lstm-attention":
    case "tree-node":
      return undefined;
    case "onnx":
      return "is a step graph, whose products are not known to take states from -1 to 1";
    default:
      return "has no product with a state";
  }
}
