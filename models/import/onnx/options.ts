import type { StatePair } from "./state-pairs.ts";

export interface OnnxImportOptions {
  /** Name of the model. @default the file's, in lower case */
  readonly name?: string;
  /**
   * Whether the graph computes one step or whole sequences. @default sequences where it has nodes LSTM, GRU or RNN and can
   * be cut there; one step where it has none, or states and an axis of steps that is fixed to 1
   */
  readonly form?: "step" | "sequence";
  /** States that go in and come out. @default inputs and outputs that are named alike, with the same type and shape */
  readonly states?: readonly StatePair[];
  /** Outputs to serve, in order. @default all but the states */
  readonly outputs?: readonly string[];
  /** Of a step graph: which axis holds the rows. @default the one named batch, n, b, or the first without a length */
  readonly batchAxes?: Readonly<Record<string, number>>;
  /** Shapes of one row at one step for tensors whose axes the file leaves open. */
  readonly shapes?: Readonly<Record<string, readonly number[]>>;
  /** Of a step graph: values of inputs that never change. */
  readonly constants?: Readonly<Record<string, number>>;
  /** Of a step graph: the end of its last value is put before each value of this input; `size` values are kept. */
  readonly context?: { readonly input: string; readonly size: number };
  /** `session` for input that arrives over time, where all outputs are given at every step. @default "session" for a step graph, else "chain" */
  readonly program?: "chain" | "session";
}
