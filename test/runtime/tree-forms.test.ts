import { readFileSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { readModel } from "../../models/read-model.ts";
import { writeSafetensors } from "../../models/write-safetensors.ts";
import { float32, int32, type Tensor } from "../../src/core/tensor.ts";
import { createRuntime } from "../../src/runtime/create.ts";
import type { Runtime, Values } from "../../src/runtime/types.ts";
import { noise } from "../fixtures/models.ts";

interface Stored {
  readonly shape: number[];
  readonly values: number[];
}
interface Golden {
  readonly weights: Record<string, Stored>;
  readonly trees: { readonly parent: number[]; readonly x: Stored; readonly h: Stored }[];
  readonly leafTrees: { readonly children: number[][]; readonly x: Stored; readonly h: Stored }[];
}

const goldenOf = (name: string): Golden =>
  JSON.parse(readFileSync(new URL(`../golden/${name}.json`, import.meta.url), "utf8"));
const golden = { nary: goldenOf("nary-tree-lstm"), "child-sum": goldenOf("child-sum-tree-lstm") };
const NARY = { node: "tree-node" };
const CHILD_SUM = { child: "tree-child", node: "tree-sum" };

let runtime: Runtime;
const folders: string[] = [];

/** A model folder with the weights of a fixture; `without` drops tensors, as for nodes that have no input. */
async function folderOf(
  name: string,
  { weights }: Golden,
  kinds: Readonly<Record<string, string>>,
  without: (tensor: string) => boolean,
): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "cellbatch-tree-"));
  folders.push(folder);
  const tensors = Object.entries(weights)
    .filter(([tensor]) => !without(tensor))
    .map(([tensor, { shape, values }]) => [tensor, { shape, data: Float32Array.from(values) }] as const);
  await writeFile(join(folder, "weights.safetensors"), writeSafetensors(new Map(tensors)));
  const cells = Object.entries(kinds).map(([cell, kind]) => ({
    name: cell,
    kind,
    weights: { file: "weights.safetensors", prefix: `${cell}.` },
    ...(cell === "child" ? {} : { outputs: ["h"] }),
  }));
  const roles = Object.fromEntries(Object.keys(kinds).map((cell) => [cell, cell]));
  const manifest = {
    format: 1,
    name,
    version: "1",
    description: "",
    cells,
    program: { kind: "tree", ...roles },
  };
  await writeFile(join(folder, "model.json"), JSON.stringify(manifest));
  return folder;
}

beforeAll(async () => {
  const none = () => false;
  const onNodes = (tensor: string) => !tensor.startsWith("leaf.") && tensor.endsWith("weight_ih");
  const models = [
    await folderOf("nary", golden.nary, NARY, none),
    await folderOf("nary-leaves", golden.nary, { leaf: "tree-leaf", ...NARY }, onNodes),
    await folderOf("child-sum", golden["child-sum"], CHILD_SUM, none),
    await folderOf("child-sum-leaves", golden["child-sum"], { leaf: "tree-leaf", ...CHILD_SUM }, onNodes),
  ];
  runtime = await createRuntime({ models, inline: true, maxBatch: 5 });
}, 60_000);
afterAll(async () => {
  await runtime?.close(0);
  for (const folder of folders) await rm(folder, { recursive: true });
});

const vectors = ({ shape, values }: Stored) => float32(shape, Float32Array.from(values));
const rootOf = (outputs: Values) => [...((outputs.h as Tensor).data as Float32Array)];
const ask = async (model: string, inputs: Values) => rootOf((await runtime.run(model, inputs)).outputs);

/** Rows as wide as the widest, or as `width` says; -1 behind. */
function childrenOf(
  nodes: readonly (readonly number[])[],
  width = Math.max(1, ...nodes.map(({ length }) => length)),
): Tensor {
  const rows = nodes.map((children) => [...children, ...Array(width - children.length).fill(-1)]);
  return int32([nodes.length, width], Int32Array.from(rows.flat()));
}

const cases = (["nary", "child-sum"] as const).flatMap((name) => [
  {
    model: name,
    requests: golden[name].trees.map(({ parent, x, h }) => ({
      inputs: { x: vectors(x), parent: int32([parent.length], Int32Array.from(parent)) },
      expected: h.values,
    })),
  },
  {
    model: `${name}-leaves`,
    requests: golden[name].leafTrees.map(({ children, x, h }) => ({
      inputs: { x: vectors(x), children: childrenOf(children, name === "nary" ? 3 : undefined) },
      expected: h.values,
    })),
  },
]);

function expectNear(got: readonly number[], expected: readonly number[]): void {
  const scale = Math.max(...expected.map(Math.abs));
  got.forEach((value, i) => expect(Math.abs(value - expected[i]!) / scale).toBeLessThan(1e-5));
}

