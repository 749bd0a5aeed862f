import type { Kernel } from "../../kernels/kernel.ts";
import type { CellSpec } from "../core/cell.ts";
import { sizeOf } from "../core/tensor.ts";

/** Bytes that the states of all tokens of one cell may take. */
const BUDGET = 64 * 2 ** 20;

/**
 * A leaf of a tree that reads one token has one of as many states as there are tokens. Where those fit, they are computed
 * once into the kernel's first slots, and leaves never run: half of a tree's cells. Answers the slot of token 0 by cell, and
 * how many slots are taken.
 */
export async function knownStates(
  kernel: Kernel,
): Promise<{ readonly known: readonly (number | undefined)[]; readonly slots: number }> {
  let slots = 0;
  const known: (number | undefined)[] = [];
  for (const [cell, spec] of kernel.cells.entries()) {
    const tokens = tokensOf(spec);
    if (tokens === 0) known.push(undefined);
    else {
      kernel.reserve(slots + tokens);
      await compute(kernel, cell, slots, tokens);
      kernel.freeze?.(slots, tokens);
      known.push(slots);
      slots += tokens;
    }
  }
  return { known, slots };
}

/** How many tokens a leaf knows; 0 for any other cell, and where their states take too much room. */
function tokensOf({ reads, writes, body, states }: CellSpec): number {
  if (reads !== 0 || !writes || body.kind !== "tree-leaf" || !body.embedding) return 0;
  const { rows } = body.embedding;
  const values = states.reduce((sum, { shape }) => sum + sizeOf(shape), 0);
  return rows * values * Float32Array.BYTES_PER_ELEMENT <= BUDGET ? rows : 0;
}

async function compute(kernel: Kernel, cell: number, first: number, tokens: number): Promise<void> {
  for (let token = 0; token < tokens; token += kernel.maxBatch) {
    const rows = Math.min(kernel.maxBatch, tokens - token);
    const staged = kernel.stage(cell, rows, 1)[0]!;
    for (let row = 0; row < rows; row++) staged[row] = token + row;
    const writes = Int32Array.from({ length: rows }, (_, row) => first + token + row);
    await kernel.run({ cell, rows, steps: 1, reads: NO_SLOTS, writes });
  }
}

const NO_SLOTS = new Int32Array(0);
