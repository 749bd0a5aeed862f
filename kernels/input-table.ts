import type { CellSpec, Matrix, RecurrentWeights } from "../src/core/cell.ts";
import type { Pause } from "./kernel.ts";

/**
 * What each token adds to the gates: embedding times input weights plus the biases that need no state, `[tokens, gates]`.
 * Summed in float64, rounded once.
 */
export function inputTable(cell: CellSpec): Matrix {
  const pieces = tableInPieces(cell);
  let piece = pieces.next();
  while (!piece.done) piece = pieces.next();
  return piece.value;
}

/** As `inputTable`, which takes seconds for a large vocabulary; waits for `pause` about every millisecond. */
export async function inputTableWith(cell: CellSpec, pause: Pause): Promise<Matrix> {
  const pieces = tableInPieces(cell);
  let piece = pieces.next();
  for (; !piece.done; piece = pieces.next()) await pause();
  return piece.value;
}

function* tableInPieces(cell: CellSpec): Generator<void, Matrix> {
  const { body } = cell;
  const embedding = "embedding" in body ? body.embedding : undefined;
  const { weights, bias } = inputOf(body);
  if (!embedding || !weights) throw new Error(`cell '${cell.name}' takes no tokens`);
  const data = new Float32Array(embedding.rows * weights.rows);
  const tokensOfPiece = Math.ceil(PIECE / (weights.rows * weights.columns));
  for (let token = 0; token < embedding.rows; token++) {
    for (let gate = 0; gate < weights.rows; gate++) {
      let sum = bias[gate]!;
      const e = token * embedding.columns;
      const w = gate * weights.columns;
      for (let k = 0; k < weights.columns; k++) sum += embedding.data[e + k]! * weights.data[w + k]!;
      data[token * weights.rows + gate] = sum;
    }
    if (token % tokensOfPiece === tokensOfPiece - 1) yield;
  }
  return { rows: embedding.rows, columns: weights.rows, data };
}

/** Products of about a millisecond. */
const PIECE = 1_000_000;

/** What multiplies a cell's input, and the biases that need no state. */
function inputOf(body: CellSpec["body"]): {
  readonly weights?: Matrix | undefined;
  readonly bias: Float32Array | Float64Array;
} {
  switch (body.kind) {
    case "lstm":
    case "gru":
      return { weights: body.weights.inputWeights, bias: foldedBias(body.kind, body.weights) };
    case "lstm-attention":
      return { weights: body.weights.inputWeights, bias: foldedBias("lstm", body.weights) };
    case "tree-leaf":
      return { weights: body.weights, bias: body.bias };
    case "tree-node":
    case "tree-child":
    case "tree-sum":
      return { weights: body.inputWeights, bias: body.bias };
    default:
      return { bias: NO_BIAS };
  }
}

const NO_BIAS = new Float32Array(0);

/** Both biases where the state's needs no state: all gates of an LSTM, and those of a GRU but the last. In float64. */
export function foldedBias(
  kind: "lstm" | "gru",
  { hidden, inputBias, stateBias }: RecurrentWeights,
): Float64Array {
  const folded = kind === "lstm" ? inputBias.length : 2 * hidden;
  return Float64Array.from(inputBias, (value, at) => (at < folded ? value + stateBias[at]! : value));
}
