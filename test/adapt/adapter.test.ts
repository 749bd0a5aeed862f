import { describe, expect, it } from "vitest";
import { mmpp, poissonProcess } from "../../planner/arrival-process.ts";
import { DriftTest } from "../../planner/drift.ts";
import { arrivalTimes } from "../../planner/synthesis.ts";
import { gapsOf } from "../../planner/trace.ts";
import { Adapter, type Decision } from "../../src/adapt/adapter.ts";
import { observed } from "../../src/adapt/observed.ts";
import { planInThread, type Replanned } from "../../src/adapt/plan-thread.ts";
import { ManualClock } from "../../src/core/clock.ts";
import { Fault } from "../../src/core/faults.ts";
import type { Profile } from "../../src/core/profile.ts";
import type { BufferChange, Runtime } from "../../src/runtime/types.ts";

const gaps = (perSecond: number, seconds: number, seed: number) =>
  gapsOf(arrivalTimes({ kind: "poisson", perSecond }, seconds, seed));

describe("a test for drift", () => {
  const alarmAfter = (test: DriftTest, list: Float64Array) =>
    list.findIndex((gap) => test.arrived(gap) !== undefined);

  it("stays quiet while requests come as planned, bursts included", () => {
    expect(alarmAfter(new DriftTest(poissonProcess(50)), gaps(50, 1000, 1))).toBe(-1);
    const bursty = mmpp(
      [100, 10],
      [
        [0, 5],
        [5, 0],
      ],
    );
    const list = gapsOf(arrivalTimes({ kind: "map", process: bursty }, 1000, 2));
    expect(alarmAfter(new DriftTest(bursty), list)).toBe(-1);
  });

  it("notices twice and half the rate within some hundred requests, and which it is", () => {
    for (const [rate, direction] of [
      [100, "more"],
      [25, "fewer"],
    ] as const) {
      const test = new DriftTest(poissonProcess(50));
      const list = gaps(rate, 20, 3);
      const at = alarmAfter(test, list);
      expect(at).toBeGreaterThan(10);
      expect(at).toBeLessThan(200);
      expect(test.arrived(list[at]!)!.direction).toBe(direction);
    }
  });
});

const running: BufferChange = { buffers: [{ maxBatch: 4, timeoutMs: 50 }], eager: false };
const other: Replanned = { buffers: [{ maxBatch: 16, timeoutMs: 20 }], eager: true, latencyMs: 42 };

function adapt(plan: (rate: number) => Promise<Replanned>) {
  const clock = new ManualClock();
  const swaps: BufferChange[] = [];
  const decisions: Decision[] = [];
  const adapter = new Adapter({
    model: "m",
    planned: poissonProcess(50),
    running,
    clock,
    plan: ({ timesMs }) => plan((1000 * timesMs.length) / timesMs.at(-1)!),
    swap: (change) => swaps.push(change),
    decided: (decision) => decisions.push(decision),
  });
  const come = async (perSecond: number, seconds: number, seed: number) => {
    for (const gap of gaps(perSecond, seconds, seed)) {
      clock.advance(gap);
      adapter.arrived(7);
      await adapter.settled();
    }
  };
  return { adapter, come, swaps, decisions };
}

describe("an adapter", () => {
  it("plans for what comes now, swaps the buffers once, and says why", async () => {
    const rates: number[] = [];
    const { come, swaps, decisions } = adapt(async (rate) => {
      rates.push(rate);
      return other;
    });
    await come(50, 60, 1);
    expect(decisions).toEqual([]);
    await come(150, 60, 2);
    expect(swaps).toEqual([other]);
    expect(decisions).toHaveLength(1);
    expect(decisions[0]).toMatchObject({
      action: "swapped",
      before: running,
      buffers: other.buffers,
      eager: true,
      predictedMs: 42,
    });
    expect(decisions[0]!.reason).toMatch(
      /^1\d\d\.\d requests a second came, more than the 50\.0 that were planned for \(looks Poisson/,
    );
    expect(rates[0]! / 150).toBeCloseTo(1, 0.7);
    await come(40, 60, 3);
    expect(decisions.at(-1)!.reason).toContain("fewer than");
  });

  it("keeps the buffers where the plan is the same or no plan meets the goal", async () => {
    const same = adapt(async () => ({ ...running, latencyMs: 30 }));
    await same.come(150, 20, 1);
    expect(same.swaps).toEqual([]);
    expect(same.decisions).toMatchObject([{ action: "kept", buffers: running.buffers }]);
    const none = adapt(() =>
      Promise.reject(new Fault("INVALID_REQUEST", "no setting meets p95 of 3 ms: the nearest")),
    );
    await none.come(150, 20, 1);
    expect(none.swaps).toEqual([]);
    expect(none.decisions).toMatchObject([{ action: "infeasible", buffers: running.buffers }]);
    expect(none.decisions[0]!.reason).toContain("no setting meets p95 of 3 ms");
  });
});

const profile: Profile = {
  format: 1,
  kind: "cellbatch.profile",
  model: { name: "m", version: "1", digest: "d" },
  machine: { cpu: "c", cores: 2, node: "20", onnxruntime: "1" },
  measuredAt: "2026-01-01T00:00:00Z",
  cells: [
    {
      cell: "graph",
      lane: "graph",
      settings: [
        {
          threads: 1,
          stepsPerCall: 1,
          size: 20,
          points: [1, 8].map((rows) => ({ rows, us: 5000 + 500 * rows, spreadUs: 1 })),
        },
      ],
    },
  ],
};

describe("a plan on a thread", () => {
  const timesMs = arrivalTimes({ kind: "poisson", perSecond: 100 }, 10, 4);
  const trace = { timesMs, sizes: timesMs.map(() => 10) };
  const replan = {
    profile,
    cell: "graph",
    threads: 1,
    trace,
    goal: { percentile: 95, ms: 100 },
    engines: 1,
    buffers: [1],
  };

  it("is that of the planner, or its fault", { timeout: 60_000 }, async () => {
    const plan = await planInThread(replan, new AbortController().signal);
    expect(plan.latencyMs).toBeLessThanOrEqual(100);
    expect(plan.buffers).toHaveLength(1);
    const tight = { ...replan, goal: { percentile: 95, ms: 1 } };
    await expect(planInThread(tight, new AbortController().signal)).rejects.toMatchObject({
      code: "INVALID_REQUEST",
    });
  });

  it("ends when it is aborted", { timeout: 60_000 }, async () => {
    const given = new AbortController();
    const plan = planInThread(replan, given.signal);
    given.abort();
    await expect(plan).rejects.toMatchObject({ code: "CANCELLED" });
  });
});

describe("a runtime that is observed", () => {
  it("tells of each request that is submitted, and is the runtime in all else", () => {
    class Counting {
      #submitted = 0;
      submit() {
        this.#submitted++;
      }
      stats() {
        return { submitted: this.#submitted };
      }
    }
    const seen: [string, number][] = [];
    const runtime = observed(new Counting() as unknown as Runtime, (...one) => seen.push(one));
    runtime.submit("m", { text: "four" }, {}, { done: () => {}, failed: () => {} });
    expect(seen).toEqual([["m", 4]]);
    expect(runtime.stats()).toEqual({ submitted: 1 });
  });
});
