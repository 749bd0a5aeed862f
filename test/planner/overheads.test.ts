import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { cellularLaneOf } from "../../planner/cellular-lane.ts";
import { idleMs, type Overheads, overheadsOf, typicalOverheads } from "../../planner/overheads.ts";
import { simulateServer } from "../../planner/simulate-server.ts";
import { CostCurve } from "../../scheduler/cost-curve.ts";
import { PublishPace } from "../../scheduler/publish-pace.ts";
import { fitEngine } from "../../src/bench/engine-costs.ts";
import { noOverheads } from "./no-overheads.ts";

const lane = {
  kind: "cellular" as const,
  maxBatch: 8,
  curve: new CostCurve([
    [1, 1],
    [8, 1],
  ]),
};

/** Latencies of requests of so many steps at these times, in milliseconds. */
function latencies(
  times: readonly number[],
  sizes: readonly number[],
  overheads: Partial<Overheads>,
): number[] {
  const trace = { timesMs: Float64Array.from(times), sizes: Float64Array.from(sizes) };
  return [...simulateServer(trace, { lane, overheads: { ...noOverheads, ...overheads } }).latencyMs];
}

describe("what a server adds to its kernels", () => {
  it("is added once to a request, once to a task, and to each row at each step", () => {
    expect(latencies([0], [4], { requestMs: 0.5 })).toEqual([4.5]);
    expect(latencies([0], [4], { taskMs: 0.25 })).toEqual([5]);
    // The first has a task for itself before the second is there.
    expect(latencies([0, 0], [4, 4], { rowMs: 0.25 })).toEqual([5.75, 7]);
  });

  it("is on the way where threads sleep, and not where the engine is awake", () => {
    expect(latencies([0], [4], { hopMs: 1, sizeMs: 0.5 })).toEqual([7]);
    // The second comes while the first runs: it waits for the next task, and for the way back only.
    expect(latencies([0, 1], [4, 4], { hopMs: 1 })).toEqual([5, 5]);
  });

  it("is on the way once for requests of one turn, which come together", () => {
    const task = { hopMs: 1, requestMs: 0.5 };
    // Half of the way there is the turn, in which the second is copied too; both begin in one task.
    expect(latencies([0, 0.2], [2, 2], task)).toEqual([4, 3.8]);
    // The third misses the turn: it waits for the first task to end, and its admission holds up the second.
    expect(latencies([0, 0.2, 0.3], [2, 2, 1], task)).toEqual([4.5, 4.3, 4.2]);
  });

  it("grows with the time that the engine had nothing to do", () => {
    const idle = [
      { afterMs: 1, ms: 0.5 },
      { afterMs: 3, ms: 1 },
    ];
    expect([0, 0.5, 1, 2, 3, 100].map((ms) => idleMs({ ...noOverheads, idle }, ms))).toEqual([
      0, 0.25, 0.5, 0.75, 1, 1,
    ]);
    expect(latencies([2, 5], [1, 1], { idle })).toEqual([1.75, 1.5625]);
  });

  it("holds answers back while the engine is busy, as the engine does", () => {
    // Telling takes 0.02 ms, so that the next is told 0.8 ms later at the earliest, though a task ends before.
    const quick = {
      ...lane,
      curve: new CostCurve([
        [1, 0.25],
        [8, 0.25],
      ]),
    };
    const trace = { timesMs: Float64Array.of(0, 0.1, 0.2), sizes: Float64Array.of(40, 1, 2) };
    const { latencyMs } = simulateServer(trace, {
      lane: quick,
      overheads: { ...noOverheads, publishMs: 0.02 },
    });
    expect(latencyMs[1]).toBeCloseTo(0.42);
    // Its last task ends at 0.77 ms; the first that ends after 1.32 ms does so at 1.52 ms.
    expect(latencyMs[2]).toBeCloseTo(1.34);
  });

  it("is what typical servers add where a profile does not say", () => {
    expect(overheadsOf({})).toBe(typicalOverheads);
    const overheads = {
      threads: 1,
      requestUs: 1,
      taskUs: 2,
      rowUs: 3,
      publishUs: 4,
      hopUs: 5,
      sizeUs: 6,
      idle: [{ afterMs: 7, us: 8 }],
    };
    expect(overheadsOf({ overheads })).toEqual({
      requestMs: 0.001,
      taskMs: 0.002,
      rowMs: 0.003,
      publishMs: 0.004,
      hopMs: 0.005,
      sizeMs: 0.006,
      idle: [{ afterMs: 7, ms: 0.008 }],
    });
  });
});

