import { describe, expect, it, onTestFinished } from "vitest";
import { OnnxKernel } from "../../kernels/onnx/onnx.ts";
import { ReferenceKernel } from "../../kernels/reference/reference.ts";
import type { CellSpec, Matrix } from "../../src/core/cell.ts";
import { checkCell } from "../../src/verify/cells.ts";
import { noise } from "../fixtures/models.ts";

const HIDDEN = 24;
const INPUT = 5;
const SYMBOLS = 6;
const ROWS = 8;
/** Float32 sums of some 30 terms below 8. */
const ROUNDING = 5e-6;

const matrix = (rows: number, columns: number, seed: number): Matrix => ({
  rows,
  columns,
  data: noise(rows * columns, seed),
});
const state = (name: string) => ({ name, shape: [HIDDEN] });
const weights = (gates: number) => ({
  hidden: HIDDEN,
  inputWeights: matrix(gates * HIDDEN, INPUT, 1),
  stateWeights: matrix(gates * HIDDEN, HIDDEN, 2),
  inputBias: noise(gates * HIDDEN, 3),
  stateBias: noise(gates * HIDDEN, 4),
});
const token = { name: "token", dtype: "int32", shape: [] } as const;
const embedding = matrix(SYMBOLS, INPUT, 5);
const quantize = "int8" as const;
const chain = { reads: 1, writes: true, outputs: [] } as const;

const lstm: CellSpec = {
  ...chain,
  name: "lstm",
  inputs: [token],
  states: [state("h"), state("c")],
  body: { kind: "lstm", weights: weights(4), embedding, quantize },
};
const gru: CellSpec = {
  ...chain,
  name: "gru",
  inputs: [token],
  states: [state("h")],
  body: { kind: "gru", weights: weights(3), embedding, quantize },
};
const overVectors: CellSpec = {
  ...lstm,
  name: "vectors",
  inputs: [{ name: "x", dtype: "float32", shape: [INPUT] }],
  body: { kind: "lstm", weights: weights(4), quantize },
};
const node: CellSpec = {
  name: "node",
  inputs: [],
  reads: 2,
  writes: true,
  states: [state("h"), state("c")],
  outputs: [],
  body: {
    kind: "tree-node",
    hidden: HIDDEN,
    weights: matrix(5 * HIDDEN, 2 * HIDDEN, 6),
    bias: noise(5 * HIDDEN, 7),
    quantize,
  },
};
const attending: CellSpec = {
  ...lstm,
  name: "attending",
  inputs: [
    token,
    { name: "memory", dtype: "float32", shape: [4, 3] },
    { name: "mask", dtype: "float32", shape: [4] },
  ],
  body: {
    kind: "lstm-attention",
    weights: weights(4),
    embedding,
    attention: {
      query: matrix(3, HIDDEN, 8),
      combine: matrix(7, 3 + HIDDEN, 9),
      combineBias: noise(7, 10),
      memorySteps: 4,
    },
    head: { weights: matrix(SYMBOLS, 7, 11), bias: noise(SYMBOLS, 12) },
    quantize,
  },
};

const sigmoid = (x: number) => 1 / (1 + Math.exp(-x));

/** What int8 means, in float64: values in steps of `most` / 127, weights in 64 steps up to the largest of their row. */
function quantizedProduct({ rows, columns, data }: Matrix, x: ArrayLike<number>, most = 1): number[] {
  const levels = Array.from(x, (value) => Math.round((value * 127) / most));
  return Array.from({ length: rows }, (_, row) => {
    const own = Array.from(data.subarray(row * columns, (row + 1) * columns));
    const step = Math.max(...own.map(Math.abs)) / 64;
    return own.reduce(
      (sum, weight, k) => sum + Math.round(weight / step) * step * ((levels[k]! * most) / 127),
      0,
    );
  });
}

