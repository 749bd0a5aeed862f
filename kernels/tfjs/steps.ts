import type { Tensor, Tensor1D, Tensor2D, Tensor3D } from "@tensorflow/tfjs-core";
import type { AttentionWeights, CellBody, CellSpec, Head, Matrix } from "../../src/core/cell.ts";
import { Fault } from "../../src/core/faults.ts";
import { foldedBias, inputTable } from "../input-table.ts";
import type { Tfjs } from "./namespace.ts";

/**
 * One step of a cell on a batch. `inputs` as the cell's; `states` by slot that a row reads, then by state, each `[rows, size]`.
 * Gives the next states and the outputs, as the cell's.
 */
export type Step = (
  inputs: readonly Tensor[],
  states: readonly (readonly Tensor2D[])[],
) => { readonly next: readonly Tensor2D[]; readonly outputs: readonly Tensor[] };

/**
 * Makes the step of a cell; its weights are put on the device through `weights`. Throws INVALID_REQUEST for a cell that
 * tfjs-core cannot compute.
 */
export function stepOf(weights: DeviceWeights, cell: CellSpec): Step {
  const { tf } = weights;
  const { body } = cell;
  const named = (values: Readonly<Record<string, Tensor>>) =>
    cell.outputs.map(({ name }) => values[name] ?? missing(cell, name));
  switch (body.kind) {
    case "lstm":
    case "lstm-attention": {
      const fromInput = inputOf(weights, cell, body.weights.inputWeights, foldedBias("lstm", body.weights));
      const fromState = weights.transposed(body.weights.stateWeights);
      const attend = body.kind === "lstm-attention" ? attentionOf(weights, body.attention) : undefined;
      const head = headOf(weights, body.head);
      return ([x, memory, mask], [state]) => {
        const [h, c] = state!;
        const gates = tf.add(fromInput(x!), tf.matMul(h!, fromState));
        const [i, f, g, o] = tf.split(gates, 4, 1) as [Tensor2D, Tensor2D, Tensor2D, Tensor2D];
        const kept: Tensor2D = tf.mul(tf.sigmoid(f), c!);
        const nextC: Tensor2D = tf.add(kept, tf.mul(tf.sigmoid(i), tf.tanh(g)));
        const nextH: Tensor2D = tf.mul(tf.sigmoid(o), tf.tanh(nextC));
        const seen = attend ? attend(nextH, memory as Tensor3D, mask as Tensor2D) : nextH;
        return { next: [nextH, nextC], outputs: named({ h: nextH, c: nextC, ...head(seen) }) };
      };
    }
    case "gru": {
      const { inputWeights, stateWeights, stateBias } = body.weights;
      const fromInput = inputOf(weights, cell, inputWeights, foldedBias("gru", body.weights));
      const fromState = dense(weights, stateWeights, lastThird(stateBias));
      const head = headOf(weights, body.head);
      return ([x], [state]) => {
        const h = state![0]!;
        const [xr, xz, xn] = tf.split(fromInput(x!), 3, 1) as [Tensor2D, Tensor2D, Tensor2D];
        const [hr, hz, hn] = tf.split(fromState(h), 3, 1) as [Tensor2D, Tensor2D, Tensor2D];
        const reset = tf.sigmoid(tf.add(xr, hr));
        const update = tf.sigmoid(tf.add(xz, hz));
        const fresh = tf.tanh(tf.add(xn, tf.mul(reset, hn)));
        const next: Tensor2D = tf.add(fresh, tf.mul(update, tf.sub(h, fresh)));
        return { next: [next], outputs: named({ h: next, ...head(next) }) };
      };
    }
    case "tree-leaf": {
      const fromInput = inputOf(weights, cell, body.weights, body.bias);
      return ([x]) => {
        const [i, o, u] = tf.split(fromInput(x!), 3, 1) as [Tensor2D, Tensor2D, Tensor2D];
        const c: Tensor2D = tf.mul(tf.sigmoid(i), tf.tanh(u));
        const h: Tensor2D = tf.mul(tf.sigmoid(o), tf.tanh(c));
        return { next: [h, c], outputs: named({ h, c }) };
      };
    }
    case "tree-node": {
      const gatesOf = nodeGates(weights, cell, body);
      return ([x], children) => {
        const seen = children.map((states) => states[0]!);
        const gates: Tensor2D[] = tf.split(gatesOf(tf.concat(seen, 1), x), 3 + seen.length, 1);
        const [o, u] = gates.slice(1 + seen.length) as [Tensor2D, Tensor2D];
        const kept = children.map(
          (states, child): Tensor2D => tf.mul(tf.sigmoid(gates[1 + child]!), states[1]!),
        );
        const c: Tensor2D = tf.add(tf.mul(tf.sigmoid(gates[0]!), tf.tanh(u)), tf.addN(kept));
        const h: Tensor2D = tf.mul(tf.sigmoid(o), tf.tanh(c));
        return { next: [h, c], outputs: named({ h, c }) };
      };
    }
    case "tree-child": {
      const gatesOf = nodeGates(weights, cell, body);
      return ([x], [sum, child]) => {
        const [hSum, cSum] = sum as [Tensor2D, Tensor2D];
        const [hChild, cChild] = child as [Tensor2D, Tensor2D];
        const h: Tensor2D = tf.add(hSum, hChild);
        const c: Tensor2D = tf.add(cSum, tf.mul(tf.sigmoid(gatesOf(hChild, x)), cChild));
        return { next: [h, c], outputs: named({ h, c }) };
      };
    }
    case "tree-sum": {
      const gatesOf = nodeGates(weights, cell, body);
      return ([x], [sum]) => {
        const [hSum, cSum] = sum as [Tensor2D, Tensor2D];
        const [i, o, u] = tf.split(gatesOf(hSum, x), 3, 1) as [Tensor2D, Tensor2D, Tensor2D];
        const c: Tensor2D = tf.add(tf.mul(tf.sigmoid(i), tf.tanh(u)), cSum);
        const h: Tensor2D = tf.mul(tf.sigmoid(o), tf.tanh(c));
        return { next: [h, c], outputs: named({ h, c }) };
      };
    }
    case "linear": {
      const head = headOf(weights, body.head);
      return (_, [state]) => ({ next: [], outputs: named(head(state![0]!)) });
    }
    default:
      throw new Fault(
        "INVALID_REQUEST",
        `cell '${cell.name}' is of kind '${body.kind}', which the tfjs kernel cannot compute: serve it with the onnx kernel`,
      );
  }
}

