import type { CellSpec, Head, Matrix } from "../../src/core/cell.ts";
import { FLOAT, type GraphBuilder, INT32 } from "./graph.ts";

/** A tensor of a session: its name there, and its dimensions for a number of rows and steps. */
export interface Port {
  readonly name: string;
  readonly dims: (rows: number, steps: number) => number[];
}

/** An ONNX graph for a cell, and how the tensors of a task go in and out. */
export interface CellGraph {
  readonly onnx: Uint8Array;
  /** As `cell.inputs`. */
  readonly inputs: readonly Port[];
  /** As `cell.states`, one for each slot that a row reads. */
  readonly reads: readonly (readonly Port[])[];
  /** As `cell.states`; empty where the cell does not write. */
  readonly writes: readonly Port[];
  /** As `cell.outputs`; one that is a state's next value has the port of that. */
  readonly outputs: readonly Port[];
}

/** Declares states and outputs under the names that every built graph has. */
export function finish(
  b: GraphBuilder,
  cell: CellSpec,
  inputs: Port[],
  next: readonly string[],
  outputs: Record<string, string>,
): CellGraph {
  const given = new Map<string, string>();
  if (cell.writes) {
    cell.states.forEach(({ name, shape }, i) => {
      b.give(next[i]!, `next/${name}`, FLOAT, ["rows", ...shape]);
      given.set(next[i]!, `next/${name}`);
    });
  }
  const ports = cell.outputs.map((spec) => {
    const value = outputs[spec.name];
    if (value === undefined) throw new Error(`cell '${cell.name}' has no output '${spec.name}' to give`);
    const known = given.get(value);
    if (known === undefined) emit(b, cell, spec.name, value);
    return plain(known ?? `out/${spec.name}`, ...spec.shape);
  });
  const slots = Array.from({ length: cell.reads }, (_, slot) => (cell.reads === 1 ? "" : `/${slot}`));
  return {
    onnx: b.encode(),
    inputs,
    reads: slots.map((suffix) => cell.states.map(({ name, shape }) => rows(`state/${name}${suffix}`, shape))),
    writes: cell.writes ? cell.states.map(({ name, shape }) => rows(`next/${name}`, shape)) : [],
    outputs: ports,
  };
}

export function emit(b: GraphBuilder, cell: CellSpec, name: string, value: string): void {
  const spec = cell.outputs.find((output) => output.name === name);
  if (!spec) return;
  b.give(value, `out/${name}`, spec.dtype === "int32" ? INT32 : FLOAT, ["outputs", ...spec.shape]);
}

function rows(name: string, shape: readonly number[]): Port {
  return { name, dims: (count) => [count, ...shape] };
}

export function plain(name: string, ...shape: (number | undefined)[]): Port {
  const rest = shape.filter((size) => size !== undefined);
  return { name, dims: (count, steps) => [count * steps, ...rest] };
}

export function headOutputs(
  b: GraphBuilder,
  h: string,
  head: Head | undefined,
  cell: CellSpec,
): Record<string, string> {
  if (!head || !cell.outputs.some(({ name }) => name === "logits" || name === "token")) return {};
  const logits = dense(b, h, head.weights, head.bias);
  if (!cell.outputs.some(({ name }) => name === "token")) return { logits };
  const best = b.node("ArgMax", [logits], { axis: 1, keepdims: 0 });
  return { logits, token: b.node("Cast", [best], { to: INT32 }) };
}

export function dense(
  b: GraphBuilder,
  x: string,
  weights: Matrix,
  bias: Float32Array | Float64Array,
): string {
  return b.node("Gemm", [x, weightsOf(b, weights), b.weights([weights.rows], Float32Array.from(bias))], {
    transB: 1,
  });
}

export function weightsOf(b: GraphBuilder, { rows, columns, data }: Matrix): string {
  return b.weights([rows, columns], data);
}

/** One of `count` equal parts, as gates stand one after the other. */
export function partOf<T extends Float32Array | Float64Array>(values: T, part: number, count: number): T {
  const size = values.length / count;
  return values.subarray(part * size, (part + 1) * size) as T;
}

export function rowsOf({ rows, columns, data }: Matrix, part: number, count: number): Matrix {
  return { rows: rows / count, columns, data: partOf(data, part, count) };
}

export function columnsOf({ rows, columns, data }: Matrix, part: number, count: number): Matrix {
  const size = columns / count;
  const cut = new Float32Array(rows * size);
  for (let row = 0; row < rows; row++) {
    const from = row * columns + part * size;
    cut.set(data.subarray(from, from + size), row * size);
  }
  return { rows, columns: size, data: cut };
}
