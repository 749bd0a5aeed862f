import type { Kernel } from "../../kernels/kernel.ts";
import { CostCurve } from "../../scheduler/cost-curve.ts";
import { profiledSteps, STEP_ROWS, stepsPay } from "../../scheduler/several-steps.ts";
import { cellRuns, withSlots } from "./cell-runs.ts";

/** What one cell costs on one device. */
export interface CellProfile {
  /** Absent where the kernel takes no time worth measuring. */
  readonly curve?: CostCurve;
  /** Fewest rows that reach nearly the best rate. */
  readonly knee: number;
  /** Most rows for which several steps per call pay. */
  readonly maxStepRows: number;
  /** Least milliseconds of one step, over all numbers of rows and steps. */
  readonly stepMs: number;
}

/** Measures every cell of a kernel; while the thread is lent to others at `pause`, every size in its turn. */
export function profileCells(kernel: Kernel, pause: Pause = () => {}): Promise<CellProfile[]> {
  return withSlots(kernel, async () => {
    const profiles: CellProfile[] = [];
    for (let cell = 0; cell < kernel.cells.length; cell++)
      profiles.push(await profileCell(kernel, cell, pause));
    return profiles;
  });
}

type Pause = () => void | Promise<void>;

async function profileCell(kernel: Kernel, cell: number, pause: Pause): Promise<CellProfile> {
  const run = cellRuns(kernel, cell);
  const measure = async (rows: number, steps: number, least: number) => {
    await pause();
    const until = performance.now() + POINT_MS;
    for (let runs = 0; runs < FEWEST_RUNS || (runs < MOST_RUNS && performance.now() < until); runs++) {
      least = Math.min(least, await run(rows, steps));
    }
    return least;
  };
  const points: [number, number][] = measuredRows(kernel.maxBatch).map((rows) => [
    rows,
    Number.POSITIVE_INFINITY,
  ]);
  // In rounds, so that what disturbs the machine for a while does not disturb one point alone.
  for (let round = 0; round < ROUNDS; round++) {
    for (const point of points) {
      if (round === 0 || point[1] < LONG_MS) point[1] = await measure(point[0], 1, point[1]);
    }
  }
  const curve = curveOf(points);
  if (!curve) return uncosted(kernel.maxBatch);
  const most = profiledSteps(kernel.stepSizes(cell));
  let stepMs = curve.ms(1);
  let maxStepRows = 0;
  for (const rows of STEP_ROWS) {
    if (most === 1 || rows * most > kernel.maxBatch) break;
    let callMs = Number.POSITIVE_INFINITY;
    let singleMs = curve.ms(rows);
    for (let round = 0; round < ROUNDS; round++) {
      callMs = await measure(rows, most, callMs);
      singleMs = await measure(rows, 1, singleMs);
    }
    stepMs = Math.min(stepMs, callMs / most);
    if (!stepsPay(callMs, most, singleMs)) break;
    maxStepRows = rows;
  }
  return { curve, knee: kneeOf(curve), maxStepRows, stepMs };
}

/** Undefined where even the largest task takes no time worth measuring. Points are `[rows, milliseconds]`. */
export function curveOf(points: readonly (readonly [number, number])[]): CostCurve | undefined {
  return points.at(-1)![1] < UNMEASURABLE_MS ? undefined : new CostCurve(points);
}

/** What is said of a cell without a curve. */
export function uncosted(maxRows: number): CellProfile {
  return { knee: maxRows, maxStepRows: 0, stepMs: 0 };
}

export function kneeOf(curve: CostCurve): number {
  return Math.max(curve.knee(KNEE, TASK_MS), Math.min(LEAST_KNEE, curve.maxRows));
}

/** The rows to measure: each of few, those around the quanta that matrix kernels were found to have, the way to saturation, `most`. */
export function measuredRows(most: number): number[] {
  return [...POINTS.filter((rows) => rows < most), most];
}

const POINTS = [
  1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 13, 16, 17, 18, 19, 24, 25, 32, 48, 64, 96, 128, 192, 256, 384, 512,
];
const POINT_MS = 0.3;
const ROUNDS = 3;
/** A task of this length hides what disturbs it, and is measured once. */
const LONG_MS = 1;
const FEWEST_RUNS = 1;
const MOST_RUNS = 40;
/** A measured knee below this is noise: more rows cost nothing in rate, and fewer would queue. */
const LEAST_KNEE = 64;
/** Share of the best rate that is the knee. */
const KNEE = 0.97;
/**
 * What a task costs an engine besides its kernel however many rows it has: 2 us of 2.7 for 4 rows, 12 for 64 and 52 for 256 (LSTM h=128). A
 * small cell needs more rows to be worth it.
 */
const TASK_MS = 0.002;
const UNMEASURABLE_MS = 0.02;
