import { cellularLaneOf } from "../../planner/cellular-lane.ts";
import { overheadsOf } from "../../planner/overheads.ts";
import { ProfileTable } from "../../planner/profile.ts";
import { quantile } from "../../planner/quantile.ts";
import { tableService } from "../../planner/service.ts";
import { type ServerSettings, simulateServer } from "../../planner/simulate-server.ts";
import { arrivalTimes, drawSizes } from "../../planner/synthesis.ts";
import type { Trace } from "../../planner/trace.ts";
import { measureOverheads } from "../../src/bench/overheads.ts";
import { chainOf, lstmCell } from "../../src/bench/synthetic.ts";
import { wholeSequenceModel } from "../../src/bench/whole-sequence.ts";
import { table } from "../../src/cli/table.ts";
import type { Profile } from "../../src/core/profile.ts";
import { float32 } from "../../src/core/tensor.ts";
import { measureModel } from "../../src/engine/measure-model.ts";
import { median } from "../../src/load/statistics.ts";
import { createRuntime } from "../../src/runtime/create.ts";
import type { Runtime } from "../../src/runtime/types.ts";
import { Claims } from "./claims.ts";
import { SteadyMachine } from "./steady.ts";

/** The simulator against the engine it stands for: the same trace, the profile of this machine, loads below saturation. */
const HIDDEN = 256;
const STEPS = [8, 16, 24, 40, 80];
const SHARES = [2, 3, 3, 2, 1];
const LOADS = [0.2, 0.5, 0.75];
const SECONDS = 2;
/** Before a round, so that the code of a new engine is compiled. */
const WARM_SECONDS = 0.7;
/** Between requests of which there are more than an engine can answer. */
const BACKLOG_GAP_MS = 0.05;
const MAX_BATCH = 64;
const GRAPH_BATCH = 16;
/** Rounds that count, and how many are tried. */
const ROUNDS = 5;
const MOST_ROUNDS = 25;

interface Subject {
  readonly name: string;
  readonly profile: Profile;
  readonly settings: ServerSettings;
  readonly runtime: Runtime;
}

/** Latencies in milliseconds, by request. */
interface Round {
  readonly perSecond: number;
  readonly simulated: Float64Array;
  readonly measured: Float64Array;
}

const inputs = new Map(
  STEPS.map((steps) => [steps, { x: float32([steps, HIDDEN], new Float32Array(steps * HIDDEN).fill(0.1)) }]),
);
const claims = new Claims();
const rows: string[][] = [];
const machine = new SteadyMachine();
for (const open of [cellular, wholeGraph]) await compare(open);
console.log(
  `\nLSTM of ${HIDDEN}, requests of ${STEPS.join(", ")} steps; ms, medians by request of steady rounds\n`,
);
console.log(
  table([
    ["model", "load", "requests/s", "", "simulated", "measured", "ratio", "ratios of single rounds"],
    ...rows,
  ]),
);
claims.end();

/**
 * Every round profiles the machine anew, and a load counts where the machine was steady from the profile until its end: what it
 * can do changes by half from one second to another where it is shared.
 */
async function compare(open: () => Promise<Subject>): Promise<void> {
  const loads = LOADS.map((load) => ({ load, requests: 0, rounds: [] as Round[] }));
  let name = "";
  for (let tried = 0; tried < MOST_ROUNDS; tried++) {
    const left = loads.filter(({ rounds }) => rounds.length < ROUNDS);
    if (left.length === 0) break;
    machine.begin();
    const subject = await open();
    ({ name } = subject);
    try {
      if (!machine.wasSteady()) continue;
      const capacity = requestsPerSecond(subject.settings);
      await send(subject, traceOf(WARM_SECONDS * capacity * LOADS[0]!, capacity * LOADS[0]!));
      // Those of which there are fewest come first: they are the likeliest to be steady.
      for (const one of left.sort((a, b) => a.rounds.length - b.rounds.length)) {
        const perSecond = one.load * capacity;
        one.requests ||= Math.round(SECONDS * perSecond);
        const round = await roundOf(subject, traceOf(one.requests, perSecond));
        if (!machine.wasSteady()) break;
        one.rounds.push(round);
      }
    } finally {
      await subject.runtime.close(0);
      const counts = loads.map(({ rounds }) => rounds.length).join(", ");
      console.log(`${name}: ${counts} steady rounds; ${JSON.stringify(subject.profile.overheads)}`);
    }
  }
  for (const { load, rounds } of loads) judge(name, load, rounds);
}

function judge(name: string, load: number, rounds: readonly Round[]): void {
  const percent = `${Math.round(load * 100)} %`;
  claims.check(`${name}, ${percent} load, steady rounds`, rounds.length, { atLeast: 3 });
  if (rounds.length === 0) return;
  for (const [what, share, bound] of [
    ["p50", 0.5, 0.15],
    ["p99", 0.99, 0.3],
  ] as const) {
    const of = (latencies: Float64Array) => quantile(latencies.toSorted(), share);
    const simulated = of(undisturbed(rounds.map((round) => round.simulated)));
    const measured = of(undisturbed(rounds.map((round) => round.measured)));
    const ratio = simulated / measured;
    const single = rounds.map((round) => of(round.simulated) / of(round.measured)).sort((a, b) => a - b);
    const perSecond = median(rounds.map((round) => round.perSecond));
    const figures = [perSecond.toFixed(0), what, simulated.toFixed(2), measured.toFixed(2), ratio.toFixed(2)];
    rows.push([name, percent, ...figures, single.map((one) => one.toFixed(2)).join(" ")]);
    claims.check(`${name}, ${percent} load, ${what}, simulated against measured`, ratio, {
      atLeast: 1 - bound,
      atMost: 1 + bound,
    });
  }
}