function product({ rows, columns, data }: Matrix, x: ArrayLike<number>): number[] {
  return Array.from({ length: rows }, (_, row) => {
    let sum = 0;
    for (let k = 0; k < columns; k++) sum += data[row * columns + k]! * x[k]!;
    return sum;
  });
}

const row = (symbol: number) => embedding.data.subarray(symbol * INPUT, (symbol + 1) * INPUT);
const hidden = <T>(make: (i: number) => T) => Array.from({ length: HIDDEN }, (_, i) => make(i));

/** States of a row whose h is in [-1, 1] and whose c is not. */
function states(cell: CellSpec, at: number): Float32Array {
  const h = noise(HIDDEN, 20 + at).map((value) => 2.5 * value);
  return cell.states.length === 1
    ? h
    : Float32Array.from([...h, ...noise(HIDDEN, 40 + at).map((value) => 5 * value)]);
}

/** Inputs of very different sizes by row, the first all zeros. */
const vector = (at: number) => noise(INPUT, 60 + at).map((value) => value * (at === 0 ? 0 : 10 ** (at - 5)));
const isVector = ({ inputs }: CellSpec) => inputs[0]?.dtype === "float32";

function expected(cell: CellSpec, at: number, withTable: boolean): number[] {
  if (cell.body.kind === "tree-node") {
    const [left, right] = [states(cell, 2 * at), states(cell, 2 * at + 1)];
    const both = [...left.subarray(0, HIDDEN), ...right.subarray(0, HIDDEN)];
    const { weights: matrixOf, bias } = cell.body;
    const sums = quantizedProduct(matrixOf, both).map((value, i) => value + bias[i]!);
    const gate = (number: number, i: number) => sums[number * HIDDEN + i]!;
    const c = hidden(
      (i) =>
        sigmoid(gate(0, i)) * Math.tanh(gate(4, i)) +
        sigmoid(gate(1, i)) * left[HIDDEN + i]! +
        sigmoid(gate(2, i)) * right[HIDDEN + i]!,
    );
    return [...c.map((value, i) => sigmoid(gate(3, i)) * Math.tanh(value)), ...c];
  }
  if (cell.body.kind !== "lstm" && cell.body.kind !== "gru") throw new Error(cell.body.kind);
  const { inputWeights, stateWeights, inputBias, stateBias } = cell.body.weights;
  const before = states(cell, at);
  const x = isVector(cell) ? vector(at) : row(at % SYMBOLS);
  const most = Math.max(...Array.from(x, Math.abs)) || 1;
  const fromInput = (withTable ? product(inputWeights, x) : quantizedProduct(inputWeights, x, most)).map(
    (value, i) => value + inputBias[i]!,
  );
  const fromState = quantizedProduct(stateWeights, before).map((value, i) => value + stateBias[i]!);
  const sum = (gate: number, i: number) => fromInput[gate * HIDDEN + i]! + fromState[gate * HIDDEN + i]!;
  if (cell.body.kind === "gru") {
    return hidden((i) => {
      const update = sigmoid(sum(1, i));
      const fresh = Math.tanh(fromInput[2 * HIDDEN + i]! + sigmoid(sum(0, i)) * fromState[2 * HIDDEN + i]!);
      return (1 - update) * fresh + update * before[i]!;
    });
  }
  const c = hidden(
    (i) => sigmoid(sum(1, i)) * before[HIDDEN + i]! + sigmoid(sum(0, i)) * Math.tanh(sum(2, i)),
  );
  return [...c.map((value, i) => sigmoid(sum(3, i)) * Math.tanh(value)), ...c];
}

