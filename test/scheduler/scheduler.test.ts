import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { CostCurve } from "../../scheduler/cost-curve.ts";
import { PATIENCE, policies } from "../../scheduler/policy.ts";
import { type CellType, Scheduler, type Task } from "../../scheduler/scheduler.ts";

const make = (types: Partial<CellType>[], more: { workers?: number; maxTasksToSubmit?: number } = {}) =>
  new Scheduler({
    types: types.map((type, i) => ({ name: `t${i}`, priority: 0, maxBatch: 4, ...type })),
    policy: policies.cellular,
    ...more,
  });

let arrivals = 0;
const add = (scheduler: Scheduler, steps: number, more: Partial<Parameters<Scheduler["add"]>[0]> = {}) =>
  scheduler.add({
    type: 0,
    steps,
    priority: 5,
    deadlineMs: Number.POSITIVE_INFINITY,
    arrival: arrivals++,
    ...more,
  });

const rowsOf = (task: Task | undefined) => [...(task?.subgraphs.subarray(0, task.rows) ?? [])];

/** Runs the next task to its end. */
function run(scheduler: Scheduler): number[] {
  const task = scheduler.next(0);
  if (task) scheduler.complete(task, () => {});
  return rowsOf(task);
}

describe("rows", () => {
  it("keep their places from task to task; a leaver's place goes to the last", () => {
    const scheduler = make([{}]);
    const [a, b, c] = [add(scheduler, 5), add(scheduler, 1), add(scheduler, 5)];
    expect(run(scheduler)).toEqual([a, b, c]);
    expect(run(scheduler)).toEqual([a, c]);
    const d = add(scheduler, 1);
    expect(run(scheduler)).toEqual([a, c, d]);
  });

  it("join at the next step and wait where there is no place, first come first served", () => {
    const scheduler = make([{ maxBatch: 2 }]);
    const [a, b, c, d] = [add(scheduler, 1), add(scheduler, 2), add(scheduler, 1), add(scheduler, 1)];
    expect(run(scheduler)).toEqual([a, b]);
    expect(run(scheduler)).toEqual([b, c]);
    expect(run(scheduler)).toEqual([d]);
    expect(scheduler.size).toBe(0);
  });

  it("give their places to a higher class at the next step, and come back before later arrivals", () => {
    const scheduler = make([{ maxBatch: 2 }]);
    const [a, b] = [add(scheduler, 3), add(scheduler, 3)];
    run(scheduler);
    const urgent = add(scheduler, 1, { priority: 1 });
    const late = add(scheduler, 1);
    expect(run(scheduler).sort()).toEqual([a, urgent].sort());
    expect(run(scheduler).sort()).toEqual([a, b].sort());
    expect(run(scheduler).sort()).toEqual([b, late].sort());
  });

  it("go by deadline within a class", () => {
    const scheduler = make([{ maxBatch: 1 }]);
    const [late, soon] = [add(scheduler, 1, { deadlineMs: 20 }), add(scheduler, 1, { deadlineMs: 10 })];
    expect([run(scheduler), run(scheduler)]).toEqual([[soon], [late]]);
  });
});

describe("a subgraph", () => {
  it("is released when those before it are done, and not earlier", () => {
    const scheduler = make([{}, { priority: 1 }]);
    const encoder = add(scheduler, 2);
    const decoder = add(scheduler, 2, { type: 1, after: [encoder] });
    expect([run(scheduler), run(scheduler), run(scheduler)]).toEqual([[encoder], [encoder], [decoder]]);
  });

  it("that is open runs what is known, rests, and goes on when it is extended", () => {
    const scheduler = make([{}]);
    const id = add(scheduler, 0, { open: true });
    expect(run(scheduler)).toEqual([]);
    scheduler.extend(id, 1);
    expect(run(scheduler)).toEqual([id]);
    expect(run(scheduler)).toEqual([]);
    scheduler.extend(id, 1);
    expect(scheduler.seal(id)).toBe(false);
    expect(run(scheduler)).toEqual([id]);
    expect(scheduler.size).toBe(0);
  });

  it("that is sealed with nothing left is done at once", () => {
    const scheduler = make([{}]);
    const id = add(scheduler, 0, { open: true });
    expect(scheduler.seal(id)).toBe(true);
    scheduler.settle(id);
    expect(scheduler.size).toBe(0);
  });

  it("that ends early while its task runs is reported done by that task", () => {
    const scheduler = make([{}]);
    const id = add(scheduler, 10, { stepsAhead: false });
    const task = scheduler.next(0)!;
    expect(scheduler.finish(id)).toBe(false);
    const done: number[] = [];
    scheduler.complete(task, (one) => done.push(one));
    expect(done).toEqual([id]);
    expect(scheduler.size).toBe(0);
  });

  it("that is removed never runs again and leaves no trace, thousands of times over", () => {
    const scheduler = make([{}]);
    const stays = add(scheduler, 1);
    for (let i = 0; i < 20_000; i++) scheduler.remove(add(scheduler, 3));
    expect(run(scheduler)).toEqual([stays]);
    expect([scheduler.size, scheduler.ready]).toEqual([0, 0]);
  });
});

