import { Fault } from "../src/core/faults.ts";
import type { ProfileOverheads } from "../src/core/profile.ts";
import { cellularLaneOf } from "./cellular-lane.ts";
import { type MachinePrice, machineCost } from "./cost.ts";
import type { SizedGoal } from "./multi-buffer.ts";
import type { Outcome } from "./outcome.ts";
import { overheadsOf } from "./overheads.ts";
import type { ProfileSource, ProfileTable } from "./profile.ts";
import { quantile } from "./quantile.ts";
import { equalLoad, sizeClasses } from "./routing.ts";
import { tableService } from "./service.ts";
import { type ServerSettings, simulateServer } from "./simulate-server.ts";
import { slice, type Trace } from "./trace.ts";

/** What a plan needs of a `Profile`. */
export type ServerProfile = ProfileSource & { readonly overheads?: ProfileOverheads | undefined };

export interface ServerProblem {
  readonly trace: Trace;
  readonly profile: ServerProfile;
  readonly table: ProfileTable;
  readonly goal: SizedGoal;
  /** Numbers of buffers that are tried; the cellular lane has none. */
  readonly buffers: readonly number[];
  /** Numbers of engines that are tried, ascending: the first that meets the goal is taken. */
  readonly engines: readonly number[];
  /** What one engine costs. */
  readonly price: MachinePrice;
}

export interface ServerChoice {
  readonly engines: number;
  readonly settings: ServerSettings;
  readonly outcome: Outcome;
  /** At the goal's percentile, in its unit. */
  readonly latency: number;
  /** Share of the time that engines work. */
  readonly utilisation: number;
  readonly usdPerMillion: number;
}

export interface ServerPlan {
  readonly best: ServerChoice;
  readonly runnersUp: readonly ServerChoice[];
}

/**
 * Simulates a server on the trace, with fewer and more engines, batches, timeouts and buffers: the fewest engines that keep the
 * goal, then the quickest setting. A server has queues, so there is no formula for it. Throws INVALID_REQUEST
 * where nothing meets the goal, with the nearest setting.
 */
export function planServer(problem: ServerProblem): ServerPlan {
  const trace = shortened(problem.trace);
  const overheads = overheadsOf(problem.profile);
  const tried: ServerChoice[] = [];
  for (const engines of problem.engines) {
    const choices = settingsOf(problem, trace).map((settings) =>
      choose(problem, trace, { ...settings, engines, overheads }),
    );
    tried.push(...choices);
    const feasible = choices
      .filter(({ latency }) => latency <= problem.goal.ms)
      .sort((a, b) => a.latency - b.latency || a.utilisation - b.utilisation);
    if (feasible[0]) return { best: feasible[0], runnersUp: feasible.slice(1, 6) };
  }
  const nearest = tried.reduce((one, other) => (other.latency < one.latency ? other : one));
  const { percentile, ms, perSize } = problem.goal;
  const unit = perSize ? "ms per unit of size" : "ms";
  throw new Fault(
    "INVALID_REQUEST",
    `no setting meets p${percentile} of ${ms} ${unit}: the nearest has ${nearest.latency.toFixed(1)} ${unit} with ${nearest.engines} engines at ${nearest.usdPerMillion.toFixed(2)} USD a million requests (${describe(nearest.settings)})`,
  );
}

/** A setting in words. */
export function describe({ lane }: ServerSettings): string {
  if (lane.kind === "cellular") return `tasks of up to ${lane.maxBatch} rows`;
  const [first] = lane.buffers;
  const count = lane.buffers.length === 1 ? "one buffer" : `${lane.buffers.length} buffers`;
  const wait = lane.workConserving ? "sent when idle" : `${first!.timeoutMs} ms`;
  return `${count}, batches of ${first!.maxBatch}, ${wait}`;
}

function choose({ goal, price }: ServerProblem, trace: Trace, settings: ServerSettings): ServerChoice {
  const outcome = simulateServer(trace, settings);
  const engines = settings.engines!;
  const latencies = goal.perSize
    ? outcome.latencyMs.map((ms, i) => ms / (trace.sizes?.[i] ?? 1)).sort()
    : outcome.latencyMs.slice().sort();
  const seconds = (trace.timesMs.at(-1)! - trace.timesMs[0]!) / 1000;
  const hourly = machineCost(engines, 3600, price);
  return {
    engines,
    settings,
    outcome,
    latency: quantile(latencies, goal.percentile / 100),
    utilisation: outcome.busyMs / 1000 / seconds / engines,
    usdPerMillion: (hourly / 3600 / (trace.timesMs.length / seconds)) * 1e6,
  };
}

/** A trace of some ten thousand requests says as much as a longer one, and is simulated in a tenth of a second. */
function shortened(trace: Trace): Trace {
  const last = trace.timesMs[MOST_REQUESTS];
  return last === undefined ? trace : slice(trace, trace.timesMs[0]!, last);
}

const MOST_REQUESTS = 20_000;

function settingsOf(
  { profile, table, goal, buffers }: ServerProblem,
  trace: Trace,
): Omit<ServerSettings, "engines">[] {
  const rows = POWERS.filter((power) => power <= table.maxRows);
  if (table.lane === "cellular") {
    const { cell, threads } = table;
    return rows.map((maxBatch) => ({ lane: cellularLaneOf(profile, { cell, threads, maxBatch }) }));
  }
  const service = tableService(table);
  const classes = sizeClasses(trace.sizes ?? [1]);
  const longestMs = goal.ms * (goal.perSize ? classes.sizes[0]! : 1);
  return buffers.flatMap((count) => {
    const routing = equalLoad(classes, count);
    // A server's buffers take whole classes: each goes where most of it is.
    const edges = Array.from({ length: count }, (_, buffer) =>
      routing
        .filter(({ to }) => to.reduce((a, b) => (b.part > a.part ? b : a)).buffer === buffer)
        .reduce((largest, { size }) => Math.max(largest, size), 0),
    ).filter((edge) => edge > 0);
    const set = (maxBatch: number, timeoutMs: number) =>
      edges.map((edge, i) => ({
        maxBatch,
        timeoutMs,
        sizes: [
          i === 0 ? 0 : edges[i - 1]! + SMALLEST,
          i === edges.length - 1 ? Number.POSITIVE_INFINITY : edge + SMALLEST,
        ] as const,
      }));
    return rows.flatMap((maxBatch) =>
      [0, ...TIMEOUTS.filter((ms) => ms <= longestMs)].map((timeoutMs) => ({
        // A timeout of 0 stands for sending whatever is there as soon as the engine is idle.
        lane: {
          kind: "graph" as const,
          buffers: set(maxBatch, timeoutMs === 0 ? longestMs / 2 : timeoutMs),
          service,
          workConserving: timeoutMs === 0,
        },
      })),
    );
  });
}

const POWERS = [1, 2, 4, 8, 16, 32, 64, 128, 256];
const TIMEOUTS = [1, 2, 5, 10, 20, 50, 100, 200, 500];
/** Sizes are whole numbers for a server: a buffer takes its largest too. */
const SMALLEST = 1;
