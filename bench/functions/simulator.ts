import { summarize } from "../../planner/outcome.ts";
import { curveOf } from "../../planner/plan-server.ts";
import { ProfileTable } from "../../planner/profile.ts";
import { quantile } from "../../planner/quantile.ts";
import { type CellularLane, simulateServer } from "../../planner/simulate-server.ts";
import { arrivalTimes, drawSizes } from "../../planner/synthesis.ts";
import type { Trace } from "../../planner/trace.ts";
import { chainOf, lstmCell } from "../../src/bench/synthetic.ts";
import { table } from "../../src/cli/table.ts";
import { float32 } from "../../src/core/tensor.ts";
import { measureModel } from "../../src/engine/measure-model.ts";
import { createRuntime } from "../../src/runtime/create.ts";
import type { Runtime } from "../../src/runtime/types.ts";
import { Claims } from "./claims.ts";

/** The simulator against the engine it stands for: the same trace, the profile of this machine, loads below saturation. */
const HIDDEN = 256;
const STEPS = [8, 16, 24, 40, 80];
const SHARES = [2, 3, 3, 2, 1];
const SECONDS = 8;
const WARM_SECONDS = 2;
const MAX_BATCH = 64;

const claims = new Claims();
const definition = chainOf("lstm", lstmCell(HIDDEN));
const profile = await measureModel(definition, {
  threads: [1],
  maxRows: 256,
  pointMs: 40,
  began: () => {},
  point: () => {},
});
const lane = laneOf();
const runtime = await createRuntime({ models: [definition], engines: 1, maxBatch: MAX_BATCH });
const rows: string[][] = [];
try {
  const capacity = requestsPerSecond();
  for (const load of [0.2, 0.4, 0.6, 0.75]) {
    const trace = traceOf(load * capacity);
    const simulated = summarize(simulateServer(trace, { lane }));
    const measured = await measure(runtime, trace);
    for (const [name, expected, share, bound] of [
      ["p50", simulated.p50, 0.5, 0.15],
      ["p99", simulated.p99, 0.99, 0.3],
    ] as const) {
      const seen = quantile(measured, share);
      rows.push([
        `${Math.round(load * 100)} %`,
        name,
        expected.toFixed(2),
        seen.toFixed(2),
        (expected / seen).toFixed(2),
      ]);
      claims.check(`${Math.round(load * 100)} % load, ${name}, simulated against measured`, expected / seen, {
        atLeast: 1 - bound,
        atMost: 1 + bound,
      });
    }
  }
} finally {
  await runtime.close();
}
console.log(`\nLSTM of ${HIDDEN}, requests of ${STEPS.join(", ")} steps, ${profile.machine.cpu}, ms\n`);
console.log(table([["load", "", "simulated", "measured", "ratio"], ...rows]));
claims.end();

/** The cell as the engine runs it: with the calls of several steps that the profile says pay. */
function laneOf(): CellularLane {
  const single = new ProfileTable(profile);
  const steps = [...new Set(profile.cells[0]!.settings.map(({ stepsPerCall }) => stepsPerCall))].filter(
    (count) => count > 1,
  );
  const multiStep = steps.map((count) => ({
    steps: count,
    curve: curveOf(new ProfileTable(profile, { stepsPerCall: count })),
  }));
  const most = Math.max(
    1,
    ...steps.map((count) => new ProfileTable(profile, { stepsPerCall: count }).maxRows),
  );
  let maxStepRows = 0;
  for (let count = 1; count <= most; count *= 2) {
    const pays = multiStep.every(
      ({ steps, curve }) =>
        curve.maxRows < count || curve.ms(count) / steps < 0.95 * (single.us(count) / 1000),
    );
    if (!pays) break;
    maxStepRows = count;
  }
  return { kind: "cellular", maxBatch: MAX_BATCH, curve: curveOf(single), multiStep, maxStepRows };
}

/** Requests a second of the engine at full batches, by the simulator: a backlog that never ends. */
function requestsPerSecond(): number {
  const count = 4000;
  const backlog: Trace = {
    timesMs: Float64Array.from({ length: count }, (_, i) => i * 1e-6),
    sizes: drawSizes({ sizes: STEPS, shares: SHARES }, count, 3),
  };
  const { latencyMs } = simulateServer(backlog, { lane });
  return (count * 1000) / latencyMs.reduce((most, ms) => Math.max(most, ms), 0);
}

function traceOf(perSecond: number): Trace {
  const timesMs = arrivalTimes({ kind: "poisson", perSecond }, SECONDS, 7);
  return { timesMs, sizes: drawSizes({ sizes: STEPS, shares: SHARES }, timesMs.length, 8) };
}

/** Milliseconds from when each request was due to its answer, without those of the warm-up, ascending. */
async function measure(runtime: Runtime, { timesMs, sizes }: Trace): Promise<number[]> {
  const inputs = new Map(
    STEPS.map((steps) => [
      steps,
      { x: float32([steps, HIDDEN], new Float32Array(steps * HIDDEN).fill(0.1)) },
    ]),
  );
  const latencies: number[] = [];
  const start = performance.now() + 20;
  let open = timesMs.length;
  await new Promise<void>((resolve, reject) => {
    let next = 0;
    const ended = (due: number, counts: boolean) => {
      if (counts) latencies.push(performance.now() - due);
      if (--open === 0) resolve();
    };
    const pump = () => {
      const now = performance.now();
      while (next < timesMs.length && start + timesMs[next]! <= now) {
        const due = start + timesMs[next]!;
        const counts = timesMs[next]! >= WARM_SECONDS * 1000;
        const listener = { done: () => ended(due, counts), failed: reject };
        runtime.submit("lstm", inputs.get(sizes![next]!)!, {}, listener);
        next++;
      }
      if (next < timesMs.length) setImmediate(pump);
    };
    pump();
  });
  return latencies.sort((a, b) => a - b);
}
