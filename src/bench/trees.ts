import type { ModelDefinition } from "../../models/definition.ts";
import type { CellSpec } from "../core/cell.ts";
import { Random } from "../core/random.ts";
import { int32 } from "../core/tensor.ts";
import { kernelsFor } from "../engine/kernels.ts";
import { childrenOf } from "../load/requests.ts";
import { createRuntime } from "../runtime/create.ts";
import { weights } from "./synthetic.ts";

/** A binary tree: two children per inner node, which stand before it; numbers below `leaves` are leaves. */
export interface BinaryTree {
  readonly leaves: number;
  readonly children: Int32Array;
}

/** Random binary trees of 10 to 40 leaves, each split equally likely. */
export function binaryTrees(count: number, seed: number): BinaryTree[] {
  const random = new Random(seed);
  return Array.from({ length: count }, () => {
    const leaves = random.integer(10, 40);
    const children = childrenOf(leaves, random);
    return { leaves, children };
  });
}

function treeCells(hidden: number): CellSpec[] {
  const scale = 1 / Math.sqrt(hidden);
  const states = ["h", "c"].map((name) => ({ name, shape: [hidden] }));
  const outputs = [{ name: "h", dtype: "float32" as const, shape: [hidden] }];
  return [
    {
      name: "leaf",
      inputs: [{ name: "token", dtype: "int32", shape: [] }],
      reads: 0,
      writes: true,
      states,
      outputs,
      body: {
        kind: "tree-leaf",
        hidden,
        weights: weights(3 * hidden, hidden, scale),
        bias: new Float32Array(3 * hidden),
        embedding: weights(256, hidden, 1),
      },
    },
    {
      name: "node",
      inputs: [],
      reads: 2,
      writes: true,
      states,
      outputs,
      body: {
        kind: "tree-node",
        hidden,
        weights: weights(5 * hidden, 2 * hidden, scale),
        bias: new Float32Array(5 * hidden),
      },
    },
  ];
}

/** A binary tree-LSTM over tokens, which answers the root's state. */
export function treeModel(hidden: number): ModelDefinition {
  const cells = treeCells(hidden);
  return {
    name: "tree",
    version: "1",
    description: "for measuring",
    cells,
    program: { kind: "tree", leaf: "leaf", node: "node" },
    inputs: [
      { name: "token", dtype: "int32", shape: [-1] },
      { name: "children", dtype: "int32", shape: [-1, 2] },
    ],
    outputs: cells[1]!.outputs,
  };
}

export interface MergedTrees {
  /** Trees in one graph; 1 or more. */
  readonly merged: number;
  readonly kernel: "onnx" | "ours";
}

/** Measures trees per second of the runtime, which always has `inFlight` of them while it is measured. */
export async function cellularTrees(
  hidden: number,
  inFlight: number,
): Promise<(seconds: number) => Promise<number>> {
  const runtime = await createRuntime({ models: [treeModel(hidden)], engines: 1 });
  const trees = binaryTrees(512, 7);
  const tokens = Int32Array.from({ length: 40 }, (_, i) => (i * 37) & 255);
  return async (seconds) => {
    let done = 0;
    let running = true;
    const client = async (first: number) => {
      for (let i = first; running; i += inFlight) {
        const { leaves, children } = trees[i % trees.length]!;
        await runtime.run("tree", {
          token: int32([leaves], tokens.subarray(0, leaves)),
          children: int32([leaves - 1, 2], children),
        });
        done++;
      }
    };
    const clients = Array.from({ length: inFlight }, (_, i) => client(i));
    const rate = await rateOf(() => done, seconds);
    running = false;
    await Promise.all(clients);
    return rate;
  };
}

async function rateOf(count: () => number, seconds: number): Promise<number> {
  const sleep = (time: number) => new Promise((resolve) => setTimeout(resolve, time * 1000));
  await sleep(seconds / 4);
  const [before, start] = [count(), performance.now()];
  await sleep(seconds);
  return ((count() - before) * 1000) / (performance.now() - start);
}

/**
 * Measures trees per second of what dynamic-graph frameworks do: merge the trees that wait (`merged` of them, as many wait always) into
 * one graph and run it level by level, on this thread, nobody sending and nobody asking. By ONNX Runtime, as people would; or
 * by the very kernel that the runtime uses, which leaves only the scheduling to compare.
 */
export async function mergedTrees(
  hidden: number,
  { merged, kernel: name }: MergedTrees,
): Promise<(seconds: number) => number> {
  const load = await kernelsFor({
    device: "cpu",
    session: { threads: 1 },
    ...(name === "onnx" ? { kernel: "onnx" } : {}),
  });
  const kernel = await load(treeCells(hidden));
  const most = Math.min(LEVEL_ROWS, kernel.maxBatch);
  const trees = binaryTrees(512, 7);
  kernel.reserve(merged * 79);
  const reads = new Int32Array(2 * LEVEL_ROWS);
  const writes = new Int32Array(LEVEL_ROWS);
  const runLevel = (cell: number, nodes: readonly number[], children: Int32Array) => {
    for (let from = 0; from < nodes.length; from += most) {
      const rows = Math.min(most, nodes.length - from);
      if (cell === 0) kernel.stage(0, rows, 1)[0]!.fill(3, 0, rows);
      for (let row = 0; row < rows; row++) {
        const node = nodes[from + row]!;
        writes[row] = node;
        reads[2 * row] = children[2 * node]!;
        reads[2 * row + 1] = children[2 * node + 1]!;
      }
      kernel.run({ cell, rows, steps: 1, reads, writes });
    }
  };
  let next = 0;
  const runMerged = () => {
    const levels: number[][] = [[]];
    const children = new Int32Array(2 * 79 * merged);
    let slot = 0;
    for (let i = 0; i < merged; i++) {
      const tree = trees[next++ % trees.length]!;
      const first = slot;
      const heights = new Int32Array(2 * tree.leaves - 1);
      for (let leaf = 0; leaf < tree.leaves; leaf++) levels[0]!.push(slot++);
      for (let node = 0; node < tree.leaves - 1; node++) {
        const [left, right] = [tree.children[2 * node]!, tree.children[2 * node + 1]!];
        const height = 1 + Math.max(heights[left]!, heights[right]!);
        heights[tree.leaves + node] = height;
        children[2 * slot] = first + left;
        children[2 * slot + 1] = first + right;
        levels[height] ??= [];
        levels[height].push(slot++);
      }
    }
    levels.forEach((nodes, height) => runLevel(height === 0 ? 0 : 1, nodes, children));
  };
  return (seconds) => {
    let done = 0;
    const start = performance.now();
    while (performance.now() - start < seconds * 1000) {
      runMerged();
      done += merged;
    }
    return (done * 1000) / (performance.now() - start);
  };
}

/** Most rows of one task of a level. */
const LEVEL_ROWS = 512;