/** One step of `ROWS` rows from `states`, on a kernel of this one cell. */
async function step(cell: CellSpec, options = {}): Promise<number[][]> {
  const kernel = await OnnxKernel.load([cell], { maxBatch: 32, ...options });
  onTestFinished(() => kernel.dispose());
  const count = ROWS * cell.reads;
  kernel.reserve(count);
  for (let at = 0; at < count; at++) kernel.write(at, states(cell, at));
  const staged = kernel.stage(0, ROWS, 1)[0];
  for (let at = 0; staged && at < ROWS; at++) {
    if (isVector(cell)) staged.set(vector(at), at * INPUT);
    else staged[at] = at % SYMBOLS;
  }
  const slots = Int32Array.from({ length: count }, (_, slot) => slot);
  await kernel.run({ cell: 0, rows: ROWS, steps: 1, reads: slots, writes: slots });
  return Array.from({ length: ROWS }, (_, at) => [...kernel.read(at)]);
}

describe("a cell in int8", () => {
  it.each([
    ["an LSTM", lstm, {}],
    ["an LSTM without a token table", lstm, { tableBytes: 0 }],
    ["a GRU", gru, {}],
    ["an LSTM over vectors", overVectors, {}],
    ["a tree-LSTM node", node, {}],
  ])("computes what loops in float64 over the same steps compute: %s", async (_, cell, options) => {
    for (const [at, got] of (await step(cell, options)).entries()) {
      const wanted = expected(cell, at, !isVector(cell) && !("tableBytes" in options));
      for (const [i, value] of got.entries()) {
        expect(Math.abs(value - wanted[i]!)).toBeLessThan(ROUNDING * Math.max(1, Math.abs(wanted[i]!)));
      }
    }
  });

  it("differs from float32 by no more than half a step of each state and each weight explains", async () => {
    const got = await step(lstm);
    const reference = new ReferenceKernel([lstm]);
    reference.reserve(ROWS);
    const { stateWeights } = weights(4);
    /** Most that a gate's sum is off. */
    const off = Array.from({ length: 4 * HIDDEN }, (_, gate) => {
      const own = [...stateWeights.data.subarray(gate * HIDDEN, (gate + 1) * HIDDEN)].map(Math.abs);
      const weightOff = Math.max(...own) / 128;
      return own.reduce((sum, weight) => sum + (weight + weightOff) / 254 + weightOff, 0);
    });
    let largest = 0;
    for (let at = 0; at < ROWS; at++) {
      const before = states(lstm, at);
      reference.write(at, before);
      reference.stage(0)[0]![0] = at % SYMBOLS;
      const slot = Int32Array.of(at);
      reference.run({ cell: 0, rows: 1, steps: 1, reads: slot, writes: slot });
      const full = reference.read(at);
      for (let i = 0; i < HIDDEN; i++) {
        // The slope of a sigmoid is at most 1/4, that of tanh 1.
        const [input, forget, fresh, output] = [0, 1, 2, 3].map((gate) => off[gate * HIDDEN + i]!);
        const c = input! / 4 + (forget! / 4) * Math.abs(before[HIDDEN + i]!) + fresh!;
        const [h, cells] = [at, at].map((one, part) =>
          Math.abs(got[one]![part * HIDDEN + i]! - full[part * HIDDEN + i]!),
        );
        expect(cells).toBeLessThan(c + ROUNDING);
        expect(h).toBeLessThan(c + output! / 4 + ROUNDING);
        largest = Math.max(largest, h!);
      }
    }
    expect(largest).toBeGreaterThan(1e-5);
  });

  it.each([lstm, gru, node, overVectors, attending].map((cell) => [cell.name, cell] as const))(
    "gives a row the same bits alone and in any company: %s",
    async (_, cell) => {
      const kernel = await OnnxKernel.load([cell], { maxBatch: 32 });
      onTestFinished(() => kernel.dispose());
      expect(kernel.rowsAreIndependent).toBe(true);
      let seed = 1;
      const random = () => {
        seed = (seed * 16_807) % 2_147_483_647;
        return seed / 2_147_483_647;
      };
      const findings = await checkCell(kernel, 0, random);
      expect(findings.length).toBeGreaterThanOrEqual(4);
      expect(findings.filter(({ difference }) => difference !== 0)).toEqual([]);
    },
  );
});
