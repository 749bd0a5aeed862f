import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { RecordedType } from "../../src/core/recording.ts";
import { RecordedTimes } from "../../src/replay/recorded-times.ts";
import { type Reproduced, reproduce } from "../../src/replay/reproduce.ts";
import { tallyRecorded, tallyWhatIf } from "../../src/replay/what-if.ts";
import { type Act, anyAct, recorded, taskMs } from "./virtual-engine.ts";

const request: Act = {
  kind: "submit",
  model: 0,
  back: 0,
  steps: 6,
  priority: 5,
  timeoutMs: Number.POSITIVE_INFINITY,
  stream: false,
  waitMs: 0,
};
const GRAPH = 7;

const sessionsOf = async (acts: readonly Act[]): Promise<Reproduced["sessions"]> =>
  (await reproduce([(await recorded(acts)).text])).sessions;

/** Of a task of one row and one step. */
const STEP_MS = taskMs(0, 1, 1);

describe("what would have been", () => {
  it("is what was, with the same settings, to a few batches", async () => {
    const kinds = ["submit", "push", "end", "cancel"];
    const totals = { batches: 0, differing: 0, latencyMs: 0, latencyOff: 0 };
    await fc.assert(
      fc.asyncProperty(fc.array(anyAct, { minLength: 1, maxLength: 40 }), async (all) => {
        const sessions = await sessionsOf(all.filter(({ kind }) => kinds.includes(kind)));
        const [was, again] = [tallyRecorded(sessions), tallyWhatIf(sessions, {})].map((tally) =>
          tally.figures(),
        );
        expect(again!.requests).toBe(was!.requests);
        totals.batches += was!.batches;
        totals.differing += Math.abs(again!.batches - was!.batches);
        totals.latencyMs += was!.latencyMs.p95;
        totals.latencyOff += Math.abs(again!.latencyMs.p95 - was!.latencyMs.p95);
      }),
      { numRuns: 200, seed: 1 },
    );
    expect(totals.batches).toBeGreaterThan(500);
    expect(totals.differing).toBeLessThan(totals.batches / 100);
    expect(totals.latencyOff).toBeLessThan(totals.latencyMs / 50);
  });

  it("is one request after the other where a task has one row", async () => {
    const sessions = await sessionsOf([request, request, request]);
    const was = tallyRecorded(sessions).figures();
    expect(was).toMatchObject({ requests: 3, meanRows: 3, busy: 1 });
    const { requests, batches, meanRows, latencyMs } = tallyWhatIf(sessions, { maxBatch: 1 }).figures();
    expect({ requests, meanRows }).toEqual({ requests: 3, meanRows: 1 });
    expect(batches).toBeGreaterThan(was.batches);
    expect(latencyMs.p50).toBeCloseTo(2 * 6 * STEP_MS, 2);
    expect(latencyMs.p99).toBeCloseTo(3 * 6 * STEP_MS, 2);
  });

  it("divides requests among more engines than there were", async () => {
    const sessions = await sessionsOf(Array.from({ length: 4 }, () => request));
    const { meanRows, latencyMs, busy } = tallyWhatIf(sessions, { engines: 4 }).figures();
    expect(meanRows).toBe(1);
    expect(busy).toBeCloseTo(1, 3);
    expect(latencyMs.p99).toBeCloseTo(6 * STEP_MS, 2);
    expect(tallyWhatIf(sessions, { engines: 8 }).figures().busy).toBeCloseTo(0.5, 3);
  });

  it("lets requests wait for each other where they come faster", async () => {
    const apart = { ...request, waitMs: 20 };
    const sessions = await sessionsOf([apart, apart, apart]);
    expect(tallyRecorded(sessions).figures().meanRows).toBe(1);
    const faster = tallyWhatIf(sessions, { speed: 10 }).figures();
    expect(faster.meanRows).toBeGreaterThan(1);
    expect(faster.latencyMs.p99).toBeGreaterThan(6 * STEP_MS);
    expect(tallyWhatIf(sessions, { speed: 0.5 }).figures().requestsPerSecond).toBeCloseTo(
      3000 / (80 + 6 * STEP_MS),
      2,
    );
  });

  it("serves who came first or who are most, as a policy has it", async () => {
    const other = { ...request, model: 4 };
    const sessions = await sessionsOf([request, other, other, other, other]);
    const [oldest, fullest] = (["oldest", "fullest"] as const).map((policy) =>
      tallyWhatIf(sessions, { policy }).figures(),
    );
    expect(oldest!.batches).toBe(fullest!.batches);
    // The one that came first is served before the four, or behind them.
    expect(oldest!.latencyMs.p50).toBe(oldest!.latencyMs.p99);
    expect(fullest!.latencyMs.p50).toBeCloseTo(6 * taskMs(0, 4, 1), 2);
    expect(fullest!.latencyMs.p99).toBeCloseTo(6 * (taskMs(0, 4, 1) + STEP_MS), 2);
  });

  it("makes smaller batches of whole requests", async () => {
    const whole = { ...request, model: GRAPH, steps: 3 };
    const sessions = await sessionsOf(Array.from({ length: 6 }, () => whole));
    expect(tallyRecorded(sessions).figures()).toMatchObject({ requests: 6, batches: 2, meanRows: 3 });
    const { requests, batches, latencyMs } = tallyWhatIf(sessions, { maxBatch: 1 }).figures();
    expect({ requests, batches }).toEqual({ requests: 6, batches: 6 });
    // 3 rows of 3 steps took 9 / 8 ms.
    expect(latencyMs.p99).toBeCloseTo((6 * 3) / 8, 2);
  });

  it("leaves out what had not ended when the server was killed", async () => {
    const { text } = await recorded([request, { ...request, steps: 9 }]);
    const torn = text.slice(0, text.lastIndexOf("\nb "));
    const { sessions } = await reproduce([`${torn}\n`]);
    expect(tallyRecorded(sessions).figures().requests).toBe(1);
  });
});

