import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, it, onTestFinished } from "vitest";
import { summarize } from "../../planner/outcome.ts";
import { parsePlan } from "../../planner/plan.ts";
import { planServer } from "../../planner/plan-server.ts";
import { ProfileTable } from "../../planner/profile.ts";
import { simulateServer } from "../../planner/simulate-server.ts";
import { arrivalTimes, drawSizes } from "../../planner/synthesis.ts";
import { CostCurve } from "../../scheduler/cost-curve.ts";
import { goalOf } from "../../src/cli/numbers.ts";
import { planForFunctions, planForServer } from "../../src/cli/plan-result.ts";
import { outcomeOf } from "../../src/cli/simulated.ts";
import type { Profile } from "../../src/core/profile.ts";
import { noOverheads } from "./no-overheads.ts";

const points = (scale: number) =>
  [1, 4, 16].map((rows) => ({ rows, us: scale * (800 + 200 * rows), spreadUs: 1 }));
const profileOf = (lane: "graph" | "cellular"): Profile => ({
  format: 1,
  kind: "cellbatch.profile",
  model: { name: "m", version: "1", digest: "d" },
  machine: { cpu: "c", cores: 3, node: "20", onnxruntime: "1" },
  measuredAt: "2026-01-01T00:00:00Z",
  cells: [
    {
      cell: "cell",
      lane,
      settings:
        lane === "cellular"
          ? [{ threads: 1, stepsPerCall: 1, points: points(1) }]
          : [10, 40].map((size) => ({ threads: 1, stepsPerCall: 1, size, points: points(size) })),
    },
  ],
});
const timesMs = arrivalTimes({ kind: "poisson", perSecond: 30 }, 60, 1);
const trace = { timesMs, sizes: drawSizes({ sizes: [10, 40], shares: [3, 1] }, timesMs.length, 2) };

describe("a simulated server", () => {
  it("of one row at a time is the M/D/1 queue", () => {
    const times = arrivalTimes({ kind: "poisson", perSecond: 50 }, 600, 3);
    const { latencyMs } = simulateServer(
      { timesMs: times },
      {
        overheads: noOverheads,
        lane: {
          kind: "graph",
          buffers: [{ maxBatch: 1, timeoutMs: 0, sizes: [0, 2] }],
          service: { maxRows: 1, ms: () => 14 },
          workConserving: true,
        },
      },
    );
    // Pollaczek and Khinchine: half the load over what is left of it, in services.
    const load = 0.7;
    const expected = 14 + (14 * load) / (2 * (1 - load));
    expect(latencyMs.reduce((sum, ms) => sum + ms, 0) / latencyMs.length / expected).toBeCloseTo(1, 1);
  });

  it("batches cells of requests that come later, and ends each with its own steps", () => {
    const lane = {
      kind: "cellular" as const,
      maxBatch: 4,
      curve: new CostCurve([
        [1, 1],
        [4, 1],
      ]),
    };
    const late = { timesMs: Float64Array.of(0, 2.5), sizes: Float64Array.of(5, 3) };
    const { latencyMs, queueMs, batches, busyMs } = simulateServer(late, { lane, overheads: noOverheads });
    expect([...latencyMs]).toEqual([5, 3.5]);
    expect([...queueMs]).toEqual([0, 0.5]);
    expect([...batches]).toEqual([0, 4, 2]);
    expect(busyMs).toBe(6);
  });

  it("gives requests to the engine with least to do", () => {
    const lane = { kind: "cellular" as const, maxBatch: 1, curve: new CostCurve([[1, 1]]) };
    const together = { timesMs: Float64Array.of(0, 0, 0, 0), sizes: Float64Array.of(4, 4, 4, 4) };
    expect([...simulateServer(together, { lane, engines: 4, overheads: noOverheads }).latencyMs]).toEqual([
      4, 4, 4, 4,
    ]);
  });

  it("answers every request once, whatever comes", () => {
    const gaps = fc.array(fc.integer({ min: 0, max: 20 }), { minLength: 2, maxLength: 60 });
    fc.assert(
      fc.property(gaps, fc.boolean(), fc.integer({ min: 1, max: 3 }), (list, eager, engines) => {
        let at = 0;
        const times = Float64Array.from(list, (gap) => (at += gap));
        const sizes = times.map((_, i) => 1 + (i % 7));
        const buffers = [{ maxBatch: 4, timeoutMs: 6, sizes: [0, 100] as const }];
        const service = { maxRows: 4, ms: (rows: number, size: number) => rows + size };
        const { latencyMs, batches } = simulateServer(
          { timesMs: times, sizes },
          {
            engines,
            overheads: noOverheads,
            lane: { kind: "graph", buffers, service, workConserving: eager },
          },
        );
        latencyMs.forEach((ms, i) => expect(ms).toBeGreaterThanOrEqual(1 + sizes[i]!));
        expect(batches.reduce((sum, count, rows) => sum + count * rows, 0)).toBe(list.length);
      }),
    );
  });
});

