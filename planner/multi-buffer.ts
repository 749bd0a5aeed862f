import { Fault } from "../src/core/faults.ts";
import { type ArrivalProcess, thinned } from "./arrival-process.ts";
import { type Grid, latencyAt, range, type Setting } from "./batch.ts";
import type { FunctionPrices } from "./cost.ts";
import { equalLoad, mixOf, type Routing } from "./routing.ts";
import { type SearchName, searches } from "./search.ts";
import type { Service } from "./service.ts";
import { type Evaluation, Models, sizedBuffer } from "./sized-buffer.ts";
import type { SizeMix } from "./synthesis.ts";

/** A latency that a share of the requests keeps: in milliseconds, or in milliseconds per unit of a request's size. */
export interface SizedGoal {
  readonly percentile: number;
  readonly ms: number;
  /** @default false */
  readonly perSize?: boolean;
}

export interface MultiBufferProblem {
  readonly mix: SizeMix;
  readonly process: ArrivalProcess;
  readonly service: Service;
  readonly prices: FunctionPrices;
  readonly goal: SizedGoal;
  /** Numbers of buffers that are tried. @default [1, 2, 4, 8, 16, 20] */
  readonly buffers?: readonly number[];
  /** @default `mbsGrid`, up to the rows that the service knows */
  readonly grid?: Grid;
  /** @default "descent" */
  readonly search?: SearchName;
  /** What is to be least: USD per request, or per request and unit of its size, as MBS has it. @default "usd" */
  readonly objective?: "usd" | "usdPerSize";
  /** See `FunctionSettings.answers`. @default "together" */
  readonly answers?: "each" | "together";
  /** @default 1 */
  readonly seed?: number;
}

/** The settings of MBS: batches of 1 to 25, 10 to 500 ms, 1,024 to 6,912 MB. */
export const mbsGrid: Grid = {
  maxBatch: range(1, 25, 1),
  timeoutMs: [10, 15, 20, 30, 40, 60, 80, 110, 150, 200, 260, 330, 410, 500],
  memoryMb: range(1024, 6912, 256),
};

/** One buffer of a plan. */
export interface PlannedBuffer {
  readonly setting: Setting;
  /** Its share of the requests. */
  readonly share: number;
  readonly evaluation: Evaluation;
  readonly tried: number;
}

export interface MultiBufferPlan {
  readonly routing: Routing;
  readonly buffers: readonly PlannedBuffer[];
  readonly usdPerMillion: number;
  /** USD per request and unit of size, times a million. */
  readonly usdPerMillionSizes: number;
  readonly meanBatch: number;
  readonly callsPerRequest: number;
  readonly paddingShare: number;
  /** At the goal's percentile: milliseconds, or milliseconds per unit of size. */
  readonly latency: number;
  /** Share of the requests that are answered within a time, in the unit of the goal. */
  cdf(ms: number): number;
}

export interface MultiBufferPlans {
  readonly best: MultiBufferPlan;
  /** One per number of buffers, or why there is none. */
  readonly byBuffers: readonly { readonly buffers: number; readonly plan: MultiBufferPlan | Fault }[];
}

/** Tries several numbers of buffers. Throws INVALID_REQUEST where none of them meets the goal. */
export function planMultiBuffer(problem: MultiBufferProblem): MultiBufferPlans {
  const { buffers = [1, 2, 4, 8, 16, 20], objective = "usd" } = problem;
  const byBuffers = buffers.map((count) => ({ buffers: count, plan: planFor(problem, count) }));
  const plans = byBuffers.flatMap(({ plan }) => (plan instanceof Fault ? [] : [plan]));
  const costOf = (plan: MultiBufferPlan) =>
    objective === "usd" ? plan.usdPerMillion : plan.usdPerMillionSizes;
  const [first, ...rest] = plans;
  if (!first) throw byBuffers.at(-1)!.plan;
  return { best: rest.reduce((best, plan) => (costOf(plan) < costOf(best) ? plan : best), first), byBuffers };
}