describe("recorded times", () => {
  const type: RecordedType = { name: "m/cell", family: 0, priority: 0, maxBatch: 64 };
  const batch = (rows: number, us: number, steps = 1, size = 0) => ({
    name: "m/cell",
    ...{ rows, steps, size },
    ...{ beginUs: 0, endUs: us, untilNextUs: 2 * rows },
  });

  it("come again in the order in which they were, and on lines between the sizes that ran", () => {
    const times = new RecordedTimes([batch(2, 100), batch(2, 120), batch(6, 190)]);
    expect([2, 2, 2, 6, 6].map((rows) => times.cellUs(type, rows, 1))).toEqual([100, 120, 100, 190, 190]);
    expect([3, 3, 5].map((rows) => times.cellUs(type, rows, 1))).toEqual([142, 118, 170]);
    expect([1, 2, 4, 9].map((rows) => times.untilNextUs(rows))).toEqual([4, 4, 8, 12]);
  });

  it("grow beyond the sizes that ran as the measured curve does, else in proportion", () => {
    const times = new RecordedTimes([batch(4, 100)]);
    expect(times.cellUs(type, 8, 1)).toBe(200);
    const cost = [
      [1, 0.01],
      [4, 0.02],
      [8, 0.03],
    ] as const;
    expect([1, 8, 16].map((rows) => times.cellUs({ ...type, cost }, rows, 1))).toEqual([50, 150, 300]);
  });

  it("of other numbers of steps follow from the nearest that ran", () => {
    const times = new RecordedTimes([batch(1, 100), batch(1, 300, 4)]);
    expect([1, 2, 4, 8].map((steps) => times.cellUs(type, 1, steps))).toEqual([100, 200, 300, 600]);
  });

  it("are those of the load for a cell that never ran", () => {
    const cost = [
      [1, 0.5],
      [2, 0.7],
    ] as const;
    expect(new RecordedTimes([]).cellUs({ ...type, cost }, 2, 3)).toBe(2100);
  });

  it("of whole graphs go by rows times the largest", () => {
    const times = new RecordedTimes([batch(2, 100, 1, 10), batch(4, 500, 1, 20)]);
    expect(times.graphUs("m/cell", 2, 25)).toBe(300);
    expect(times.graphUs("m/cell", 8, 20)).toBe(1000);
  });
});
