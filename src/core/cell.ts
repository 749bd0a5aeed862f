import type { TensorSpec } from "./tensor.ts";

/** A row-major matrix of float32 weights. */
export interface Matrix {
  readonly rows: number;
  readonly columns: number;
  readonly data: Float32Array;
}

/**
 * Weights of an LSTM or GRU cell, named and oriented as PyTorch's: `inputWeights` is `weight_ih [G*hidden, input]`,
 * `stateWeights` is `weight_hh [G*hidden, hidden]`; gates i, f, g, o (LSTM, G=4) or r, z, n (GRU, G=3, reset after).
 */
export interface RecurrentWeights {
  readonly hidden: number;
  readonly inputWeights: Matrix;
  readonly stateWeights: Matrix;
  /** Length G*hidden; zeros when the model has none. */
  readonly inputBias: Float32Array;
  /** Length G*hidden; zeros when the model has none. */
  readonly stateBias: Float32Array;
}

/**
 * Arithmetic of fewer bits for a cell's products. `int8`: states, which are from -1 to 1 in these cells, in steps of 1/127; input
 * vectors in 127 steps up to each row's largest; weights in 64 steps up to the largest of each gate's value. Sums are exact, all
 * else is float32, heads and attention too. The onnx kernel knows it, and the native one leaves such cells to it; others
 * compute in full.
 */
export type Quantization = "int8";

/**
 * Luong's attention with the general score: places of the memory are weighed by `softmax(memory (query h))`, and
 * `tanh(combine [context; h] + combineBias)` stands for `h` before the head. `query` is `[memory, hidden]`, `combine`
 * `[any, memory + hidden]`.
 */
export interface AttentionWeights {
  readonly query: Matrix;
  readonly combine: Matrix;
  readonly combineBias: Float32Array;
  /** Most steps of the memory. */
  readonly memorySteps: number;
}

/** A linear layer on `h` inside a cell; gives the outputs `logits [width]` and `token` (their argmax). */
export interface Head {
  readonly weights: Matrix;
  readonly bias: Float32Array;
}

/**
 * What a cell computes.
 *
 * - `lstm`, `gru`: input `token` (with `embedding`) or `x`; states `h` (and `c`).
 * - `lstm-attention`: inputs `token`, `memory [memorySteps, size]` and `mask [memorySteps]`, 1 where there is a step and 0
 *   behind; states `h` and `c`; see `AttentionWeights`.
 * - `tree-leaf`: a leaf of a tree-LSTM (Tai, Socher and Manning 2015) without forget gates: gates i, o, u from the input.
 * - `tree-node`: N-ary tree-LSTM, N being the slots it reads: gates i, f_1 ... f_N, o, u from `[h_1; ...; h_N]`, and from
 *   the node's input where it has one. An absent child is zero.
 * - `tree-child`, `tree-sum`: child-sum tree-LSTM. The first adds a child to a sum, which it reads first:
 *   `h_sum + h_child` and `c_sum + sigmoid(f) * c_child`, gate f from `h_child` and the input of the sum's node. The second
 *   makes the node of the sum: gates i, o, u from `h_sum` and the node's input, `c = sigmoid(i) * tanh(u) + c_sum`.
 * - `linear`: `logits` and `token` from state `h`, which it leaves as it is.
 * - `graph`: an ONNX step graph; see `StepGraph`.
 * - `none`: computes nothing; only the simulated kernel takes it.
 */
export type CellBody =
  | {
      readonly kind: "lstm" | "gru";
      readonly weights: RecurrentWeights;
      readonly embedding?: Matrix;
      readonly head?: Head;
      readonly quantize?: Quantization;
    }
  | {
      readonly kind: "lstm-attention";
      readonly weights: RecurrentWeights;
      readonly attention: AttentionWeights;
      readonly embedding: Matrix;
      readonly head: Head;
      readonly quantize?: Quantization;
    }
  | {
      readonly kind: "tree-leaf";
      readonly hidden: number;
      readonly weights: Matrix;
      readonly bias: Float32Array;
      readonly embedding?: Matrix;
    }
  | {
      readonly kind: "tree-node" | "tree-child" | "tree-sum";
      readonly hidden: number;
      /** Of the h that the gates see, `[G*hidden, N*hidden]`. */
      readonly weights: Matrix;
      readonly bias: Float32Array;
      /** Of the node's input, `[G*hidden, input]`; absent where nodes have none. */
      readonly inputWeights?: Matrix;
      readonly embedding?: Matrix;
      /** Of a `tree-node`: the sums that the others see lie beyond [-1, 1]. */
      readonly quantize?: Quantization;
    }
  | { readonly kind: "linear"; readonly head: Head }
  | { readonly kind: "graph"; readonly graph: StepGraph }
  | { readonly kind: "none" };

/** An ONNX graph that computes one step, and how its tensors map to a cell. */
export interface StepGraph {
  readonly onnx: Uint8Array;
  /** State inputs and the outputs that become the next ones; `batchAxis` of both, default 0. */
  readonly states: readonly {
    readonly input: string;
    readonly output: string;
    readonly batchAxis?: number;
  }[];
  /** Scalar inputs that never change, such as a sampling rate. */
  readonly constants?: Readonly<Record<string, number>>;
  /**
   * Input that wants the end of its predecessor in front of it: the last `size` values of every step are kept as a
   * state and put before the next step's input (Silero VAD: 64 samples of context before 512 new ones).
   */
  readonly context?: { readonly input: string; readonly size: number };
}

export interface StateSpec {
  readonly name: string;
  /** Shape of one row's state, without a batch axis. Starts at zero. */
  readonly shape: readonly number[];
}

/** A function with weights that is called once per step on a batch of rows. Shapes are of one row. */
export interface CellSpec {
  /** Unique within its model. */
  readonly name: string;
  readonly inputs: readonly TensorSpec[];
  /** Slots that one row reads: 0 (leaf), 1 (chain) or one per child (tree). */
  readonly reads: number;
  /** Whether a row writes its states to a slot. */
  readonly writes: boolean;
  readonly states: readonly StateSpec[];
  readonly outputs: readonly TensorSpec[];
  readonly body: CellBody;
}