type NodeBody = Extract<CellBody, { kind: "tree-node" | "tree-child" | "tree-sum" }>;

/** Matrices and vectors on the device, until they are disposed together. */
export class DeviceWeights {
  readonly tf: Tfjs;
  readonly #held: Tensor[] = [];

  constructor(tf: Tfjs) {
    this.tf = tf;
  }

  matrix({ rows, columns, data }: Matrix): Tensor2D {
    return this.#hold(this.tf.tensor2d(data, [rows, columns]));
  }

  transposed({ rows, columns, data }: Matrix): Tensor2D {
    const { tf } = this;
    return this.#hold(tf.tidy(() => tf.transpose(tf.tensor2d(data, [rows, columns]))));
  }

  vector(values: ArrayLike<number>): Tensor1D {
    return this.#hold(this.tf.tensor1d(Float32Array.from(values)));
  }

  /** What all of them hold, as float32. */
  get bytes(): number {
    return this.#held.reduce((sum, { size }) => sum + 4 * size, 0);
  }

  dispose(): void {
    for (const tensor of this.#held) tensor.dispose();
    this.#held.length = 0;
  }

  #hold<T extends Tensor>(tensor: T): T {
    this.#held.push(tensor);
    return tensor;
  }
}

/** What the input adds to the gates: a row of the pre-multiplied table for a token, else a product. */
function inputOf(
  device: DeviceWeights,
  cell: CellSpec,
  weights: Matrix,
  bias: ArrayLike<number>,
): (x: Tensor) => Tensor2D {
  const { body } = cell;
  if (!("embedding" in body) || !body.embedding) {
    const product = dense(device, weights, bias);
    return (x) => product(x as Tensor2D);
  }
  const table = device.matrix(inputTable(cell));
  return (token) => device.tf.gather(table, token as Tensor1D);
}

/** Sums of a tree node's gates: from the h of children, and from the node's input where it has one. */
function nodeGates(
  device: DeviceWeights,
  cell: CellSpec,
  { weights, bias, inputWeights }: NodeBody,
): (seen: Tensor2D, x: Tensor | undefined) => Tensor2D {
  if (!inputWeights) return dense(device, weights, bias);
  const fromInput = inputOf(device, cell, inputWeights, bias);
  const fromChildren = device.transposed(weights);
  return (seen, x) => device.tf.add(device.tf.matMul(seen, fromChildren), fromInput(x!));
}

/** What stands for h before the head; see `AttentionWeights`. */
function attentionOf(
  device: DeviceWeights,
  { query, combine, combineBias }: AttentionWeights,
): (h: Tensor2D, memory: Tensor3D, mask: Tensor2D) => Tensor2D {
  const { tf } = device;
  const asking = device.transposed(query);
  const combined = dense(device, combine, combineBias);
  return (h, memory, mask) => {
    const column = tf.expandDims(tf.matMul(h, asking), 2) as Tensor3D;
    const scores = tf.squeeze(tf.matMul(memory, column), [2]);
    // So far below the others that the share of a place without a step is 0.
    const away = tf.mul(tf.sub(mask, 1), 1e9);
    const row = tf.expandDims(tf.softmax(tf.add(scores, away) as Tensor2D), 1) as Tensor3D;
    const context = tf.squeeze(tf.matMul(row, memory), [1]) as Tensor2D;
    return tf.tanh(combined(tf.concat([context, h], 1)));
  };
}

function headOf(device: DeviceWeights, head: Head | undefined): (h: Tensor2D) => Record<string, Tensor> {
  if (!head) return () => ({});
  const logitsOf = dense(device, head.weights, head.bias);
  return (h) => {
    const logits = logitsOf(h);
    return { logits, token: device.tf.argMax(logits, 1) };
  };
}

function dense(device: DeviceWeights, weights: Matrix, bias: ArrayLike<number>): (x: Tensor2D) => Tensor2D {
  const { tf } = device;
  const b = device.transposed(weights);
  const added = device.vector(bias);
  return (a) => tf.add(tf.matMul(a, b), added);
}

function lastThird(bias: Float32Array): Float32Array {
  return bias.map((value, at) => (3 * at < 2 * bias.length ? 0 : value));
}

function missing(cell: CellSpec, name: string): never {
  throw new Fault("INVALID_REQUEST", `cell '${cell.name}' has no output '${name}' to give`);
}
