import type { Matrix, Quantization } from "../../src/core/cell.ts";
import { dense } from "./cell-graph.ts";
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

/** The product of vectors `[rows, input]` with the weights of each gate, `[gate, input]`, plus the gate's bias. */
export function inputProduct(
  b: GraphBuilder,
  x: string,
  gates: readonly Gate[],
  quantize: Quantization | undefined,
): string[] {
  return quantize === "int8"
    ? quantizedInputs(b, x, gates)
    : gates.map(({ weights, bias }) => dense(b, x, weights, bias));
}

export interface Gate {
  readonly weights: Matrix;
  readonly bias: Float64Array;
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
/** Where 0 lies in a quantised state or input, which has no sign: the instructions multiply without by with. */
const ZERO = 128;

function quantizedProduct(b: GraphBuilder, gates: readonly Matrix[]): StateProduct {
  const scale = b.weights([], Float32Array.of(1 / STATE_LEVELS));
  const zero = b.bytes([], Uint8Array.of(ZERO));
  const weights = gates.map((gate) => quantizedWeights(b, gate));
  return (state, addends) => {
    const levels = b.node("QuantizeLinear", [state, scale, zero]);
    return addends.map((added, gate) => {
      const { values, scales } = weights[gate]!;
      return b.node("Add", [b.node(PRODUCT, [levels, values, scale, scales, zero]), added]);
    });
  };
}

/** Vectors may have any size, so each row has a scale of its own: its largest magnitude is the last level. */
function quantizedInputs(b: GraphBuilder, x: string, gates: readonly Gate[]): string[] {
  const zero = b.bytes([], Uint8Array.of(ZERO));
  const one = b.weights([], Float32Array.of(1));
  const most = b.node("ReduceMax", [b.node("Abs", [x]), b.integers([1])], { keepdims: 0 });
  const above0 = b.node("Max", [most, b.weights([], Float32Array.of(SMALLEST))]);
  const scale = b.node("Mul", [above0, b.weights([], Float32Array.of(1 / STATE_LEVELS))]);
  const zeros = b.node("Expand", [zero, b.node("Shape", [scale])]);
  const levels = b.node("QuantizeLinear", [x, scale, zeros], { axis: 0 });
  const byRow = b.node("Unsqueeze", [scale, b.integers([1])]);
  return gates.map(({ weights, bias }) => {
    const { values, scales } = quantizedWeights(b, weights);
    const product = b.node(PRODUCT, [levels, values, one, scales, zero]);
    return b.node("Add", [
      b.node("Mul", [product, byRow]),
      b.weights([weights.rows], Float32Array.from(bias)),
    ]);
  });
}

/** Sums of products of 8 bits, times both scales. */
const PRODUCT = "com.microsoft.MatMulIntegerToFloat";
/** So that a row of zeros is divided by something. */
const SMALLEST = 1e-30;

function quantizedWeights(b: GraphBuilder, weights: Matrix): { values: string; scales: string } {
  const { values, scales } = quantized(weights);
  return {
    values: b.bytes([weights.columns, weights.rows], values),
    scales: b.weights([weights.rows], scales),
  };
}

/** Weights `[input, gate]` in whole steps, and what a step of each of the gate's values is. */
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
