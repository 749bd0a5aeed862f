import { statisticsOf } from "../../planner/arrival-process.ts";
import { range } from "../../planner/batch.ts";
import { lambdaPrices } from "../../planner/cost.ts";
import { type Fit, fitArrivals } from "../../planner/fit.ts";
import {
  type MultiBufferPlan,
  mbsGrid,
  planMultiBuffer,
  type SizedGoal,
} from "../../planner/multi-buffer.ts";
import { summarize } from "../../planner/outcome.ts";
import type { Plan } from "../../planner/plan.ts";
import { describe, planServer, type ServerChoice } from "../../planner/plan-server.ts";
import type { ProfileTable } from "../../planner/profile.ts";
import { quantile } from "../../planner/quantile.ts";
import { sizeClasses } from "../../planner/routing.ts";
import type { SearchName } from "../../planner/search.ts";
import { tableService } from "../../planner/service.ts";
import type { Trace } from "../../planner/trace.ts";
import type { Profile } from "../core/profile.ts";

/** What `cellbatch plan batching` was told. */
export interface PlanOptions {
  readonly slo: SizedGoal;
  readonly profile: string;
  readonly trace: string;
  readonly cell?: string;
  readonly method: "batch" | "mbs";
  readonly target: "server" | "functions";
  readonly search: SearchName;
  readonly buffers?: readonly number[];
  readonly engines?: readonly number[];
  readonly overheadMs: number;
  readonly usdPerEngineHour: number;
  readonly maxGap: number;
  readonly seed: number;
  readonly out: string;
  readonly html?: string;
}

/** Figures of a plan, as they are drawn. */
export interface Drawn {
  readonly unit: string;
  /** Ascending: a latency, and the share of requests that are answered within it. */
  readonly cdf: readonly (readonly [number, number])[];
  readonly batches: readonly (readonly [size: number, share: number])[];
}

export interface Planned {
  readonly plan: Plan;
  readonly summary: readonly string[];
  /** A table; the first row is its heading, the second what was chosen. */
  readonly runnersUp: readonly (readonly string[])[];
  readonly drawn: Drawn;
}

/** Functions scale out, so a formula says what each setting does. */
export function planForFunctions(
  profile: Profile,
  table: ProfileTable,
  trace: Trace,
  options: PlanOptions,
): Planned {
  const { slo, method, overheadMs, search, seed } = options;
  const fit = fitArrivals(trace);
  const classes = sizeClasses(trace.sizes ?? [1]);
  const longestMs = slo.ms * (slo.perSize ? classes.sizes.at(-1)! : 1);
  const counts = method === "batch" ? [1] : (options.buffers ?? [1, 2, 4, 8, 16]);
  const { best, byBuffers } = planMultiBuffer({
    mix: classes,
    process: fit.process,
    service: tableService(table, { overheadMs, byMemory: true }),
    prices: lambdaPrices,
    goal: slo,
    buffers: counts,
    search,
    seed,
    grid: {
      maxBatch: range(1, Math.min(64, table.maxRows), 1),
      timeoutMs: [1, 2, 5, ...mbsGrid.timeoutMs, 700, 1000, 1500, 2000].filter(
        (ms) => ms === 1 || ms <= longestMs,
      ),
      memoryMb: [256, 512, 768, 1024, 1280, 1536, 1769, 2048, 3008],
    },
  });
  const rows = byBuffers.map(({ buffers, plan }) =>
    plan instanceof Error
      ? [`${buffers} buffers`, plan.message, "", "", "", ""]
      : functionRow(plan, best === plan),
  );
  const plan: Plan = {
    ...common(profile, table, options, fit),
    overheadMs,
    buffers: best.buffers.map(({ setting }) => setting),
    routing: best.routing.map(({ size, share, to }) => ({ size, share, to: [...to] })),
    predicted: {
      latencyMs: best.latency,
      usdPerMillion: best.usdPerMillion,
      meanBatch: best.meanBatch,
      paddingShare: best.paddingShare,
    },
  };
  return {
    plan,
    summary: [
      ...heading(plan, fit),
      ...best.buffers.map(
        ({ setting, share }, i) =>
          `buffer ${i}: ${(100 * share).toFixed(0)} % of the requests, batches of up to ${setting.maxBatch}, ${setting.timeoutMs} ms, ${setting.memoryMb} MB`,
      ),
    ],
    runnersUp: [
      [
        "buffers",
        `p${slo.percentile}, ${unitOf(options)}`,
        "USD a million",
        "calls a request",
        "padding",
        "",
      ],
      ...rows,
    ],
    drawn: {
      unit: `latency, ${unitOf(options)}`,
      cdf: curve((ms) => best.cdf(ms), best.latency * 1.5),
      batches: sizesOf(best),
    },
  };
}

function functionRow(plan: MultiBufferPlan, isBest: boolean): string[] {
  return [
    String(plan.buffers.length),
    plan.latency.toFixed(1),
    plan.usdPerMillion.toFixed(3),
    plan.callsPerRequest.toFixed(3),
    `${(100 * plan.paddingShare).toFixed(1)} %`,
    isBest ? "chosen" : "",
  ];
}

