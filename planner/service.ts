import type { ProfileTable } from "./profile.ts";

/** How long one batch takes. */
export interface Service {
  /** Milliseconds of a batch of `rows` requests, padded to `size`, in a function of `memoryMb`. */
  ms(rows: number, size: number, memoryMb: number): number;
  /** Most rows of a batch. */
  readonly maxRows: number;
  /**
   * Where requests of a batch end one by one, as in the cellular lane: when each does, by the order of `sizes`, in milliseconds
   * from the start of the batch. The batch takes as long as the last. Absent where all end together, after `ms`.
   */
  endMs?(sizes: readonly number[], memoryMb: number): number[];
}

export interface TableServiceOptions {
  /** What every batch costs besides its call, in milliseconds: the way to the function and back, encoding. @default 0 */
  readonly overheadMs?: number;
  /** Whether the CPU share follows the memory, as in functions; a server has its cores. @default false */
  readonly byMemory?: boolean;
  /** Whether the call is one step, made as often as the largest request has steps. @default the lane is cellular */
  readonly perStep?: boolean;
}

/** Memory at which AWS Lambda gives one whole CPU, in MB; below it the share is proportional. */
export const WHOLE_CPU_MB = 1769;

/** A service that was profiled. */
export function tableService(table: ProfileTable, options: TableServiceOptions = {}): Service {
  const { overheadMs = 0, byMemory = false, perStep = table.lane === "cellular" } = options;
  return {
    maxRows: table.maxRows,
    ms: (rows, size, memoryMb) => {
      const callMs = (perStep ? size * table.us(rows) : table.us(rows, size)) / 1000;
      return overheadMs + callMs * (byMemory ? Math.max(1, WHOLE_CPU_MB / memoryMb) : 1);
    },
  };
}

/**
 * The cubic in rows and memory that BATCH fitted to its measurements, in milliseconds; sizes do not matter. Terms in the
 * order of the paper's code: 1, k, M, k^2, kM, M^2, k^3, M k^2, k M^2, M^3, in seconds with M in MB.
 */
export function cubicService(terms: readonly number[], maxRows: number): Service {
  return {
    maxRows,
    ms: (k, _, m) => {
      const powers = [1, k, m, k * k, k * m, m * m, k ** 3, m * k * k, k * m * m, m ** 3];
      return 1000 * powers.reduce((sum, power, i) => sum + power * terms[i]!, 0);
    },
  };
}

/**
 * The cellular lane inside a function: every request takes a step until its own size is reached, and a step of `rows` takes
 * `stepMs(rows)` per unit of size. Nothing is padded.
 */
export function cellularService(
  stepMs: (rows: number, memoryMb: number) => number,
  options: { readonly maxRows: number; readonly overheadMs?: number },
): Service {
  const { maxRows, overheadMs = 0 } = options;
  return {
    maxRows,
    ms: (rows, size, memoryMb) => overheadMs + size * stepMs(rows, memoryMb),
    endMs: (sizes, memoryMb) => {
      const order = sizes.map((_, i) => i).sort((a, b) => sizes[a]! - sizes[b]!);
      const ends = new Array<number>(sizes.length);
      let at = overheadMs;
      let before = 0;
      order.forEach((request, done) => {
        at += (sizes[request]! - before) * stepMs(sizes.length - done, memoryMb);
        before = sizes[request]!;
        ends[request] = at;
      });
      return ends;
    },
  };
}

/** What each request of a batch had of its time: every moment is shared by those that have not ended. */
export function partsOf(ends: readonly number[]): number[] {
  const order = ends.map((_, i) => i).sort((a, b) => ends[a]! - ends[b]!);
  const parts = new Array<number>(ends.length);
  const last = ends[order.at(-1)!]!;
  let sum = 0;
  let before = 0;
  order.forEach((request, done) => {
    sum += (ends[request]! - before) / (ends.length - done);
    before = ends[request]!;
    parts[request] = sum / last;
  });
  return parts;
}