describe.each(cases)("the tree-LSTM $model", ({ model, requests }) => {
  it("gives at the root what PyTorch gives, for each tree alone", async () => {
    expect(requests).toHaveLength(10);
    for (const { inputs, expected } of requests) expectNear(await ask(model, inputs), expected);
  });

  it("gives it for all trees at once, bit for bit what each gave alone", async () => {
    const together = await Promise.all(requests.map(({ inputs }) => ask(model, inputs)));
    for (const [i, { inputs, expected }] of requests.entries()) {
      expectNear(together[i]!, expected);
      expect(together[i]).toEqual(await ask(model, inputs));
    }
  });
});

describe("trees of both models", () => {
  it("give in each other's company what they give alone", async () => {
    const shape = fc.array(fc.nat(), { maxLength: 14 });
    const inputsOf = (choices: readonly number[], seed: number) => {
      // Each node hangs on one of those before it that has fewer than three children.
      const count: number[] = [0];
      const parent = [-1];
      for (const choice of choices) {
        const free = count.flatMap((used, node) => (used < 3 ? [node] : []));
        const above = free[choice % free.length]!;
        count[above]!++;
        parent.push(above);
        count.push(0);
      }
      const nodes = parent.length;
      return {
        x: float32([nodes, 4], noise(nodes * 4, seed)),
        parent: int32([nodes], Int32Array.from(parent)),
      };
    };
    await fc.assert(
      fc.asyncProperty(fc.array(shape, { minLength: 2, maxLength: 8 }), async (shapes) => {
        const requests = shapes.map((one, i) => [i % 2 ? "nary" : "child-sum", inputsOf(one, i)] as const);
        const together = await Promise.all(requests.map(([model, inputs]) => ask(model, inputs)));
        for (const [i, [model, inputs]] of requests.entries())
          expect(together[i]).toEqual(await ask(model, inputs));
      }),
      { numRuns: 20 },
    );
  }, 60_000);

  it.each([
    ["two roots", "nary", [-1, 0, -1], /has two roots, 0 and 2/],
    ["no root", "child-sum", [1, 2, 0], /leads from node 0 round in a circle/],
    ["a circle beside the root", "child-sum", [-1, 2, 1], /leads from node 1 round in a circle/],
    ["a parent that is not there", "nary", [-1, 7, 0], /is 7 at 1, expected a node from 0 to 2/],
    ["fewer parents than nodes", "nary", [-1, 0], /has 2 nodes, the others have 3/],
    ["too many children", "nary", [-1, 0, 0, 0, 0], /gives node 0 more than 3 children/],
  ])("with %s are refused", async (_, model, parent, why) => {
    const nodes = Math.max(3, parent.length);
    const inputs = {
      x: float32([nodes, 4], noise(nodes * 4, 1)),
      parent: int32([parent.length], Int32Array.from(parent)),
    };
    await expect(ask(model, inputs)).rejects.toThrow(why);
  });

  it.each([
    ["a node without children", [[0, 1, 2], []], /gives node 1 no child/],
    ["a leaf that is left over", [[0, 1]], /names leaf 2 as nobody's child/],
    ["a node that is left over", [[0, 1], [2]], /names node 0 as nobody's child/],
  ])("with %s are refused", async (_, children, why) => {
    const inputs = { x: float32([3, 4], noise(12, 1)), children: childrenOf(children) };
    await expect(ask("child-sum-leaves", inputs)).rejects.toThrow(why);
  });
});

describe("a tree's model.json", () => {
  const none = () => false;
  it.each([
    ["without the leaf it needs", { node: "tree-node" }, /has no input, so the tree needs a 'leaf'/],
    [
      "whose node reads sums without a cell for children",
      { leaf: "tree-leaf", node: "tree-sum" },
      /child-sum needs 'child'/,
    ],
    [
      "whose leaf is no leaf",
      { leaf: "tree-sum", child: "tree-child", node: "tree-sum" },
      /leaf.weight_hh' of weights.safetensors is missing/,
    ],
    [
      "whose matrices are those of another cell",
      { leaf: "tree-leaf", child: "tree-sum", node: "tree-sum" },
      /behind 'child\.': 'weight_hh' of a tree-sum has shape \[6, 6\], expected \[3 \* hidden, hidden\]/,
    ],
  ])("%s is refused", async (_, kinds, why) => {
    const from = kinds.node === "tree-node" ? golden.nary : golden["child-sum"];
    const without = kinds.node === "tree-node" ? (tensor: string) => tensor === "node.weight_ih" : none;
    const folder = await folderOf("refused", from, kinds as Record<string, string>, without);
    await expect(readModel(folder)).rejects.toThrow(why);
  });
});
