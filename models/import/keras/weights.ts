import type { StoredTensor } from "../../safetensors.ts";
import type { LayerEntry } from "./config.ts";
import { refuse, sayLayer } from "./faults.ts";

/** Which part of a layer holds a variable: the layer itself, its recurrent cell, one direction's cell, or the layer that it wraps. */
export type Place = "own" | "cell" | "forward" | "backward" | "inner";

/** A variable of a layer: its name in Keras, and where it stands among the variables of its place. */
export interface Variable {
  readonly name: string;
  readonly index: number;
}

/** One size of a wanted shape; undefined where any will do. */
export type Wanted = readonly (number | undefined)[];

/** The weights of a model's layers, whichever way a file names them. */
export interface Weights {
  /** A variable in float32. Throws INVALID_REQUEST where there is none or it has another shape. */
  read(layer: LayerEntry, place: Place, variable: Variable, wanted: Wanted): StoredTensor;
}

/** Throws INVALID_REQUEST unless a variable has the shape that its layer says. */
export function checkShape(layer: LayerEntry, name: string, shape: readonly number[], wanted: Wanted): void {
  const fits =
    shape.length === wanted.length && wanted.every((size, i) => size === undefined || size === shape[i]);
  if (fits && shape.every((size) => size > 0)) return;
  const expected = wanted.map((size) => size ?? "*").join(", ");
  throw refuse(`'${name}' of ${sayLayer(layer)} has shape [${shape.join(", ")}], expected [${expected}]`);
}

/** How many values a shape from a file has. Throws INVALID_REQUEST where that is no number of values that could be stored. */
export function valuesOf(name: string, shape: readonly number[]): number {
  const count = shape.reduce((product, size) => product * size, 1);
  if (Number.isSafeInteger(count) && count * 4 <= MAX_BYTES) return count;
  throw refuse(`'${name}' has shape [${shape.join(", ")}], which is more than ${MAX_BYTES} bytes`);
}

/** Most bytes that the weights of a model may take: what one ArrayBuffer and one ONNX file hold. */
export const MAX_BYTES = 2 ** 31 - 2 ** 24;
