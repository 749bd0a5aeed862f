import { Fault } from "../src/core/faults.ts";
import type { ArrivalProcess } from "./arrival-process.ts";
import { type BatchModel, CorrectedModel, type Sizing } from "./buffer-model.ts";
import { callCost, type FunctionPrices } from "./cost.ts";
import { PaperModel } from "./paper-model.ts";
import type { Service } from "./service.ts";

/** What is to hold, of which the rest is made the best: a latency at least cost, or a cost at least latency. */
export type Goal =
  | { readonly kind: "latency"; readonly percentile: number; readonly ms: number }
  | { readonly kind: "cost"; readonly percentile: number; readonly usdPerMillion: number };

/** One buffer and the memory of the functions behind it. */
export interface Setting extends Sizing {
  readonly memoryMb: number;
}

export interface Grid {
  readonly maxBatch: readonly number[];
  readonly timeoutMs: readonly number[];
  readonly memoryMb: readonly number[];
}

/** The settings of BATCH: batches of 1 to 20, 10 to 490 ms, 1,280 to 3,008 MB. */
export const batchGrid: Grid = {
  maxBatch: range(1, 20, 1),
  timeoutMs: range(10, 490, 10),
  memoryMb: range(1280, 3008, 64),
};

export function range(from: number, to: number, step: number): number[] {
  return Array.from({ length: Math.floor((to - from) / step + 1e-9) + 1 }, (_, i) => from + i * step);
}

export interface Prediction {
  readonly setting: Setting;
  /** At the goal's percentile. */
  readonly latencyMs: number;
  readonly usdPerMillion: number;
  readonly meanBatch: number;
  /** Functions called per request. */
  readonly callsPerRequest: number;
}

/** `paper` is BATCH as published, for comparison; `corrected` predicts what happens. */
export type Form = "paper" | "corrected";

export interface BatchProblem {
  readonly process: ArrivalProcess;
  readonly service: Service;
  /** Size that every request is taken to have. @default 1 */
  readonly size?: number;
  readonly prices: FunctionPrices;
  readonly goal: Goal;
  /** @default `batchGrid`, up to the rows that the service knows */
  readonly grid?: Grid;
  /** @default "corrected" */
  readonly form?: Form;
}

export interface BatchPlan {
  readonly best: Prediction;
  /** The next best settings, best first. */
  readonly runnersUp: readonly Prediction[];
  /** Share of the grid that meets the goal. */
  readonly feasibleShare: number;
}

export function modelOf(form: Form, process: ArrivalProcess, sizing: Sizing): BatchModel {
  return form === "paper" ? new PaperModel(process, sizing) : new CorrectedModel(process, sizing);
}

/**
 * Tries every setting of the grid. Throws INVALID_REQUEST where none meets the goal, with the nearest one and what it costs.
 * Takes about a millisecond per batch size and timeout.
 */
export function planBatch(problem: BatchProblem): BatchPlan {
  const { goal, grid = batchGrid } = problem;
  const all = predictions(problem, grid);
  const feasible = all.filter((one) => meets(one, goal)).sort(better(goal));
  const [best, ...runnersUp] = feasible;
  if (!best) throw infeasible(goal, all);
  return { best, runnersUp: distinct(runnersUp).slice(0, 5), feasibleShare: feasible.length / all.length };
}

/** What every setting of a grid is predicted to do. */
export function predictions(problem: BatchProblem, grid: Grid): Prediction[] {
  const { process, service, size = 1, prices, goal, form = "corrected" } = problem;
  const rows = grid.maxBatch.filter((rows) => rows <= service.maxRows);
  return rows.flatMap((maxBatch) =>
    grid.timeoutMs.flatMap((timeoutMs) => {
      // A batch of one is full at once, whatever the timeout.
      if (maxBatch === 1 && timeoutMs !== grid.timeoutMs[0]) return [];
      const model = modelOf(form, process, { maxBatch, timeoutMs });
      return grid.memoryMb.map((memoryMb) =>
        predict(
          model,
          { maxBatch, timeoutMs, memoryMb },
          { service, size, prices, form, percentile: goal.percentile },
        ),
      );
    }),
  );
}

