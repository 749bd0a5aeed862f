import type { Tensor } from "../core/tensor.ts";

/** A request that takes as many steps as its size is. */
export interface SizedRequest {
  readonly inputs: Readonly<Record<string, Tensor>>;
  /** Most that it generates; of others without meaning. */
  readonly maxSteps: number;
}

/** What is measured: requests of these sizes, ascending, in rounds. */
export interface SizedRequests {
  /** The same for the same number and size. */
  readonly request: (number: number, size: number) => SizedRequest;
  readonly sizes: readonly number[];
  /** Is told of every round. */
  readonly round: () => void;
}
