import type { CellSpec, Head } from "../../src/core/cell.ts";
import { sizeOf } from "../../src/core/tensor.ts";
import { foldedBias, inputTable } from "../input-table.ts";
import { stateLayout } from "../kernel.ts";
import type { NativeCell } from "./load.ts";

/** As `Kind` in `addon/device.h`. */
const KINDS = { lstm: 0, gru: 1, "tree-leaf": 2, "tree-node": 3, linear: 4 } as const;

/**
 * Whether the addon computes a cell: one of the kinds that come as weights, in float32, with the states `h` and `c` of those; nodes of
 * trees are binary and have no input.
 */
export function canRunNatively({ body, inputs, reads, states }: CellSpec): boolean {
  if ("quantize" in body && body.quantize) return false;
  if (body.kind === "tree-node" && (reads !== 2 || inputs.length > 0)) return false;
  return body.kind in KINDS && states.every(({ name }, i) => name === (["h", "c"] as const)[i]);
}

/** Whether the addon computes all cells of a model. */
export function allRunNatively(cells: readonly CellSpec[]): boolean {
  if (!cells.every(canRunNatively)) return false;
  const sizes = new Set(stateLayout(cells).map(({ size }) => size));
  return sizes.size === 1;
}

export function nativeCell(cell: CellSpec): NativeCell {
  const { body } = cell;
  const gives = (name: string) => cell.outputs.some((output) => output.name === name);
  const symbols = "embedding" in body && body.embedding ? body.embedding.rows : 0;
  const needsHead = gives("logits") || gives("token");
  const head = "head" in body && needsHead ? body.head : undefined;
  return {
    kind: KINDS[body.kind as keyof typeof KINDS],
    reads: cell.reads,
    writes: cell.writes,
    input: symbols > 0 || cell.inputs.length === 0 ? 0 : sizeOf(cell.inputs[0]!.shape),
    symbols,
    table: symbols > 0 ? inputTable(cell).data : NOTHING,
    ...weightsOf(cell),
    ...headOf(head),
    givesH: gives("h"),
    givesC: gives("c"),
    givesLogits: gives("logits"),
    givesToken: gives("token"),
  };
}

type CellWeights = Pick<NativeCell, "inputWeights" | "bias" | "stateWeights" | "stateBias">;

function weightsOf({ name, body }: CellSpec): CellWeights {
  switch (body.kind) {
    case "lstm":
    case "gru": {
      const { hidden, inputWeights, stateWeights, stateBias } = body.weights;
      return {
        inputWeights: inputWeights.data,
        bias: Float32Array.from(foldedBias(body.kind, body.weights)),
        stateWeights: stateWeights.data,
        // The others stand in the input's; the last gate's is multiplied by the reset gate.
        stateBias:
          body.kind === "lstm" ? NOTHING : stateBias.map((value, at) => (at < 2 * hidden ? 0 : value)),
      };
    }
    case "tree-leaf":
      return { inputWeights: body.weights.data, bias: body.bias, stateWeights: NOTHING, stateBias: NOTHING };
    case "tree-node":
      return { inputWeights: NOTHING, bias: body.bias, stateWeights: body.weights.data, stateBias: NOTHING };
    case "linear":
      return { inputWeights: NOTHING, bias: NOTHING, stateWeights: NOTHING, stateBias: NOTHING };
    default:
      throw new Error(`cell '${name}' of kind '${body.kind}' cannot run natively`);
  }
}

function headOf(head: Head | undefined): Pick<NativeCell, "classes" | "headWeights" | "headBias"> {
  if (!head) return { classes: 0, headWeights: NOTHING, headBias: NOTHING };
  return { classes: head.weights.rows, headWeights: head.weights.data, headBias: head.bias };
}

const NOTHING = new Float32Array(0);
