import { wireNames } from "../datatypes.ts";
import type { OutputTensor } from "./types.ts";

/** Datatype and shape of an output. */
export function typeOf(output: OutputTensor): {
  readonly datatype: string;
  readonly shape: readonly number[];
} {
  if ("texts" in output) return { datatype: wireNames.text, shape: output.shape };
  return { datatype: wireNames[output.tensor.dtype], shape: output.tensor.shape };
}

/** The values of an output as JSON array items; NaN and infinities as the tokens that `parseJson` takes. */
export function jsonValuesOf(output: OutputTensor): string {
  return "texts" in output
    ? output.texts.map((text) => JSON.stringify(text)).join(",")
    : output.tensor.data.join(",");
}

/** The values of an output as the binary extension has them. */
export function bytesOf(output: OutputTensor): Uint8Array {
  if (!("texts" in output)) {
    const { buffer, byteOffset, byteLength } = output.tensor.data;
    return new Uint8Array(buffer, byteOffset, byteLength);
  }
  const parts = output.texts.flatMap((text) => {
    const bytes = Buffer.from(text);
    const length = Buffer.alloc(4);
    length.writeUInt32LE(bytes.length);
    return [length, bytes];
  });
  return Buffer.concat(parts);
}
