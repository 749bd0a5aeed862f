import type { CellSpec } from "../src/core/cell.ts";
import { Fault } from "../src/core/faults.ts";
import type { TensorSpec } from "../src/core/tensor.ts";
import type { Tree } from "./definition.ts";

/** What the callers of a tree give and get, before the steps of the values are counted. */
export function treeTensors(
  { leaf, child, node, head }: Tree,
  cell: (name: string) => CellSpec,
): {
  readonly values: readonly TensorSpec[];
  readonly shape: TensorSpec;
  readonly outputs: readonly TensorSpec[];
} {
  const { inputs, reads, outputs } = cell(node);
  const given = head === undefined ? outputs : cell(head).outputs;
  if (inputs.length > 0) {
    return { values: inputs, shape: { name: "parent", dtype: "int32", shape: [-1] }, outputs: given };
  }
  const width = child === undefined ? reads : -1;
  const shape: TensorSpec = { name: "children", dtype: "int32", shape: [-1, width] };
  return { values: cell(leaf!).inputs, shape, outputs: given };
}

/** Throws INVALID_REQUEST where the cells do not make a tree together. */
export function checkTree(
  folder: string,
  { leaf, child, node, head }: Tree,
  cells: readonly CellSpec[],
): void {
  const cell = (name: string) => cells.find((one) => one.name === name)!;
  const refuse = (what: string) => new Fault("INVALID_REQUEST", `${folder}: ${what}`);
  const need = (name: string, reads: number, why: string) => {
    if (cell(name).reads !== reads)
      throw refuse(`cell '${name}' reads ${cell(name).reads} slots; ${why} reads ${reads}`);
  };
  const { inputs, reads, outputs } = cell(node);
  if (child !== undefined) {
    need(node, 1, "the node of a tree with a cell for children");
    need(child, 2, "the cell for children");
  } else if (reads < 2) {
    throw refuse(
      `the node of a tree reads a slot for each of its children, cell '${node}' reads ${reads}; child-sum needs 'child'`,
    );
  }
  if (leaf !== undefined) need(leaf, 0, "the leaf of a tree");
  else if (inputs.length === 0) throw refuse(`cell '${node}' has no input, so the tree needs a 'leaf'`);
  for (const [name, isLike] of [
    [child, true],
    [leaf, inputs.length > 0],
  ] as const) {
    if (name === undefined || !isLike || sameInputs(cell(name).inputs, inputs)) continue;
    throw refuse(`cells '${name}' and '${node}' of a tree take different inputs`);
  }
  for (const { name } of head === undefined && leaf !== undefined ? outputs : []) {
    if (cell(leaf!).outputs.some((output) => output.name === name)) continue;
    throw refuse(
      `a tree of one leaf has no '${name}': give it among the outputs of cell '${leaf}' too, or a 'head'`,
    );
  }
}

function sameInputs(a: readonly TensorSpec[], b: readonly TensorSpec[]): boolean {
  const text = (specs: readonly TensorSpec[]) =>
    JSON.stringify(specs.map(({ name, dtype, shape }) => [name, dtype, shape]));
  return text(a) === text(b);
}
