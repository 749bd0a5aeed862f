import type { Matrix, Quantization } from "../../src/core/cell.ts";
import type { GraphBuilder } from "./graph.ts";

/** Adds to what each gate has already its product with a state. All are `[rows, gate]`; an addend may be `[gate]`. */
export type StateProduct = (state: string, addends: readonly string[]) => string[];

/** The product of a state in [-1, 1] with the weights of each gate, `[gate, state]`. */
export function stateProduct(
  b: GraphBuilder,
  gates: readonly Matrix[],
  quantize: Quantization | undefined,
): StateProduct {
  return quantize === "int8" ? quantizedProduct(b, gates) : floatProduct(b, gates);
}

function floatProduct(b: GraphBuilder, gates: readonly Matrix[]): StateProduct {
  const weights = gates.map((gate) => b.weights([gate.columns, gate.rows], transposed(gate)));
  return (state, addends) => addends.map((added, gate) => b.node("Gemm", [state, weights[gate]!, added]));
}

/**
 * Steps of a state from -1 to 0 and from 0 to 1. The scale is the same for all rows and known beforehand, so that no row's
 * value depends on another's, as it does where ONNX Runtime takes the scale over the batch.
 */
export const STATE_LEVELS = 127;
/**
 * Largest magnitude of a quantised weight. Processors without VNNI add two products of 8 bits in 16 before they widen: 255 * 64
 * twice still fits, 255 * 127 would not. So a model gives the same on every processor.
 */
export const WEIGHT_LEVELS = 64;
/** Where 0 lies in a quantised state, which has no sign: the instructions multiply without by with. */
const ZERO = 128;

function quantizedProduct(b: GraphBuilder, gates: readonly Matrix[]): StateProduct {
  const stateScale = b.weights([], Float32Array.of(1 / STATE_LEVELS));
  const zero = b.bytes([], Uint8Array.of(ZERO));
  const weights = gates.map((gate) => {
    const { values, scales } = quantized(gate);
    return {
      values: b.bytes([gate.columns, gate.rows], values),
      scales: b.weights([gate.rows], scales),
    };
  });
  return (state, addends) => {
    const steps = b.node("QuantizeLinear", [state, stateScale, zero]);
    return addends.map((added, gate) => {
      const { values, scales } = weights[gate]!;
      const inputs = [steps, values, stateScale, scales, zero];
      return b.node("Add", [b.node("com.microsoft.MatMulIntegerToFloat", inputs), added]);
    });
  };
}

/** Weights `[state, gate]` in whole steps, and what a step of each of the gate's values is. */
function quantized({ rows, columns, data }: Matrix): { values: Int8Array; scales: Float32Array } {
  const values = new Int8Array(data.length);
  const scales = new Float32Array(rows);
  for (let row = 0; row < rows; row++) {
    let most = 0;
    for (let k = 0; k < columns; k++) most = Math.max(most, Math.abs(data[row * columns + k]!));
    // A row of zeros stays one at any scale.
    const scale = most === 0 ? 1 : most / WEIGHT_LEVELS;
    scales[row] = scale;
    for (let k = 0; k < columns; k++) values[k * rows + row] = Math.round(data[row * columns + k]! / scale);
  }
  return { values, scales };
}

/** A matrix the way a plain product takes it. */
function transposed({ rows, columns, data }: Matrix): Float32Array {
  const turned = new Float32Array(data.length);
  for (let row = 0; row < rows; row++)
    for (let column = 0; column < columns; column++)
      turned[column * rows + row] = data[row * columns + column]!;
  return turned;
}