describe("Algorithm 1", () => {
  it("takes a full type before a later one, and the later one where none is full", () => {
    const scheduler = make([{ maxBatch: 2 }, { maxBatch: 2, priority: 1 }]);
    const [a, b] = [add(scheduler, 1), add(scheduler, 1)];
    const later = add(scheduler, 1, { type: 1 });
    const one = add(scheduler, 1);
    expect(run(scheduler)).toEqual([a, b]);
    expect(run(scheduler)).toEqual([later]);
    expect(run(scheduler)).toEqual([one]);
  });

  it("lets models take turns, so that one at saturation does not starve another", () => {
    const scheduler = make([
      { maxBatch: 1, family: 0 },
      { maxBatch: 4, family: 1 },
    ]);
    for (let i = 0; i < 50; i++) add(scheduler, 1);
    const rare = add(scheduler, 1, { type: 1 });
    const order = Array.from({ length: PATIENCE + 1 }, () => run(scheduler)[0]);
    expect(order).toContain(rare);
  });

  it("does not let decoders keep encoders waiting for ever", () => {
    const scheduler = make([{ maxBatch: 8 }, { maxBatch: 8, priority: 1 }]);
    add(scheduler, 1000, { type: 1 });
    const encoder = add(scheduler, 1);
    const order = Array.from({ length: PATIENCE + 1 }, () => run(scheduler)[0]);
    expect(order).toContain(encoder);
  });

  it("submits up to maxTasksToSubmit tasks of one type, each a step further", () => {
    const scheduler = make([{}], { maxTasksToSubmit: 3 });
    const id = add(scheduler, 5);
    const tasks = scheduler.schedule(0);
    expect(tasks.map(rowsOf)).toEqual([[id], [id], [id]]);
    for (const task of tasks) scheduler.complete(task, () => {});
    expect(scheduler.schedule(0)).toHaveLength(2);
  });
});

describe("several workers", () => {
  it("share rows that are not in flight, and never take one that is", () => {
    const scheduler = make([{}], { workers: 2 });
    const id = add(scheduler, 3);
    const task = scheduler.next(0)!;
    expect(scheduler.next(1)).toBeUndefined();
    scheduler.complete(task, () => {});
    expect(rowsOf(scheduler.next(1))).toEqual([id]);
  });
});

describe("several steps per call", () => {
  it("are taken where rows are few and all of them know that much input", () => {
    const scheduler = make([{ stepSizes: [1, 2, 4, 8], maxStepRows: 2 }]);
    add(scheduler, 7);
    add(scheduler, 11);
    const steps: number[] = [];
    for (let task = scheduler.next(0); task; task = scheduler.next(0)) {
      steps.push(task.steps);
      scheduler.complete(task, () => {});
    }
    expect(steps).toEqual([4, 2, 1, 4]);
  });

  it("are not taken by a run that makes its own input", () => {
    const scheduler = make([{ stepSizes: [1, 2, 4], maxStepRows: 2 }]);
    add(scheduler, 4, { stepsAhead: false });
    expect(scheduler.next(0)!.steps).toBe(1);
  });
});

describe("the cost curve", () => {
  const stairs = new CostCurve(
    Array.from({ length: 24 }, (_, i) => [i + 1, Math.ceil((i + 1) / 6)] as const),
  );

  it("cuts a small batch at the row quantum where that pays, and never delays it", () => {
    expect([1, 5, 6, 7, 8, 12, 13].map((ready) => stairs.cut(ready))).toEqual([1, 5, 6, 6, 6, 12, 12]);
  });

  it("finds the knee among the rows that were measured, where more gain little", () => {
    const curve = new CostCurve([
      [1, 1],
      [10, 1.5],
      [90, 9.2],
      [100, 10],
    ]);
    expect(curve.knee(0.97)).toBe(90);
    expect(curve.knee(0.5)).toBe(10);
    expect(stairs.knee(1)).toBe(6);
  });

  it("puts the knee at more rows where a task costs something besides its kernel", () => {
    const curve = new CostCurve([
      [1, 0.01],
      [8, 0.08],
      [64, 0.64],
      [512, 5.12],
    ]);
    expect(curve.knee(0.97)).toBe(1);
    expect(curve.knee(0.97, 0.012)).toBe(64);
    expect(curve.knee(0.97, 0.12)).toBe(512);
  });

  it("must begin at one row", () => {
    expect(() => new CostCurve([[2, 1]])).toThrow(/begins at 1 row, not 2/);
  });
});

describe("the number of batches", () => {
  it("for requests that are all there meets the lower bound of ED-Batch: the longest chain of each type", () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.integer({ min: 1, max: 9 }), fc.integer({ min: 1, max: 9 })), {
          minLength: 1,
          maxLength: 20,
        }),
        (pairs) => {
          const scheduler = make([{ maxBatch: 64 }, { maxBatch: 64, priority: 1 }]);
          for (const [encode, decode] of pairs)
            add(scheduler, decode, { type: 1, after: [add(scheduler, encode)] });
          const batches = [0, 0];
          for (let task = scheduler.next(0); task; task = scheduler.next(0)) {
            batches[task.type]!++;
            scheduler.complete(task, () => {});
          }
          const longest = (part: 0 | 1) => Math.max(...pairs.map((pair) => pair[part]));
          expect(batches[0]).toBeGreaterThanOrEqual(longest(0));
          expect(batches[1]).toBeGreaterThanOrEqual(longest(1));
          const alone = pairs.reduce((sum, [encode, decode]) => sum + encode + decode, 0);
          expect(batches[0]! + batches[1]!).toBeLessThanOrEqual(alone);
          if (pairs.every(([encode]) => encode === pairs[0]![0]))
            expect(batches).toEqual([longest(0), longest(1)]);
        },
      ),
    );
  });

  it("for chains of one type is exactly the longest", () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 30 }), { minLength: 1, maxLength: 60 }), (lengths) => {
        const scheduler = make([{ maxBatch: 64 }]);
        for (const steps of lengths) add(scheduler, steps);
        let batches = 0;
        while (run(scheduler).length > 0) batches++;
        expect(batches).toBe(Math.max(...lengths));
      }),
    );
  });
});
