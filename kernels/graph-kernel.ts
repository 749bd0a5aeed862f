import type { CellSpec } from "../src/core/cell.ts";
import type { Tensor } from "../src/core/tensor.ts";

/** What runs a whole graph on padded batches. */
export interface GraphKernel {
  readonly cell: CellSpec;
  /** Bytes of weights that it holds. */
  readonly bytes: number;
  /**
   * The outputs for inputs in the order of `cell`, all with a leading axis of rows. Valid until the next run. A promise where
   * the device is asynchronous.
   */
  run(inputs: readonly Tensor[]): readonly Tensor[] | Promise<readonly Tensor[]>;
  dispose(): void | Promise<void>;
}