async function cellular(): Promise<Subject> {
  const definition = chainOf("lstm", lstmCell(HIDDEN));
  const profile = await profiled(definition, 256);
  const runtime = await createRuntime({
    models: [definition],
    engines: 1,
    maxBatch: MAX_BATCH,
    profiles: [profile],
  });
  const lane = cellularLaneOf(profile, { maxBatch: MAX_BATCH });
  return { name: "lstm", profile, runtime, settings: { lane, overheads: overheadsOf(profile) } };
}

async function wholeGraph(): Promise<Subject> {
  const definition = wholeSequenceModel("whole", lstmCell(HIDDEN), {
    maxBatch: GRAPH_BATCH,
    timeoutMs: 0,
    order: "oldest",
    bucketWidth: Number.POSITIVE_INFINITY,
  });
  const profile = await profiled(definition, GRAPH_BATCH);
  const runtime = await createRuntime({ models: [definition], engines: 1, profiles: [profile] });
  const lane: ServerSettings["lane"] = {
    kind: "graph",
    buffers: [{ maxBatch: GRAPH_BATCH, timeoutMs: 0, sizes: [0, Number.POSITIVE_INFINITY] }],
    service: tableService(new ProfileTable(profile)),
    workConserving: true,
  };
  return { name: "whole", profile, runtime, settings: { lane, overheads: overheadsOf(profile) } };
}

async function profiled(definition: Parameters<typeof measureModel>[0], maxRows: number): Promise<Profile> {
  const none = () => {};
  const options = { threads: [1], maxRows, sizes: STEPS, pointMs: 40, began: none, point: none };
  const profile = await measureModel(definition, options);
  return { ...profile, overheads: await measureOverheads(definition, profile, 1) };
}

/**
 * By request, the median of the rounds, which sent the same trace: who disturbs the machine for a millisecond makes some request
 * late, in one round this and in another that.
 */
function undisturbed(rounds: readonly Float64Array[]): Float64Array {
  return rounds[0]!.map((_, request) => median(rounds.map((latencies) => latencies[request]!)));
}

/** Requests a second of the engine when far more come than it can answer, by the simulator. */
function requestsPerSecond(settings: ServerSettings): number {
  const count = 4000;
  const backlog: Trace = {
    timesMs: Float64Array.from({ length: count }, (_, i) => i * BACKLOG_GAP_MS),
    sizes: drawSizes({ sizes: STEPS, shares: SHARES }, count, 3),
  };
  const { latencyMs } = simulateServer(backlog, settings);
  return (count * 1000) / latencyMs.reduce((last, ms, i) => Math.max(last, backlog.timesMs[i]! + ms), 0);
}

/** The same requests in the same order, whatever the rate. */
function traceOf(requests: number, perSecond: number): Trace {
  const atRate1000 = arrivalTimes({ kind: "poisson", perSecond: 1000 }, requests / 1000, 7);
  const timesMs = atRate1000.map((ms) => (ms * 1000) / perSecond);
  return { timesMs, sizes: drawSizes({ sizes: STEPS, shares: SHARES }, timesMs.length, 100) };
}

/** The trace is sent, and simulated with the times at which it was sent in fact: how late a timer is, is no matter of the engine. */
async function roundOf(subject: Subject, due: Trace): Promise<Round> {
  const { timesMs, latencyMs: measured } = await send(subject, due);
  const { latencyMs: simulated } = simulateServer({ timesMs, sizes: due.sizes! }, subject.settings);
  return { perSecond: (due.timesMs.length * 1000) / due.timesMs.at(-1)!, simulated, measured };
}

/** When each request was sent, and how long its answer took. */
async function send(
  { name, runtime }: Subject,
  { timesMs: due, sizes }: Trace,
): Promise<{ readonly timesMs: Float64Array; readonly latencyMs: Float64Array }> {
  const timesMs = new Float64Array(due.length);
  const latencyMs = new Float64Array(due.length);
  const start = performance.now() + 20;
  let open = due.length;
  let next = 0;
  await new Promise<void>((resolve, reject) => {
    const pump = () => {
      while (next < due.length && start + due[next]! <= performance.now()) {
        const request = next++;
        const sent = performance.now();
        timesMs[request] = sent - start;
        const done = () => {
          latencyMs[request] = performance.now() - sent;
          if (--open === 0) resolve();
        };
        runtime.submit(name, inputs.get(sizes![request]!)!, {}, { done, failed: reject });
      }
      if (next === due.length) return;
      // A timer is late, which the simulation is told; a thread that turned until the time would disturb the engine's and fill memory.
      setTimeout(pump, start + due[next]! - performance.now());
    };
    pump();
  });
  return { timesMs, latencyMs };
}
