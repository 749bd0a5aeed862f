import type { CellSpec } from "../src/core/cell.ts";
import { Fault } from "../src/core/faults.ts";
import type { WholeGraph } from "./definition.ts";

/** Throws INVALID_REQUEST unless a graph's inputs and buffers are such that requests of any length have a place. */
export function checkWholeGraph(where: string, program: WholeGraph, cells: readonly CellSpec[]): void {
  const refuse = (why: string) => {
    throw new Fault("INVALID_REQUEST", `${where}: ${why}`);
  };
  const { inputs, states } = cells.find(({ name }) => name === program.cell)!;
  if (states.length > 0) refuse(`graph '${program.cell}' has states, which only cells may have`);
  const shapeOf = (name: string) =>
    inputs.find((input) => input.name === name)?.shape ??
    refuse(`graph '${program.cell}' has no input '${name}'`);
  for (const { name, shape } of inputs) {
    if (shape.filter((dim) => dim === -1).length > 1)
      refuse(`input '${name}' has more than one axis without a length: [${shape.join(", ")}]`);
  }
  const { lengths, mask } = program;
  if (lengths !== undefined && shapeOf(lengths)!.length > 0)
    refuse(`input '${lengths}' has axes besides the rows, lengths have none`);
  if (mask !== undefined && String(shapeOf(mask)) !== "-1")
    refuse(`input '${mask}' has shape [${shapeOf(mask)!.join(", ")}], a mask has [-1]`);
  for (const name of Object.keys(program.pad)) shapeOf(name);
  program.buffers.forEach(({ upTo }, i) => {
    const before = i === 0 ? 0 : program.buffers[i - 1]!.upTo!;
    const isLast = i === program.buffers.length - 1;
    if (isLast ? upTo !== undefined : upTo === undefined)
      refuse(`buffer ${i} ${isLast ? "is the last and must not" : "is not the last and must"} have 'upTo'`);
    if (upTo !== undefined && upTo <= before)
      refuse(`buffer ${i} goes up to ${upTo}, the one before to ${before}`);
  });
}