function sizesOf({ buffers, callsPerRequest }: MultiBufferPlan): [number, number][] {
  const shares: number[] = [];
  for (const { share, evaluation } of buffers)
    evaluation.batches.forEach((part, n) => {
      shares[n] = (shares[n] ?? 0) + (part * share) / evaluation.meanBatch / callsPerRequest;
    });
  return shares.flatMap((share, n): [number, number][] => (n > 0 ? [[n, share]] : []));
}

function curve(cdf: (ms: number) => number, most: number): [number, number][] {
  return Array.from({ length: 201 }, (_, i) => [(most * i) / 200, cdf((most * i) / 200)]);
}

/** A server has queues, so it is simulated on the trace itself. */
export function planForServer(
  profile: Profile,
  table: ProfileTable,
  trace: Trace,
  options: PlanOptions,
): Planned {
  const { slo, method } = options;
  const fit = fitArrivals(trace);
  const { best, runnersUp } = planServer({
    profile,
    trace,
    table,
    goal: slo,
    buffers: method === "batch" ? [1] : (options.buffers ?? [1, 2, 4, 8]),
    engines: options.engines ?? range(1, profile.machine.cores, 1),
    price: { perHour: options.usdPerEngineHour },
  });
  const { lane } = best.settings;
  const figures = summarize(best.outcome);
  const plan: Plan = {
    ...common(profile, table, options, fit),
    engines: best.engines,
    ...(lane.kind === "cellular" ? { maxBatch: lane.maxBatch } : { eager: lane.workConserving ?? false }),
    buffers:
      lane.kind === "cellular"
        ? []
        : lane.buffers.map(({ maxBatch, timeoutMs, sizes }) => ({
            maxBatch,
            timeoutMs: Math.min(60_000, timeoutMs),
            ...(Number.isFinite(sizes[1]) ? { upTo: sizes[1] - 1 } : {}),
          })),
    predicted: {
      latencyMs: best.latency,
      usdPerMillion: best.usdPerMillion,
      meanBatch: figures.meanBatch,
      paddingShare: figures.paddingShare,
    },
  };
  const all = best.outcome.batches.reduce((sum, count) => sum + count, 0);
  const sorted = latencies(best, trace, options);
  return {
    plan,
    summary: [
      ...heading(plan, fit),
      `${best.engines} engine${best.engines === 1 ? "" : "s"}, ${describe(best.settings)}; busy ${(100 * best.utilisation).toFixed(0)} % of the time`,
    ],
    runnersUp: [
      [
        "setting",
        `p${slo.percentile}, ${unitOf(options)}`,
        "USD a million",
        "busy",
        "mean batch",
        "padding",
        "",
      ],
      ...[best, ...runnersUp].map((choice, i) => serverRow(choice, i === 0)),
    ],
    drawn: {
      unit: `latency, ${unitOf(options)}`,
      cdf: Array.from({ length: 201 }, (_, i) => [quantile(sorted, i / 200), i / 200] as const),
      batches: Array.from(best.outcome.batches, (count, n): [number, number] => [n, count / all]).slice(1),
    },
  };
}

function serverRow(choice: ServerChoice, isBest: boolean): string[] {
  const { meanBatch, paddingShare } = summarize(choice.outcome);
  return [
    `${choice.engines} engines, ${describe(choice.settings)}`,
    choice.latency.toFixed(1),
    choice.usdPerMillion.toFixed(3),
    `${(100 * choice.utilisation).toFixed(0)} %`,
    meanBatch.toFixed(1),
    `${(100 * paddingShare).toFixed(1)} %`,
    isBest ? "chosen" : "",
  ];
}

function latencies({ outcome }: ServerChoice, trace: Trace, { slo }: PlanOptions): Float64Array {
  return outcome.latencyMs.map((ms, i) => ms / (slo.perSize ? (trace.sizes?.[i] ?? 1) : 1)).sort();
}

function common(profile: Profile, table: ProfileTable, options: PlanOptions, { process, reason }: Fit) {
  const { percentile, ms, perSize = false } = options.slo;
  const copy = (matrix: readonly (readonly number[])[]) => matrix.map((row) => [...row]);
  return {
    format: 1 as const,
    kind: "cellbatch.plan" as const,
    model: profile.model.name,
    target: options.target,
    method: options.method,
    lane: table.lane,
    goal: { percentile, ms, perSize },
    arrivals: { d0: copy(process.d0), d1: copy(process.d1), reason },
  };
}

function heading({ model, goal, predicted }: Plan, fit: Fit): string[] {
  const unit = goal.perSize ? "ms per unit of size" : "ms";
  return [
    `${model}: p${goal.percentile} ${predicted.latencyMs.toFixed(1)} ${unit} (goal ${goal.ms}) at ${predicted.usdPerMillion.toFixed(3)} USD a million requests, ${predicted.meanBatch.toFixed(1)} requests a batch`,
    `arrivals: ${statisticsOf(fit.process).perSecond.toFixed(1)} per second, ${fit.reason}`,
  ];
}

function unitOf({ slo }: PlanOptions): string {
  return slo.perSize ? "ms per size" : "ms";
}
