import type { Kernel } from "../../kernels/kernel.ts";
import type { WholeGraph } from "../../models/definition.ts";
import { STEP_ROWS } from "../../scheduler/several-steps.ts";
import type { ProfilePoint, ProfileSetting } from "../core/profile.ts";
import { sizeOf, type Tensor, type TensorSpec } from "../core/tensor.ts";
import { type CellRuns, cellRuns } from "./cell-runs.ts";
import { type GraphLane, GraphRequest } from "./graph-lane.ts";
import { measuredRows } from "./profile.ts";

export interface MeasureOptions {
  /** Most rows times steps of one call. */
  readonly maxRows: number;
  /** Milliseconds that each number of rows is measured for, at least three calls. */
  readonly pointMs: number;
  /** Is told of every point that was measured; throws to end it all. */
  readonly progress: () => void;
}

/** A setting that is to be measured, and what runs it once. */
interface Plan {
  readonly setting: Omit<ProfileSetting, "points">;
  readonly rows: readonly number[];
  readonly run: CellRuns;
}

/** How many calls of `progress` measuring a kernel's cell takes. */
export function pointsOfCell(kernel: Kernel, cell: number, maxRows: number): number {
  return ROUNDS * kernel.stepSizes(cell).reduce((sum, steps) => sum + rowsOf(steps, maxRows).length, 0);
}

/** Times of one cell for every number of steps per call that its kernel has. */
export function measureCell(
  kernel: Kernel,
  cell: number,
  threads: number,
  options: MeasureOptions,
): Promise<ProfileSetting[]> {
  const run = cellRuns(kernel, cell);
  const plans = kernel.stepSizes(cell).map((stepsPerCall) => ({
    setting: { threads, stepsPerCall },
    rows: rowsOf(stepsPerCall, options.maxRows),
    run,
  }));
  return measure(
    plans.filter(({ rows }) => rows.length > 0),
    options,
  );
}

/** Calls of several steps are for few rows. */
function rowsOf(steps: number, maxRows: number): readonly number[] {
  return steps === 1 ? measuredRows(maxRows) : STEP_ROWS.filter((rows) => rows * steps <= maxRows);
}

export function pointsOfGraph(sizes: readonly number[], maxRows: number): number {
  return ROUNDS * sizes.length * graphRows(maxRows).length;
}

/** Times of a whole graph on batches padded to each of `sizes` steps, padding included. */
export function measureGraph(
  lane: GraphLane,
  sizes: readonly number[],
  threads: number,
  options: MeasureOptions,
): Promise<ProfileSetting[]> {
  const { inputs } = lane.definition;
  const plans = sizes.map((size): Plan => {
    const tensors = inputs.map((spec) => filled(spec, size));
    const requests = Array.from(
      { length: options.maxRows },
      (_, id) => new GraphRequest(id, lane, NO_WISHES, tensors, size, 0),
    );
    return {
      setting: { threads, stepsPerCall: 1, size },
      rows: graphRows(options.maxRows),
      run: async (rows) => {
        const batch = requests.slice(0, rows);
        const start = performance.now();
        const pending = lane.run(batch);
        if (pending instanceof Promise) await pending;
        return performance.now() - start;
      },
    };
  });
  return measure(plans, options);
}

/** Sizes to measure of a graph whose requests have up to `longest` steps: doubling, and the longest. */
export function graphSizes(longest: number): number[] {
  const sizes: number[] = [];
  for (let size = 1; size < longest; size *= 2) sizes.push(size);
  return [...sizes, longest];
}

/** The bound of a model's buffers, where it has one. */
export function longestOf({ buffers }: WholeGraph): number {
  return Math.max(...buffers.map(({ upTo }) => upTo ?? 0)) || LONGEST;
}

function graphRows(maxRows: number): number[] {
  return [...GRAPH_ROWS.filter((rows) => rows < maxRows), maxRows];
}

/** Every point in turn, several times, so that what disturbs the machine for a while does not disturb one point alone. */
async function measure(plans: readonly Plan[], options: MeasureOptions): Promise<ProfileSetting[]> {
  const { pointMs, progress } = options;
  const times = plans.map(({ rows }) => rows.map((): number[] => []));
  for (let round = 0; round < ROUNDS; round++) {
    for (const [plan, { setting, rows, run }] of plans.entries()) {
      for (const [at, count] of rows.entries()) {
        // The first call of a shape makes its buffers.
        if (round === 0) await run(count, setting.stepsPerCall);
        const until = performance.now() + pointMs / ROUNDS;
        do {
          times[plan]![at]!.push(await run(count, setting.stepsPerCall));
        } while (performance.now() < until && times[plan]![at]!.length < MOST_CALLS);
        progress();
        await new Promise((resolve) => setImmediate(resolve));
      }
    }
  }
  return plans.map(({ setting, rows }, plan) => ({
    ...setting,
    points: rows.map((count, at) => pointOf(count, times[plan]![at]!)),
  }));
}

function pointOf(rows: number, ms: readonly number[]): ProfilePoint {
  const sorted = ms.toSorted((a, b) => a - b);
  const at = (share: number) =>
    sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))]! * 1000;
  const digits = (us: number) => Number(us.toFixed(2));
  return { rows, us: digits(at(0.5)), spreadUs: digits(at(0.75) - at(0.25)) };
}

/** A request's input of some steps: zeros for numbers of tokens, noise for floats. */
function filled({ dtype, shape }: TensorSpec, steps: number): Tensor {
  const own = shape.map((size) => (size === -1 ? steps : size));
  const length = sizeOf(own);
  return dtype === "int32"
    ? { dtype, shape: own, data: new Int32Array(length) }
    : { dtype, shape: own, data: Float32Array.from({ length }, (_, i) => Math.sin(i * 12.9898)) };
}

const ROUNDS = 3;
const MOST_CALLS = 10_000;
const GRAPH_ROWS = [1, 2, 4, 8, 16, 32, 64, 128, 256];
/** Steps up to which a graph is measured whose buffers take any length. */
const LONGEST = 256;
const NO_WISHES = {
  priority: 5,
  timeoutMs: Number.POSITIVE_INFINITY,
  maxSteps: Number.POSITIVE_INFINITY,
  temperature: 0,
  topK: 0,
  topP: 1,
  seed: 0,
  stream: false,
  beamWidth: 0,
};
