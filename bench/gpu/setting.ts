import type { DeviceChoice } from "../../kernels/native/load.ts";
import type { CellSpec } from "../../src/core/cell.ts";

/** The same load for both arms. */
export interface Setting {
  readonly choice: DeviceChoice;
  readonly cell: CellSpec;
  /** Rows that run at a time. */
  readonly rows: number;
  /** Tokens of each request, taken in turn. */
  readonly requests: readonly Int32Array[];
  /** Steps of a submission, and submissions in flight. */
  readonly k: number;
  readonly depth: number;
}

export interface Measured {
  readonly cellsPerSecond: number;
  /** Wall time of one step of all rows. */
  readonly stepUs: number;
  /** Rows of a step over the rows there may be. */
  readonly occupancy: number;
  /** Of all threads of this process. */
  readonly cpuNsPerCell: number;
  /** Of wall time, what JavaScript took outside the device's calls; of the present engine not measured. */
  readonly jsShare?: number;
  readonly nsPerJoin?: number;
  /** Of first values of the outputs: the work was done. */
  readonly checksum: number;
}
