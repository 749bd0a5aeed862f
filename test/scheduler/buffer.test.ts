import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { BufferSet, type BufferSetOptions, type BufferSettings } from "../../scheduler/buffer.ts";

const ONE: BufferSettings = { maxBatch: 3, timeoutMs: 10, sizes: [0, 100] };

describe("a buffer", () => {
  it("gives a batch when it is full, at once", () => {
    const set = new BufferSet([ONE]);
    for (const id of [1, 2]) set.add({ id, size: 5 }, 0);
    expect(set.due(0, true)).toBeUndefined();
    set.add({ id: 3, size: 5 }, 1);
    expect(set.nextDue()).toBeLessThanOrEqual(1);
    expect(set.due(1, false)).toEqual({ buffer: 0, ids: [1, 2, 3] });
    expect(set.count).toBe(0);
  });

  it("gives what there is when its first request has waited for the timeout", () => {
    const set = new BufferSet([ONE]);
    set.add({ id: 1, size: 5 }, 4);
    set.add({ id: 2, size: 5 }, 9);
    expect(set.nextDue()).toBe(14);
    expect(set.due(13.9, true)).toBeUndefined();
    expect(set.due(14, false)?.ids).toEqual([1, 2]);
    expect(set.nextDue()).toBe(Number.POSITIVE_INFINITY);
  });

  it("counts the timeout from the first request that has not been cancelled", () => {
    const set = new BufferSet([ONE]);
    set.add({ id: 1, size: 5 }, 0);
    set.add({ id: 2, size: 5 }, 6);
    expect(set.remove(1)).toBe(true);
    expect(set.remove(1)).toBe(false);
    expect(set.nextDue()).toBe(16);
  });

  it("gives any batch to an idle engine where it conserves work", () => {
    const set = new BufferSet([ONE], { workConserving: true });
    set.add({ id: 1, size: 5 }, 0);
    expect(set.due(0, false)).toBeUndefined();
    expect(set.due(0, true)?.ids).toEqual([1]);
  });

  it("takes classes first, then deadlines, then arrivals", () => {
    const set = new BufferSet([{ ...ONE, maxBatch: 5 }]);
    set.add({ id: 1, size: 5 }, 0);
    set.add({ id: 2, size: 5 }, 0);
    set.add({ id: 3, size: 5, deadlineMs: 50 }, 0);
    set.add({ id: 4, size: 5, priority: 1 }, 0);
    set.add({ id: 5, size: 5, priority: 9, deadlineMs: 1 }, 0);
    expect(set.due(0, false)?.ids).toEqual([4, 3, 1, 2, 5]);
  });

  it("says which setting, size or id is wrong", () => {
    expect(() => new BufferSet([])).toThrow("there are no buffers");
    expect(() => new BufferSet([{ ...ONE, maxBatch: 0 }])).toThrow("maxBatch 0");
    expect(() => new BufferSet([{ ...ONE, timeoutMs: Number.NaN }])).toThrow("timeoutMs NaN");
    expect(() => new BufferSet([{ ...ONE, sizes: [4, 4] }])).toThrow("from 4 to 4");
    const set = new BufferSet([ONE]);
    expect(() => set.add({ id: 1, size: 100 }, 0)).toThrow("no buffer takes size 100");
    set.add({ id: 1, size: 5 }, 0);
    expect(() => set.add({ id: 1, size: 5 }, 0)).toThrow("request 1 waits already");
  });
});

describe("several buffers", () => {
  const two: BufferSettings[] = [
    { maxBatch: 4, timeoutMs: 10, sizes: [0, 10] },
    { maxBatch: 4, timeoutMs: 10, sizes: [10, 20] },
  ];
  const filled = (order: NonNullable<BufferSetOptions["order"]>) => {
    const set = new BufferSet(two, { order });
    set.add({ id: 1, size: 12 }, 0);
    for (const id of [2, 3]) set.add({ id, size: 2 }, 1);
    return set;
  };

  it("go in the order that was asked for", () => {
    expect(filled("fullest").due(20, false)?.ids).toEqual([2, 3]);
    expect(filled("oldest").due(20, false)?.ids).toEqual([1]);
    const turns = filled("round-robin");
    expect(turns.due(20, false)?.buffer).toBe(0);
    turns.add({ id: 4, size: 2 }, 1);
    expect(turns.due(20, false)?.buffer).toBe(1);
    expect(turns.due(20, false)?.buffer).toBe(0);
  });

  it("take a request into the one that is named, whatever its size", () => {
    const set = new BufferSet(two);
    set.add({ id: 1, size: 2 }, 0, 1);
    expect([set.countOf(0), set.countOf(1)]).toEqual([0, 1]);
  });
});

/** What may happen to a set of buffers, one thing after the other. */
const happenings = fc.array(
  fc.oneof(
    {
      weight: 4,
      arbitrary: fc.record({
        kind: fc.constant("add" as const),
        size: fc.nat(29),
        priority: fc.integer({ min: 1, max: 9 }),
      }),
    },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant("remove" as const), id: fc.nat(200) }) },
    {
      weight: 2,
      arbitrary: fc.record({
        kind: fc.constant("wait" as const),
        ms: fc.double({ min: 0, max: 8, noNaN: true }),
      }),
    },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant("ask" as const), isIdle: fc.boolean() }) },
  ),
  { maxLength: 200 },
);

describe("any sequence of arrivals, cancellations and batches", () => {
  const settings = fc.record({
    maxBatch: fc.integer({ min: 1, max: 6 }),
    timeoutMs: fc.integer({ min: 0, max: 20 }),
    order: fc.constantFrom("fullest" as const, "oldest" as const, "round-robin" as const),
    workConserving: fc.boolean(),
  });

  it("loses and doubles nobody, keeps sizes and bounds, and leaves nobody waiting past the timeout", () => {
    fc.assert(
      fc.property(settings, happenings, ({ maxBatch, timeoutMs, ...options }, list) => {
        const set = new BufferSet(
          [0, 10, 20].map((from) => ({ maxBatch, timeoutMs, sizes: [from, from + 10] as const })),
          options,
        );
        const waiting = new Map<number, { readonly size: number; readonly since: number }>();
        let now = 0;
        let next = 0;
        for (const one of list) {
          if (one.kind === "add") {
            set.add({ id: next, size: one.size, priority: one.priority }, now);
            waiting.set(next++, { size: one.size, since: now });
          } else if (one.kind === "remove") expect(set.remove(one.id)).toBe(waiting.delete(one.id));
          else if (one.kind === "wait") now += one.ms;
          else {
            const batch = set.due(now, one.isIdle);
            const late = [...waiting.values()].some(({ since }) => since + timeoutMs <= now);
            if (late || (one.isIdle && options.workConserving && waiting.size > 0))
              expect(batch).toBeDefined();
            for (const id of batch?.ids ?? []) {
              const { size } = waiting.get(id)!;
              expect(Math.floor(size / 10)).toBe(batch!.buffer);
              waiting.delete(id);
            }
            expect(batch?.ids.length ?? 1).toBeGreaterThan(0);
            expect(batch?.ids.length ?? 0).toBeLessThanOrEqual(maxBatch);
          }
          expect(set.count).toBe(waiting.size);
          const counts = [0, 1, 2].map(
            (i) => [...waiting.values()].filter(({ size }) => Math.floor(size / 10) === i).length,
          );
          const oldest = Math.min(...[...waiting.values()].map(({ since }) => since + timeoutMs));
          expect(set.nextDue()).toBe(
            counts.some((count) => count >= maxBatch) ? Number.NEGATIVE_INFINITY : oldest,
          );
        }
      }),
    );
  });
});
