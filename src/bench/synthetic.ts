import type { ModelDefinition } from "../../models/definition.ts";
import type { CellSpec, Matrix } from "../core/cell.ts";

/** Weights with the spread that PyTorch draws, so that gates work in their middle; the same every time. */
export function weights(rows: number, columns: number, scale: number): Matrix {
  let state = rows * 31 + columns;
  const data = Float32Array.from({ length: rows * columns }, () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) | 0;
    return (state / 2 ** 31) * scale;
  });
  return { rows, columns, data };
}

/** An LSTM over vectors of its own width. */
export function lstmCell(hidden: number): CellSpec {
  const scale = 1 / Math.sqrt(hidden);
  return {
    name: "cell",
    inputs: [{ name: "x", dtype: "float32", shape: [hidden] }],
    reads: 1,
    writes: true,
    states: ["h", "c"].map((name) => ({ name, shape: [hidden] })),
    outputs: [{ name: "h", dtype: "float32", shape: [hidden] }],
    body: {
      kind: "lstm",
      weights: {
        hidden,
        inputWeights: weights(4 * hidden, hidden, scale),
        stateWeights: weights(4 * hidden, hidden, scale),
        inputBias: new Float32Array(4 * hidden),
        stateBias: new Float32Array(4 * hidden),
      },
    },
  };
}

/** The same over tokens of 256 kinds. */
export function tokenCell(hidden: number): CellSpec {
  const cell = lstmCell(hidden);
  if (cell.body.kind !== "lstm") throw new Error("not an LSTM");
  return {
    ...cell,
    inputs: [{ name: "token", dtype: "int32", shape: [] }],
    body: { ...cell.body, embedding: weights(256, hidden, 1) },
  };
}

export function chainOf(name: string, cell: CellSpec): ModelDefinition {
  return {
    name,
    version: "1",
    description: "for measuring",
    cells: [cell],
    program: { kind: "chain", cell: cell.name, collect: "last" },
    inputs: cell.inputs.map((input) => ({ ...input, shape: [-1, ...input.shape] })),
    outputs: cell.outputs,
  };
}
