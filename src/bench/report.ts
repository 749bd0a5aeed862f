import type { Machine } from "../core/profile.ts";

/** What `cellbatch bench` measured, as it is in `report.json`. */
export interface Report {
  readonly format: 1;
  readonly kind: "cellbatch.bench";
  readonly machine: Machine;
  readonly settings: ReportSettings;
  readonly startedAt: string;
  readonly seconds: number;
  /** Whether it was ended before all was measured. */
  readonly interrupted: boolean;
  readonly workloads: readonly WorkloadReport[];
}

export interface ReportSettings {
  readonly rounds: number;
  /** Of each measurement; a third more before a peak and a quarter more before latencies are the warm-up, which is not counted. */
  readonly seconds: number;
  /** Shares of the highest peak at which latencies were measured. */
  readonly loads: readonly number[];
  readonly arrivals: string;
}

export interface WorkloadReport {
  readonly name: string;
  readonly what: string;
  readonly unit: string;
  readonly notes: readonly string[];
  readonly arms: readonly ArmReport[];
}

export interface ArmReport {
  readonly name: string;
  readonly role: "ours" | "peer" | "limit";
  /** The setting that was chosen, in words; and what was tried to choose it. */
  readonly setting: string;
  readonly tried: readonly { readonly setting: string; readonly by: string; readonly value: number }[];
  /** Units per second where a backlog does not end; cells per second of the limit. */
  readonly peak?: Measured;
  /** Cells per second at the peak. */
  readonly cellsPerSecond?: Measured;
  /** Rows of a task at the peak, on average. */
  readonly rows?: number;
  readonly points: readonly LoadPoint[];
  /** Share of tasks, or of looks at the last task, by rows. */
  readonly batches: readonly (readonly [rows: number, share: number])[];
}

/** The median of the rounds, and all of them in their order. */
export interface Measured {
  readonly median: number;
  readonly raw: readonly number[];
}

/** What was measured of one arm at one rate. */
export interface LoadPoint {
  readonly load: number;
  readonly rate: number;
  readonly answersPerSecond: Measured;
  readonly p50: Measured;
  readonly p90: Measured;
  readonly p99: Measured;
  /** Mean milliseconds of a request: waiting for its first step, from there to its last, and the rest of its latency. */
  readonly split: { readonly queueMs: number; readonly computeMs: number; readonly overheadMs: number };
  /** Latencies in milliseconds at `CURVE_SHARES`, each the median of the rounds. */
  readonly curve: readonly number[];
  readonly batches: readonly (readonly [rows: number, share: number])[];
  /** Requests that were not answered, over those that were sent. */
  readonly failedShare: number;
  readonly warnings: readonly string[];
}
