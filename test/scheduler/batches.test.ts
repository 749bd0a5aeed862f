import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { policies } from "../../scheduler/policy.ts";
import { Scheduler } from "../../scheduler/scheduler.ts";

/** A binary tree: a leaf, or two children. */
type Tree = readonly [Tree, Tree] | null;

const LEAF = 0;
const NODE = 1;

const tree: fc.Arbitrary<Tree> = fc.letrec<{ tree: Tree }>((tie) => ({
  tree: fc.oneof({ depthSize: "medium" }, fc.constant(null), fc.tuple(tie("tree"), tie("tree"))),
})).tree;

const typesFor = (maxBatch: number) => [
  { name: "first", priority: 0, maxBatch },
  { name: "second", priority: 1, maxBatch },
];

function height(tree: Tree): number {
  return tree ? 1 + Math.max(height(tree[0]), height(tree[1])) : 0;
}

function cells(tree: Tree): number {
  return tree ? 1 + cells(tree[0]) + cells(tree[1]) : 1;
}

function addTree(scheduler: Scheduler, tree: Tree, arrival: number): number {
  const after = tree ? tree.map((child) => addTree(scheduler, child, arrival)) : [];
  return scheduler.add({
    type: tree ? NODE : LEAF,
    steps: 1,
    priority: 5,
    deadlineMs: Number.POSITIVE_INFINITY,
    arrival,
    after,
  });
}

/** Runs everything; answers the number of tasks. */
function drain(scheduler: Scheduler): number {
  let tasks = 0;
  for (let task = scheduler.next(0); task; task = scheduler.next(0)) {
    scheduler.complete(task, () => {});
    tasks++;
  }
  expect(scheduler.size).toBe(0);
  return tasks;
}

/** The least number of batches is the sum over types of the longest chain of that type (ED-Batch, ICML 2023). */
describe("the number of batches", () => {
  it("is the lower bound for a forest that is there at once and fits", () => {
    fc.assert(
      fc.property(fc.array(tree, { minLength: 1, maxLength: 8 }), (forest) => {
        const most = forest.reduce((sum, one) => sum + cells(one), 0);
        const scheduler = new Scheduler({ types: typesFor(most), policy: policies.cellular });
        forest.forEach((one, arrival) => void addTree(scheduler, one, arrival));
        expect(drain(scheduler)).toBe(1 + Math.max(...forest.map(height)));
      }),
    );
  });

  it("is the lower bound for chains that are there at once and fit", () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 20 }), { minLength: 1, maxLength: 12 }), (lengths) => {
        const scheduler = new Scheduler({ types: typesFor(lengths.length), policy: policies.cellular });
        lengths.forEach((steps, arrival) => {
          const deadlineMs = Number.POSITIVE_INFINITY;
          scheduler.add({ type: LEAF, steps, priority: 5, deadlineMs, arrival });
        });
        expect(drain(scheduler)).toBe(Math.max(...lengths));
      }),
    );
  });

  it("stays within the bound and the cells themselves for encoders and decoders in batches of any size", () => {
    const request = fc.tuple(fc.integer({ min: 1, max: 9 }), fc.integer({ min: 1, max: 9 }));
    fc.assert(
      fc.property(
        fc.array(request, { minLength: 1, maxLength: 10 }),
        fc.integer({ min: 1, max: 10 }),
        (requests, maxBatch) => {
          const scheduler = new Scheduler({ types: typesFor(maxBatch), policy: policies.cellular });
          requests.forEach(([encoder, decoder], arrival) => {
            const common = { priority: 5, deadlineMs: Number.POSITIVE_INFINITY, arrival };
            const before = scheduler.add({ type: LEAF, steps: encoder, ...common });
            scheduler.add({ type: NODE, steps: decoder, ...common, after: [before] });
          });
          const tasks = drain(scheduler);
          const longest = (part: 0 | 1) => Math.max(...requests.map((one) => one[part]));
          const sum = (part: 0 | 1) => requests.reduce((total, one) => total + one[part], 0);
          const bound =
            Math.max(longest(0), Math.ceil(sum(0) / maxBatch)) +
            Math.max(longest(1), Math.ceil(sum(1) / maxBatch));
          expect(tasks).toBeGreaterThanOrEqual(bound);
          expect(tasks).toBeLessThanOrEqual(sum(0) + sum(1));
          if (maxBatch >= requests.length) expect(tasks).toBeLessThanOrEqual(longest(0) + sum(1));
        },
      ),
    );
  });
});
