import type { ModelDefinition } from "../../models/definition.ts";
import type { CellSpec } from "../core/cell.ts";
import { Fault } from "../core/faults.ts";
import { sizeOf } from "../core/tensor.ts";

/** A suspended session as a string: a line of JSON that says whose state it is, then float32 values, in base64url. */
export function packState({ name, version }: ModelDefinition, values: Float32Array): string {
  const header = Buffer.from(`${JSON.stringify({ model: name, version, values: values.length })}\n`);
  const bytes = Buffer.from(values.buffer, values.byteOffset, values.byteLength);
  return Buffer.concat([header, bytes]).toString("base64url");
}

/** The inverse of `packState`. Throws INVALID_REQUEST where the state is another model's or is damaged. */
export function unpackState({ name, version, cells }: ModelDefinition, state: string): Float32Array {
  const size = stateSize(cells);
  const bytes = Buffer.from(state, "base64url");
  const end = bytes.indexOf(10);
  const expected = JSON.stringify({ model: name, version, values: size });
  const header = bytes.subarray(0, Math.max(0, end)).toString();
  if (header !== expected || bytes.length - end - 1 !== size * 4) {
    const found = header.startsWith("{") ? header.slice(0, 200) : "no header";
    throw new Fault(
      "INVALID_REQUEST",
      `the state has ${found} and ${bytes.length} bytes, this model needs ${expected}`,
    );
  }
  const values = new Float32Array(size);
  new Uint8Array(values.buffer).set(bytes.subarray(end + 1));
  return values;
}

/** Values of all states; cells share those of one name. */
function stateSize(cells: readonly CellSpec[]): number {
  const sizes = new Map(
    cells.flatMap(({ states }) => states.map(({ name, shape }) => [name, sizeOf(shape)])),
  );
  return [...sizes.values()].reduce((sum, size) => sum + size, 0);
}
