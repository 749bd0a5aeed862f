import type { Values } from "../../kernels/kernel.ts";

export function copy(from: Values, at: number, to: Values, into: number, size: number): void {
  if (size < FEW) for (let i = 0; i < size; i++) to[into + i] = from[at + i]!;
  else to.set(from.subarray(at, at + size), into);
}

/** Values of `steps` steps, which begin at `first`, to where a task wants those of row `row`. */
export function copySteps(
  from: Values,
  first: number,
  size: number,
  to: Values,
  row: number,
  rows: number,
  steps: number,
): void {
  for (let step = 0; step < steps; step++) {
    copy(from, first + step * size, to, (step * rows + row) * size, size);
  }
}

/** Below this many values a loop is quicker than `set`. */
const FEW = 24;
