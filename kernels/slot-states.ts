import type { stateLayout } from "./kernel.ts";

type Layout = ReturnType<typeof stateLayout>;

/** Where the rows of one state live. */
interface Rows {
  read(slot: number, into: Float32Array, offset: number): void;
  write(slot: number, values: Float32Array): void;
}

/** The states of a slot, all in one array in the order of the layout; `states` are as the layout. */
export function readSlot(layout: Layout, states: readonly Rows[], slot: number): Float32Array {
  const values = new Float32Array(layout.reduce((sum, { size }) => sum + size, 0));
  let offset = 0;
  layout.forEach(({ size }, i) => {
    states[i]!.read(slot, values, offset);
    offset += size;
  });
  return values;
}

/** The inverse of `readSlot`. */
export function writeSlot(layout: Layout, states: readonly Rows[], slot: number, values: Float32Array): void {
  let offset = 0;
  layout.forEach(({ size }, i) => {
    states[i]!.write(slot, values.subarray(offset, offset + size));
    offset += size;
  });
}
