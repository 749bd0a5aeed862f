import { policies } from "../../scheduler/policy.ts";
import { Scheduler } from "../../scheduler/scheduler.ts";
import { Random } from "../../src/core/random.ts";
import { cellMs, MAX_TASKS, start } from "./chains.ts";
import type { Server } from "./drive.ts";

/** A binary tree in post-order: children before parents, the root last. */
export interface Tree {
  readonly leaves: number;
  /** Two children per node; -1 at a leaf. */
  readonly left: Int16Array;
  readonly right: Int16Array;
  /** Nodes by height; index 0 is the leaves. */
  readonly levels: Int32Array;
}

/** Most rows of a task of the cellular server, and most trees that a merging server takes at a time. */
const TREE_BATCH = 64;
/** A merged level is cut into tasks of at most this many rows. */
const LEVEL_BATCH = 512;
const TASK_MS = 0.06;

/** Random trees as large and as deep as the parses of the Stanford Sentiment TreeBank. */
export function randomTrees(count: number, seed: number): Tree[] {
  const random = new Random(seed + 2000);
  return Array.from({ length: count }, () => {
    for (;;) {
      const leaves = Math.round(17.9 + 10.4 * random.normal());
      if (leaves >= 2 && leaves <= 56) return randomTree(leaves, random);
    }
  });
}

function randomTree(leaves: number, random: Random): Tree {
  const nodes = 2 * leaves - 1;
  const left = new Int16Array(nodes).fill(-1);
  const right = new Int16Array(nodes).fill(-1);
  const heights: number[] = [];
  let next = 0;
  const grow = (size: number): number => {
    if (size === 1) {
      heights[next] = 0;
      return next++;
    }
    const first = random.uniform() < ONE_LEAF_SHARE ? 1 : random.integer(1, size - 1);
    const a = grow(first);
    const b = grow(size - first);
    left[next] = a;
    right[next] = b;
    heights[next] = 1 + Math.max(heights[a]!, heights[b]!);
    return next++;
  };
  const root = grow(leaves);
  const levels = new Int32Array(heights[root]! + 1);
  for (const height of heights) levels[height]!++;
  return { leaves, left, right, levels };
}

/** Share of inner nodes with a single word on one side: fitted to the mean depth. */
const ONE_LEAF_SHARE = 0.55;

/** The scheduler of this repository: every node is released when its children are done. */
export function cellularTrees(trees: readonly Tree[]): Server {
  const scheduler = new Scheduler({
    types: [
      { name: "leaf", priority: 0, maxBatch: TREE_BATCH, minBatch: TREE_BATCH },
      { name: "inner", priority: 1, maxBatch: TREE_BATCH, minBatch: TREE_BATCH },
    ],
    policy: policies.cellular,
    maxTasksToSubmit: MAX_TASKS,
  });
  const requestOf: number[] = [];
  return {
    arrive(request) {
      const { left, right } = trees[request % trees.length]!;
      const ids = new Int32Array(left.length);
      for (let node = 0; node < left.length; node++) {
        const after = left[node]! < 0 ? [] : [ids[left[node]!]!, ids[right[node]!]!];
        const type = after.length === 0 ? 0 : 1;
        const id = scheduler.add({
          type,
          steps: 1,
          priority: 1,
          deadlineMs: Number.POSITIVE_INFINITY,
          arrival: request,
          after,
        });
        ids[node] = id;
        requestOf[id] = request;
      }
    },
    work(nowMs, journal) {
      const tasks = scheduler.schedule(0);
      if (tasks.length === 0) return undefined;
      for (const task of tasks) {
        start(
          journal,
          nowMs,
          task.subgraphs.subarray(0, task.rows).map((id) => requestOf[id]!),
        );
        nowMs += cellMs(task.rows) + TASK_MS;
        // The root ends last, so the last write is the answer.
        scheduler.complete(task, (id) => {
          journal.endMs[requestOf[id]!] = nowMs;
        });
      }
      return nowMs;
    },
  };
}

/** Merges the graphs of the trees that wait, at a cost per node, then runs them level by level; nobody joins. */
export function mergedTrees(trees: readonly Tree[], buildMsPerNode: number): Server {
  let waiting: number[] = [];
  return {
    arrive(request) {
      waiting.push(request);
    },
    work(nowMs, journal) {
      if (waiting.length === 0) return undefined;
      const batch = waiting.slice(0, TREE_BATCH);
      waiting = waiting.slice(TREE_BATCH);
      start(journal, nowMs, batch);
      const levels: number[] = [];
      for (const request of batch) {
        const tree = trees[request % trees.length]!;
        nowMs += tree.left.length * buildMsPerNode;
        tree.levels.forEach((nodes, height) => {
          levels[height] = (levels[height] ?? 0) + nodes;
        });
      }
      for (let rows of levels) {
        for (; rows > 0; rows -= LEVEL_BATCH) nowMs += cellMs(Math.min(rows, LEVEL_BATCH)) + TASK_MS;
      }
      for (const request of batch) journal.endMs[request] = nowMs;
      return nowMs;
    },
  };
}