describe("the pace of publishing", () => {
  it("spends a 40th of a busy engine's time, a 160th of a backlogged one's, and believes no long publication", () => {
    const pace = new PublishPace(0.02);
    expect(pace.isDue(-5)).toBe(true);
    pace.published(0, 0.02, false);
    expect([pace.isDue(0.81), pace.isDue(0.83)]).toEqual([false, true]);
    pace.published(1, 1.02, true);
    expect([pace.isDue(4.21), pace.isDue(4.23)]).toEqual([false, true]);
    const slow = new PublishPace(0.04);
    slow.published(10, 60, false);
    expect([slow.isDue(61.59), slow.isDue(61.61)]).toEqual([false, true]);
  });

  it("spends a fifth of the time that the engine would sleep, as it slept of late", () => {
    const dueAfter = (asleepShare: number, busyMs: number) => {
      const pace = new PublishPace(0.02);
      for (let ms = 0; ms < 1000; ms++) pace.slept(ms + 1 - asleepShare, ms + 1);
      const nowMs = 1000 + busyMs;
      pace.published(nowMs - 0.02, nowMs, false);
      let laterMs = 0;
      while (!pace.isDue(nowMs + laterMs)) laterMs += 0.001;
      return laterMs;
    };
    // It sleeps at the end of each millisecond, which counts a little more than its middle.
    expect(dueAfter(0.5, 0)).toBeCloseTo(0.02 / (0.2 * 0.503), 2);
    expect(dueAfter(0.25, 0)).toBeCloseTo(0.02 / (0.2 * 0.252), 2);
    // What it slept is forgotten in some 40 ms of work, and a 40th is left.
    expect(dueAfter(0.5, 40)).toBeCloseTo(0.02 / (0.2 * 0.503 * Math.exp(-1)), 2);
    expect(dueAfter(0.5, 400)).toBeCloseTo(0.8, 2);
    expect(dueAfter(0, 0)).toBeCloseTo(0.8, 2);
  });

  it("does not spend spare time while requests wait for room in a task", () => {
    const pace = new PublishPace(0.02);
    pace.slept(0, 100);
    pace.published(100, 100.02, true);
    expect([pace.isDue(103.21), pace.isDue(103.23)]).toEqual([false, true]);
  });
});

describe("the costs of an engine", () => {
  const shapes = [1, 4, 16].flatMap((requests) =>
    [4, 24].map((size) => ({ requests, tasks: size, rows: requests * size, kernelUs: size * 30 })),
  );

  it("are found again from what they add up to", () => {
    const cost = fc.double({ min: 0, max: 50, noNaN: true });
    fc.assert(
      fc.property(cost, cost, cost, (requestUs, taskUs, rowUs) => {
        const samples = shapes.map((shape) => ({
          ...shape,
          us: shape.requests * requestUs + shape.tasks * taskUs + shape.rows * rowUs,
        }));
        const found = fitEngine(samples);
        expect(found.requestUs).toBeCloseTo(requestUs, 4);
        expect(found.taskUs).toBeCloseTo(taskUs, 4);
        expect(found.rowUs).toBeCloseTo(rowUs, 4);
      }),
    );
  });

  it("are never negative, whatever was measured", () => {
    const us = fc.array(fc.double({ min: -100, max: 1000, noNaN: true }), { minLength: 6, maxLength: 6 });
    fc.assert(
      fc.property(us, (list) => {
        const found = fitEngine(shapes.map((shape, i) => ({ ...shape, us: list[i]! })));
        for (const value of Object.values(found)) expect(value).toBeGreaterThanOrEqual(0);
      }),
    );
  });
});

describe("a profiled cell in a simulation", () => {
  const setting = (stepsPerCall: number, us: (rows: number) => number, most: number) => ({
    threads: 1,
    stepsPerCall,
    points: [1, 2, 4, 8].filter((rows) => rows <= most).map((rows) => ({ rows, us: us(rows), spreadUs: 0 })),
  });

  it("takes several steps a call for as many rows as an engine would, and no call that is too long", () => {
    const settings = [
      setting(1, () => 100, 8),
      // Pays for up to 2 rows.
      setting(4, (rows) => (rows <= 2 ? 200 : 400), 8),
      setting(8, (rows) => (rows <= 2 ? 400 : 800), 8),
      setting(16, () => 800, 4),
    ];
    const profile = { model: { name: "m" }, cells: [{ cell: "c", lane: "cellular" as const, settings }] };
    const found = cellularLaneOf(profile, { maxBatch: 64 });
    expect(found).toMatchObject({ maxBatch: 8, maxStepRows: 2 });
    // 16 steps of 50 us are longer than the 0.6 ms that a request which joins may wait.
    expect(found.multiStep?.map(({ steps }) => steps)).toEqual([4, 8]);
  });
});
