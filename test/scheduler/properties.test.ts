import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type PolicyName, policies } from "../../scheduler/policy.ts";
import { Scheduler, type Task } from "../../scheduler/scheduler.ts";

/** One run of cells in a random request graph; `after` counts back within its request. */
interface Part {
  readonly type: number;
  readonly steps: number;
  readonly after: readonly number[];
}

interface Arrival {
  readonly parts: readonly Part[];
  readonly priority: number;
  /** Tasks that are formed before it comes. */
  readonly wait: number;
  readonly fate: "runs" | "cancelled" | "stops early" | "pauses";
  /** Tasks between its coming and its fate. */
  readonly until: number;
}

const part = fc.record({
  type: fc.nat(2),
  steps: fc.integer({ min: 1, max: 6 }),
  after: fc.uniqueArray(fc.integer({ min: 1, max: 3 }), { maxLength: 2 }),
});

const arrival: fc.Arbitrary<Arrival> = fc.record({
  parts: fc.array(part, { minLength: 1, maxLength: 5 }),
  priority: fc.constantFrom(1, 5, 5, 5, 9),
  wait: fc.nat(3),
  fate: fc.constantFrom("runs", "runs", "cancelled", "stops early", "pauses"),
  until: fc.nat(6),
});

const scene = fc.record({
  arrivals: fc.array(arrival, { minLength: 1, maxLength: 12 }),
  maxBatch: fc.tuple(
    fc.integer({ min: 1, max: 4 }),
    fc.integer({ min: 1, max: 4 }),
    fc.integer({ min: 1, max: 4 }),
  ),
  workers: fc.integer({ min: 1, max: 3 }),
  maxTasksToSubmit: fc.integer({ min: 1, max: 4 }),
  stepSizes: fc.constantFrom([1], [1, 2, 4]),
  policy: fc.constantFrom(...(Object.keys(policies) as PolicyName[])),
});

/** What a subgraph must not do, kept apart from the scheduler in plain objects. */
interface Shadow {
  readonly part: Part;
  readonly before: readonly Shadow[];
  readonly priority: number;
  id: number;
  submitted: number;
  inFlight: number;
  worker: number;
  done: boolean;
  gone: boolean;
  paused: boolean;
}

describe("the scheduler, whatever comes", () => {
  it("runs every cell once, after its inputs, in tasks of one type that fit, on one worker at a time", () => {
    fc.assert(
      fc.property(scene, ({ arrivals, maxBatch, workers, maxTasksToSubmit, stepSizes, policy }) => {
        const scheduler = new Scheduler({
          types: maxBatch.map((most, type) => ({
            name: `t${type}`,
            family: type % 2,
            priority: type,
            maxBatch: most,
            stepSizes,
            maxStepRows: 2,
          })),
          policy: policies[policy],
          workers,
          maxTasksToSubmit,
        });
        const shadows: Shadow[] = [];
        const byId = new Map<number, Shadow>();
        const timeline: { at: number; act: () => void }[] = [];
        let now = 0;
        let at = 0;
        arrivals.forEach(({ parts, priority, wait, fate, until }, arrivalNumber) => {
          at += wait;
          const mine: Shadow[] = [];
          timeline.push({
            at,
            act: () => {
              for (const [i, one] of parts.entries()) {
                const before = one.after.filter((back) => back <= i).map((back) => mine[i - back]!);
                const shadow: Shadow = {
                  part: one,
                  before,
                  priority,
                  id: -1,
                  submitted: 0,
                  inFlight: 0,
                  worker: -1,
                  done: false,
                  gone: false,
                  paused: false,
                };
                shadow.id = scheduler.add({
                  type: one.type,
                  steps: one.steps,
                  priority,
                  deadlineMs: Number.POSITIVE_INFINITY,
                  arrival: arrivalNumber,
                  after: before.filter(({ done }) => !done).map(({ id }) => id),
                });
                byId.set(shadow.id, shadow);
                mine.push(shadow);
                shadows.push(shadow);
              }
            },
          });
          const each = (act: (shadow: Shadow) => void) => () =>
            mine.filter(({ done, gone }) => !done && !gone).forEach(act);
          if (fate === "cancelled") {
            timeline.push({
              at: at + until,
              act: each((shadow) => {
                shadow.gone = true;
                if (scheduler.remove(shadow.id)) byId.delete(shadow.id);
              }),
            });
          }
          if (fate === "stops early") {
            timeline.push({
              at: at + until,
              act: each((shadow) => {
                if (shadow.inFlight === 0) return;
                scheduler.finish(shadow.id);
                shadow.submitted = shadow.part.steps;
              }),
            });
          }
          if (fate === "pauses") {
            const pause = (paused: boolean) =>
              each((shadow) => {
                shadow.paused = paused;
                if (paused) scheduler.pause(shadow.id);
                else scheduler.resume(shadow.id);
              });
            timeline.push({ at: at + until, act: pause(true) }, { at: at + until + 4, act: pause(false) });
          }
        });
        timeline.sort((a, b) => a.at - b.at);

        const queues: Task[][] = Array.from({ length: workers }, () => []);
        const complete = (worker: number) => {
          const task = queues[worker]!.shift();
          if (!task) return;
          const rows = [...task.subgraphs.subarray(0, task.rows)].map((id) => byId.get(id)!);
          for (const shadow of rows) shadow.inFlight--;
          scheduler.complete(task, (id) => {
            const shadow = byId.get(id)!;
            byId.delete(id);
            expect(shadow.inFlight).toBe(0);
            expect(shadow.submitted === shadow.part.steps || shadow.gone).toBe(true);
            shadow.done = true;
          });
        };
        for (let idle = 0; idle < 20; ) {
          while (timeline[0] && timeline[0].at <= now) timeline.shift()!.act();
          let worked = timeline.length > 0;
          for (let worker = 0; worker < workers; worker++) {
            if (queues[worker]!.length === 0) {
              for (const task of scheduler.schedule(worker)) {
                worked = true;
                queues[worker]!.push(task);
                expect(task.rows).toBeGreaterThan(0);
                expect(task.rows).toBeLessThanOrEqual(maxBatch[task.type]!);
                const seen = new Set<Shadow>();
                for (const id of task.subgraphs.subarray(0, task.rows)) {
                  const shadow = byId.get(id)!;
                  expect(shadow.part.type).toBe(task.type);
                  expect(seen.has(shadow)).toBe(false);
                  seen.add(shadow);
                  expect(shadow.gone || shadow.paused).toBe(false);
                  expect(shadow.before.every(({ done }) => done)).toBe(true);
                  if (shadow.inFlight > 0) expect(shadow.worker).toBe(worker);
                  shadow.worker = worker;
                  shadow.inFlight++;
                  shadow.submitted += task.steps;
                  expect(shadow.submitted).toBeLessThanOrEqual(shadow.part.steps);
                }
                expect(seen.size).toBe(task.rows);
              }
            }
            worked ||= queues[worker]!.length > 0;
            if ((now + worker) % 2 === 0) complete(worker);
          }
          now++;
          idle = worked ? 0 : idle + 1;
        }
        for (const { done, gone, before } of shadows)
          expect(done || gone || before.some((one) => one.gone)).toBe(true);
        for (const shadow of shadows) if (!shadow.done && !shadow.gone) scheduler.remove(shadow.id);
        expect(scheduler.size).toBe(0);
        expect(scheduler.ready).toBe(0);
      }),
      { numRuns: 500 },
    );
  });
});