const options = {
  slo: goalOf("p95=300ms"),
  profile: "p.json",
  trace: "t.csv",
  method: "mbs" as const,
  target: "server" as const,
  search: "descent" as const,
  buffers: [1, 2],
  overheadMs: 5,
  usdPerEngineHour: 0.04,
  maxGap: 600,
  seed: 1,
  out: "plan.json",
};

describe("a plan for a server", () => {
  it("takes the fewest engines that keep the goal, and can be read back", () => {
    const profile = profileOf("graph");
    const { plan, summary, drawn } = planForServer(profile, new ProfileTable(profile), trace, options);
    expect(plan).toMatchObject({ model: "m", lane: "graph", target: "server", engines: 1 });
    expect(plan.predicted.latencyMs).toBeLessThanOrEqual(300);
    expect(plan.buffers.slice(0, -1).every(({ upTo }) => upTo !== undefined)).toBe(true);
    expect(plan.buffers.at(-1)!.upTo).toBeUndefined();
    expect(summary[0]).toContain("(goal 300)");
    expect(drawn.cdf.at(-1)![1]).toBe(1);
    expect(parsePlan(JSON.stringify(plan), "plan.json")).toEqual(plan);
  });

  it("chooses the rows of a task in the cellular lane", () => {
    const profile = profileOf("cellular");
    const { plan } = planForServer(profile, new ProfileTable(profile), trace, options);
    expect(plan).toMatchObject({ lane: "cellular", buffers: [] });
    expect(plan.maxBatch).toBeGreaterThan(1);
  });

  it("says what comes nearest where nothing meets the goal", () => {
    const profile = profileOf("graph");
    const problem = {
      profile,
      trace,
      table: new ProfileTable(profile),
      goal: { percentile: 95, ms: 3 },
      buffers: [1],
      engines: [1, 2],
      price: { perHour: 0.04 },
    };
    expect(() => planServer(problem)).toThrow(
      /no setting meets p95 of 3 ms: the nearest has \d+\.\d ms with 2 engines at \d\.\d\d USD a million requests \(one buffer, batches of/,
    );
  });
});

describe("a plan for functions", () => {
  it("routes sizes to buffers, and does what it says when it is simulated", async () => {
    const profile = profileOf("graph");
    const table = new ProfileTable(profile);
    const { plan, runnersUp } = planForFunctions(profile, table, trace, { ...options, target: "functions" });
    expect(parsePlan(JSON.stringify(plan), "plan.json")).toEqual(plan);
    expect(runnersUp).toHaveLength(3);
    const folder = await mkdtemp(join(tmpdir(), "plan-"));
    onTestFinished(() => rm(folder, { recursive: true }));
    const file = join(folder, "plan.json");
    await writeFile(file, JSON.stringify(plan));
    const settings = { plan: file, engines: 1, maxBatch: 1, timeoutMs: 1, eager: true };
    const seen = summarize(await outcomeOf(profile, table, trace, settings));
    expect(seen.p95 / plan.predicted.latencyMs).toBeCloseTo(1, 0.9);
    expect(seen.usdPerMillion / plan.predicted.usdPerMillion).toBeCloseTo(1, 0.9);
  });

  it("is refused with the field that is wrong", () => {
    expect(() => parsePlan("{", "x.json")).toThrow("plan x.json is not JSON");
    expect(() => parsePlan('{"format":2}', "x.json")).toThrow(
      "plan x.json is not a cellbatch plan at 'format'",
    );
  });
});

describe("a goal", () => {
  it("is a percentile and a time", () => {
    expect(goalOf("p99.9=1.5s")).toEqual({ percentile: 99.9, ms: 1500, perSize: false });
    expect(goalOf("p95=30ms/size")).toEqual({ percentile: 95, ms: 30, perSize: true });
    for (const text of ["95=1ms", "p95=0ms", "p0=1ms", "p100=1s", "p95", "p95=1h"])
      expect(() => goalOf(text)).toThrow("It must be a percentile and a time");
  });
});
