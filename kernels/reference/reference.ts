import type { CellSpec, Matrix } from "../../src/core/cell.ts";
import { sizeOf } from "../../src/core/tensor.ts";
import { type Kernel, type KernelTask, stateLayout, type Values } from "../kernel.ts";

/** Plain loops in float64: the oracle of the other kernels. Slow, and meant to be read. */
export class ReferenceKernel implements Kernel {
  readonly name = "reference";
  readonly cells: readonly CellSpec[];
  readonly tolerance = 1e-6;
  readonly rowsAreIndependent = true;
  readonly maxBatch: number;
  readonly #stepSizes: readonly number[];
  /** By slot, then by state. */
  readonly #slots: Record<string, Float64Array>[] = [];
  readonly #inputs: Values[][];
  readonly #outputs: Values[][];

  constructor(cells: readonly CellSpec[], { maxBatch = 64, stepSizes = [1] as readonly number[] } = {}) {
    this.cells = cells;
    this.maxBatch = maxBatch;
    this.#stepSizes = stepSizes;
    const room = (specs: CellSpec["inputs"]) =>
      specs.map(({ dtype, shape }) =>
        dtype === "int32"
          ? new Int32Array(maxBatch * sizeOf(shape))
          : new Float32Array(maxBatch * sizeOf(shape)),
      );
    this.#inputs = cells.map(({ inputs }) => room(inputs));
    this.#outputs = cells.map(({ outputs }) => room(outputs));
  }

  get bytes(): number {
    const buffers = [
      ...this.#inputs,
      ...this.#outputs,
      ...this.#slots.map((states) => Object.values(states)),
    ].flat();
    return buffers.reduce((sum, { byteLength }) => sum + byteLength, 0);
  }