/** The best settings for one number of buffers, or the fault that says what comes nearest to the goal. */
function planFor(problem: MultiBufferProblem, count: number): MultiBufferPlan | Fault {
  const {
    goal,
    service,
    grid = mbsGrid,
    objective = "usd",
    search = "descent",
    answers = "together",
    seed = 1,
  } = problem;
  const axes = {
    ...grid,
    maxBatch: grid.maxBatch.filter((rows) => rows <= service.maxRows),
  };
  const limitMs = (size: number) => goal.ms * (goal.perSize ? size : 1);
  const routing = equalLoad(problem.mix, count);
  const settingAt = ([batch, timeout, memory]: readonly number[]): Setting => ({
    maxBatch: axes.maxBatch[batch!]!,
    timeoutMs: axes.timeoutMs[timeout!]!,
    memoryMb: axes.memoryMb[memory!]!,
  });
  const process = thinned(problem.process, 1 / count);
  const models = new Models(process);
  const planned: PlannedBuffer[] = [];
  for (let buffer = 0; buffer < count; buffer++) {
    const { mix, share } = mixOf(routing, buffer);
    const sized = sizedBuffer({
      ...problem,
      mix,
      process,
      answers,
      seed: seed + buffer,
      maxBatch: axes.maxBatch.at(-1)!,
      models,
    });
    const found = searches[search](
      {
        axes: [axes.maxBatch.length, axes.timeoutMs.length, axes.memoryMb.length],
        at: (place) => {
          const evaluation = sized.evaluate(settingAt(place));
          const within = evaluation.within(limitMs);
          return { cost: evaluation[objective], violation: Math.max(0, goal.percentile / 100 - within) };
        },
      },
      seed + buffer,
    );
    if (!found) return infeasible(goal, buffer, mix, (setting) => sized.evaluate(setting), axes);
    const setting = settingAt(found.place);
    planned.push({ setting, share, evaluation: sized.evaluate(setting), tried: found.tried });
  }
  return planOf(routing, planned, goal);
}

function planOf(routing: Routing, buffers: readonly PlannedBuffer[], goal: SizedGoal): MultiBufferPlan {
  const sum = (pick: (evaluation: Evaluation) => number) =>
    buffers.reduce((total, { share, evaluation }) => total + share * pick(evaluation), 0);
  const callsPerRequest = sum(({ meanBatch }) => 1 / meanBatch);
  const cdf = (ms: number) => sum(({ within }) => within((size) => ms * (goal.perSize ? size : 1)));
  return {
    routing,
    buffers,
    usdPerMillion: 1e6 * sum(({ usd }) => usd),
    usdPerMillionSizes: 1e6 * sum(({ usdPerSize }) => usdPerSize),
    meanBatch: 1 / callsPerRequest,
    callsPerRequest,
    paddingShare: sum(({ padding }) => padding) / sum(({ work }) => work),
    latency: latencyAt(cdf, goal.percentile / 100),
    cdf,
  };
}

/** The quickest setting of a grid is that of single requests with the most memory, unless memory makes nothing quicker. */
function infeasible(
  goal: SizedGoal,
  buffer: number,
  mix: SizeMix,
  evaluate: (setting: Setting) => Evaluation,
  grid: Grid,
): Fault {
  const unit = goal.perSize ? "ms per unit of size" : "ms";
  const tries = grid.memoryMb.flatMap((memoryMb) =>
    grid.maxBatch.slice(0, 4).map((maxBatch) => {
      const setting = { maxBatch, timeoutMs: grid.timeoutMs[0]!, memoryMb };
      const evaluation = evaluate(setting);
      const latency = latencyAt(
        (ms) => evaluation.within((size) => ms * (goal.perSize ? size : 1)),
        goal.percentile / 100,
      );
      return { setting, latency, usd: evaluation.usd };
    }),
  );
  const { setting, latency, usd } = tries.reduce((one, other) => (other.latency < one.latency ? other : one));
  const sizes =
    mix.sizes.length === 1 ? `size ${mix.sizes[0]}` : `sizes ${mix.sizes[0]} to ${mix.sizes.at(-1)}`;
  return new Fault(
    "INVALID_REQUEST",
    `no setting of buffer ${buffer} (${sizes}) meets p${goal.percentile} of ${goal.ms} ${unit}: the nearest has ${latency.toFixed(1)} ${unit} at ${(usd * 1e6).toFixed(2)} USD a million requests (batches of ${setting.maxBatch}, ${setting.timeoutMs} ms, ${setting.memoryMb} MB)`,
  );
}
