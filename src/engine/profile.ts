import type { Kernel } from "../../kernels/kernel.ts";
import { CostCurve } from "../../scheduler/cost-curve.ts";

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
export async function profileCells(
  kernel: Kernel,
  pause: () => void | Promise<void> = () => {},
): Promise<CellProfile[]> {
  const profiles: CellProfile[] = [];
  kernel.reserve(2 * kernel.maxBatch + 1);
  for (let cell = 0; cell < kernel.cells.length; cell++)
    profiles.push(await profileCell(kernel, cell, pause));
  for (let slot = 0; slot <= 2 * kernel.maxBatch; slot++) kernel.clear(slot);
  return profiles;
}

async function profileCell(
  kernel: Kernel,
  cell: number,
  pause: () => void | Promise<void>,
): Promise<CellProfile> {
  const { reads } = kernel.cells[cell]!;
  const writes = Int32Array.from({ length: kernel.maxBatch }, (_, row) => row);
  const slots =
    reads > 1
      ? Int32Array.from(
          { length: reads * kernel.maxBatch },
          (_, i) => kernel.maxBatch + 1 + Math.floor(i / reads),
        )
      : writes;
  const measure = async (rows: number, steps: number, least: number) => {
    const task = { cell, rows, steps, reads: slots, writes };
    await pause();
    const until = performance.now() + POINT_MS;
    for (let runs = 0; runs < FEWEST_RUNS || (runs < MOST_RUNS && performance.now() < until); runs++) {
      if (runs === 0) for (const values of kernel.stage(cell, rows, steps)) values.fill(0);
      const start = performance.now();
      const pending = kernel.run(task);
      if (pending) await pending;
      least = Math.min(least, performance.now() - start);
    }
    return least;
  };
  const points: [number, number][] = POINTS.filter((rows) => rows <= kernel.maxBatch).map((rows) => [
    rows,
    Number.POSITIVE_INFINITY,
  ]);
  // In rounds, so that what disturbs the machine for a while does not disturb one point alone.
  for (let round = 0; round < ROUNDS; round++) {
    for (const point of points) {
      if (round === 0 || point[1] < LONG_MS) point[1] = await measure(point[0], 1, point[1]);
    }
  }
  const last = points.at(-1)!;
  if (last[1] < UNMEASURABLE_MS) {
    return { knee: kernel.maxBatch, maxStepRows: 0, stepMs: 0 };
  }
  const curve = new CostCurve(points);
  const most = Math.max(...kernel.stepSizes(cell).filter((steps) => steps <= PROFILED_STEPS));
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
    if (callMs / most > singleMs * STEPS_PAY) break;
    maxStepRows = rows;
  }
  return {
    curve,
    knee: Math.max(curve.knee(KNEE), Math.min(LEAST_KNEE, kernel.maxBatch)),
    maxStepRows,
    stepMs,
  };
}

/** Rows around the quanta that matrix kernels were found to have, and the way to saturation. */
const POINTS = [
  1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 13, 16, 17, 18, 19, 24, 25, 32, 48, 64, 96, 128, 192, 256, 384, 512,
];
/** More steps than this per call gain little more, and leave room for fewer rows. */
const PROFILED_STEPS = 8;
const STEP_ROWS = [1, 2, 4, 8, 16, 32];
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
/** Several steps per call must take less than this share of single steps. */
const STEPS_PAY = 0.95;
const UNMEASURABLE_MS = 0.02;