  reserve(count: number): void {
    while (this.#slots.length < count) {
      this.#slots.push({});
      this.clear(this.#slots.length - 1);
    }
  }

  stepSizes(): readonly number[] {
    return this.#stepSizes;
  }

  stage(cell: number): readonly Values[] {
    return this.#inputs[cell]!;
  }

  run({ cell, rows, steps, reads, writes }: KernelTask): void {
    const spec = this.cells[cell]!;
    for (let step = 0; step < steps; step++) {
      const results = Array.from({ length: rows }, (_, row) => {
        const from = Array.from({ length: spec.reads }, (_, read) => {
          const slot = step === 0 || !spec.writes ? reads[row * spec.reads + read]! : writes[row]!;
          return this.#slots[slot]!;
        });
        return compute(spec, from, (input) => this.#inputOf(cell, input, step * rows + row));
      });
      results.forEach((result, row) => {
        spec.outputs.forEach(({ name, shape }, output) => {
          this.#outputs[cell]![output]!.set(result[name]!, (step * rows + row) * sizeOf(shape));
        });
        if (!spec.writes) return;
        for (const { name } of spec.states)
          this.#slots[writes[row]!]![name] = Float64Array.from(result[name]!);
      });
    }
  }

  outputs(cell: number): readonly Values[] {
    return this.#outputs[cell]!;
  }

  clear(slot: number): void {
    for (const { name, size } of stateLayout(this.cells)) this.#slots[slot]![name] = new Float64Array(size);
  }

  read(slot: number): Float32Array {
    return Float32Array.from(stateLayout(this.cells).flatMap(({ name }) => [...this.#slots[slot]![name]!]));
  }

  write(slot: number, states: Float32Array): void {
    let at = 0;
    for (const { name, size } of stateLayout(this.cells)) {
      this.#slots[slot]![name] = Float64Array.from(states.subarray(at, at + size));
      at += size;
    }
  }

  dispose(): void {}

  #inputOf(cell: number, input: number, at: number): number[] {
    const size = sizeOf(this.cells[cell]!.inputs[input]!.shape);
    return [...this.#inputs[cell]![input]!.subarray(at * size, (at + 1) * size)];
  }
}

type Row = Record<string, ArrayLike<number>>;

/** One step of one row: its new states and its outputs by name. */
function compute(spec: CellSpec, from: readonly Row[], input: (index: number) => number[]): Row {
  const { body } = spec;
  const vector = () => {
    const values = input(0);
    if (!("embedding" in body) || !body.embedding) return values;
    const { columns, data } = body.embedding;
    return [...data.subarray(values[0]! * columns, (values[0]! + 1) * columns)];
  };
  switch (body.kind) {
    case "lstm": {
      const { hidden, inputWeights, stateWeights, inputBias, stateBias } = body.weights;
      const [{ h, c }] = from as [{ h: ArrayLike<number>; c: ArrayLike<number> }];
      const gates = add(dense(inputWeights, inputBias, vector()), dense(stateWeights, stateBias, h));
      const next = lstm(gates, hidden, [c], { input: 0, forget: [1], cell: 2, output: 3 });
      return { ...next, ...headOf(body.head, next.h) };
    }
    case "lstm-attention": {
      const { hidden, inputWeights, stateWeights, inputBias, stateBias } = body.weights;
      const { query, combine, combineBias } = body.attention;
      const [{ h, c }] = from as [{ h: ArrayLike<number>; c: ArrayLike<number> }];
      const gates = add(dense(inputWeights, inputBias, vector()), dense(stateWeights, stateBias, h));
      const next = lstm(gates, hidden, [c], { input: 0, forget: [1], cell: 2, output: 3 });
      const context = attend(dense(query, new Float32Array(query.rows), next.h), input(1), input(2));
      const attended = dense(combine, combineBias, [...context, ...next.h]).map(Math.tanh);
      return { ...next, ...headOf(body.head, attended) };
    }
    case "gru": {
      const { hidden, inputWeights, stateWeights, inputBias, stateBias } = body.weights;
      const before = from[0]!.h!;
      const fromInput = dense(inputWeights, inputBias, vector());
      const fromState = dense(stateWeights, stateBias, before);
      const h = Array.from({ length: hidden }, (_, i) => {
        const reset = sigmoid(fromInput[i]! + fromState[i]!);
        const update = sigmoid(fromInput[hidden + i]! + fromState[hidden + i]!);
        const fresh = Math.tanh(fromInput[2 * hidden + i]! + reset * fromState[2 * hidden + i]!);
        return (1 - update) * fresh + update * before[i]!;
      });
      return { h, ...headOf(body.head, h) };
    }
    case "tree-leaf":
      return lstm(dense(body.weights, body.bias, vector()), body.hidden, [], {
        input: 0,
        forget: [],
        output: 1,
        cell: 2,
      });
    case "tree-node": {
      const gates = dense(
        body.weights,
        body.bias,
        from.flatMap(({ h }) => Array.from(h!)),
      );
      const order = {
        input: 0,
        forget: from.map((_, child) => 1 + child),
        output: 1 + from.length,
        cell: 2 + from.length,
      };
      return lstm(
        add(gates, inputGates(body, vector)),
        body.hidden,
        from.map(({ c }) => c!),
        order,
      );
    }
    case "tree-child": {
      const [sum, child] = from as [Row, Row];
      const gates = add(dense(body.weights, body.bias, child.h!), inputGates(body, vector));
      return {
        h: Array.from(sum.h!, (value, i) => value + child.h![i]!),
        c: Array.from(sum.c!, (value, i) => value + sigmoid(gates[i]!) * child.c![i]!),
      };
    }
    case "tree-sum": {
      const [sum] = from as [Row];
      const gates = add(dense(body.weights, body.bias, sum.h!), inputGates(body, vector));
      const order = { input: 0, forget: [], output: 1, cell: 2 };
      return lstm(gates, body.hidden, [], order, sum.c!);
    }
    case "linear":
      return headOf(body.head, from[0]!.h!);
    default:
      throw new Error(`the reference kernel cannot compute cell '${spec.name}' of kind '${body.kind}'`);
  }
}

interface Gates {
  readonly input: number;
  readonly forget: readonly number[];
  readonly output: number;
  readonly cell: number;
}

/** What a node's input adds to its gates. */
function inputGates(
  { inputWeights, bias }: { readonly inputWeights?: Matrix; readonly bias: Float32Array },
  vector: () => number[],
): number[] {
  return inputWeights
    ? dense(inputWeights, new Float32Array(inputWeights.rows), vector())
    : Array(bias.length).fill(0);
}

/** `base` is what c begins with; nothing by default. */
function lstm(
  gates: readonly number[],
  hidden: number,
  kept: readonly ArrayLike<number>[],
  order: Gates,
  base: ArrayLike<number> = new Float64Array(hidden),
) {
  const at = (gate: number, i: number) => gates[gate * hidden + i]!;
  const c = Array.from({ length: hidden }, (_, i) =>
    kept.reduce(
      (sum, one, k) => sum + sigmoid(at(order.forget[k]!, i)) * one[i]!,
      base[i]! + sigmoid(at(order.input, i)) * Math.tanh(at(order.cell, i)),
    ),
  );
  return { h: c.map((value, i) => sigmoid(at(order.output, i)) * Math.tanh(value)), c };
}

/** The mean of the memory's places where the mask is 1, weighed by the softmax of their products with what is asked. */
function attend(asked: readonly number[], memory: readonly number[], mask: readonly number[]): number[] {
  const size = asked.length;
  const scores = mask.map((present, at) =>
    present ? asked.reduce((sum, value, i) => sum + value * memory[at * size + i]!, 0) : -Infinity,
  );
  const most = Math.max(...scores);
  const shares = scores.map((score) => Math.exp(score - most));
  const total = shares.reduce((a, b) => a + b, 0);
  return asked.map(
    (_, i) => shares.reduce((sum, share, at) => sum + share * memory[at * size + i]!, 0) / total,
  );
}

function headOf(
  head: { readonly weights: Matrix; readonly bias: Float32Array } | undefined,
  h: ArrayLike<number>,
): Row {
  if (!head) return {};
  const logits = dense(head.weights, head.bias, h);
  return { logits, token: [logits.indexOf(Math.max(...logits))] };
}

function dense({ rows, columns, data }: Matrix, bias: Float32Array, x: ArrayLike<number>): number[] {
  return Array.from({ length: rows }, (_, row) => {
    let sum = bias[row]!;
    for (let column = 0; column < columns; column++) sum += data[row * columns + column]! * x[column]!;
    return sum;
  });
}

function add(a: readonly number[], b: readonly number[]): number[] {
  return a.map((value, i) => value + b[i]!);
}

function sigmoid(x: number): number {
  return 1 / (1 + Math.exp(-x));
}