interface Terms {
  readonly service: Service;
  readonly size: number;
  readonly prices: FunctionPrices;
  readonly form: Form;
  readonly percentile: number;
}

export function predict(model: BatchModel, setting: Setting, terms: Terms): Prediction {
  const { service, size, prices, form, percentile } = terms;
  const { maxBatch, memoryMb } = setting;
  const times = Float64Array.from({ length: maxBatch + 1 }, (_, n) =>
    n === 0 ? 0 : service.ms(n, size, memoryMb),
  );
  const serviceMs = (rows: number) => times[rows]!;
  const meanBatch = model.batches.reduce((sum, share, n) => sum + n * share, 0);
  let usd = 0;
  if (form === "paper") {
    // The paper takes the percentile of the batch size for all batches.
    const typical = percentileOf(model.batches, percentile);
    usd = callCost(times[typical]!, memoryMb, prices) / typical;
  } else {
    model.batches.forEach((share, n) => {
      if (n > 0) usd += (share * callCost(times[n]!, memoryMb, prices)) / meanBatch;
    });
  }
  return {
    setting,
    latencyMs: latencyAt((ms) => model.cdf(ms, serviceMs), percentile / 100),
    usdPerMillion: usd * 1e6,
    meanBatch,
    callsPerRequest: 1 / meanBatch,
  };
}

/** Where a distribution of latencies reaches a share, in milliseconds, to a hundredth. */
export function latencyAt(cdf: (ms: number) => number, share: number): number {
  let high = 1;
  while (cdf(high) < share && high < LONGEST_MS) high *= 2;
  let low = high / 2;
  while (high - low > 0.01 && high - low > 1e-4 * high) {
    const middle = (low + high) / 2;
    if (cdf(middle) >= share) high = middle;
    else low = middle;
  }
  return high;
}

const LONGEST_MS = 1e8;

function percentileOf(batches: Float64Array, percentile: number): number {
  let below = 0;
  for (let n = 1; n < batches.length; n++) {
    below += batches[n]!;
    if (below >= percentile / 100 - 1e-12) return n;
  }
  return batches.length - 1;
}

export function meets({ latencyMs, usdPerMillion }: Prediction, goal: Goal): boolean {
  return goal.kind === "latency" ? latencyMs <= goal.ms : usdPerMillion <= goal.usdPerMillion;
}

function better(goal: Goal): (a: Prediction, b: Prediction) => number {
  return goal.kind === "latency"
    ? (a, b) => a.usdPerMillion - b.usdPerMillion || a.latencyMs - b.latencyMs
    : (a, b) => a.latencyMs - b.latencyMs || a.usdPerMillion - b.usdPerMillion;
}

/** One setting for each pair of predictions: what differs in nothing that matters is no choice. */
function distinct(predictions: readonly Prediction[]): Prediction[] {
  const seen = new Set<string>();
  return predictions.filter(({ latencyMs, usdPerMillion }) => {
    const key = `${latencyMs.toPrecision(3)} ${usdPerMillion.toPrecision(3)}`;
    return !seen.has(key) && seen.add(key);
  });
}

/** Says what comes nearest to a goal that nothing meets. */
export function infeasible(goal: Goal, all: readonly Prediction[]): Fault {
  const nearest = all.reduce((one, other) =>
    goal.kind === "latency"
      ? other.latencyMs < one.latencyMs
        ? other
        : one
      : other.usdPerMillion < one.usdPerMillion
        ? other
        : one,
  );
  const asked =
    goal.kind === "latency" ? `p${goal.percentile} of ${goal.ms} ms` : `${goal.usdPerMillion} USD a million`;
  const { setting, latencyMs, usdPerMillion } = nearest;
  const { maxBatch, timeoutMs, memoryMb } = setting;
  return new Fault(
    "INVALID_REQUEST",
    `no setting meets ${asked}: the nearest has p${goal.percentile} ${latencyMs.toFixed(1)} ms at ${usdPerMillion.toFixed(2)} USD a million requests (batches of ${maxBatch}, ${timeoutMs} ms, ${memoryMb} MB)`,
  );
}
