import { readFileSync } from "node:fs";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { ModelDefinition } from "../../models/definition.ts";
import { float32, int32, type Tensor } from "../../src/core/tensor.ts";
import { createRuntime } from "../../src/runtime/create.ts";
import type { Runtime, Values } from "../../src/runtime/types.ts";
import { noise } from "../fixtures/models.ts";

const golden = JSON.parse(readFileSync(new URL("../golden/tree-lstm.json", import.meta.url), "utf8"));
const HIDDEN = 6;
const states = ["h", "c"].map((name) => ({ name, shape: [HIDDEN] }));
const values = (name: string) => Float32Array.from(golden.weights[name].values);

const tree: ModelDefinition = {
  name: "tree",
  version: "1",
  description: "a binary tree-LSTM",
  cells: [
    {
      name: "leaf",
      inputs: [{ name: "x", dtype: "float32", shape: [4] }],
      reads: 0,
      writes: true,
      states,
      outputs: [],
      body: {
        kind: "tree-leaf",
        hidden: HIDDEN,
        weights: { rows: 3 * HIDDEN, columns: 4, data: values("weight_ih") },
        bias: values("bias_ih"),
      },
    },
    {
      name: "node",
      inputs: [],
      reads: 2,
      writes: true,
      states,
      outputs: [{ name: "h", dtype: "float32", shape: [HIDDEN] }],
      body: {
        kind: "tree-node",
        hidden: HIDDEN,
        weights: { rows: 5 * HIDDEN, columns: 2 * HIDDEN, data: values("weight_hh") },
        bias: values("bias_hh"),
      },
    },
  ],
  program: { kind: "tree", leaf: "leaf", node: "node" },
  inputs: [
    { name: "x", dtype: "float32", shape: [-1, 4] },
    { name: "children", dtype: "int32", shape: [-1, 2] },
  ],
  outputs: [{ name: "h", dtype: "float32", shape: [HIDDEN] }],
};

let runtime: Runtime;
beforeAll(async () => {
  runtime = await createRuntime({ models: [tree], inline: true, maxBatch: 5 });
});
afterAll(() => runtime.close(0));

const rootOf = (outputs: Values) => [...((outputs.h as Tensor).data as Float32Array)];

describe("a tree", () => {
  it("gives at its root what PyTorch gives", async () => {
    const batch = 3;
    const children = Int32Array.of(0, 1, 3, 4, 2, 6, 5, 7);
    for (let row = 0; row < batch; row++) {
      const leaves = [0, 1, 2, 3, 4].flatMap((leaf) =>
        golden.inputs.values.slice((leaf * batch + row) * 4, (leaf * batch + row + 1) * 4),
      );
      const { outputs, usage } = await runtime.run("tree", {
        x: float32([5, 4], Float32Array.from(leaves)),
        children: int32([4, 2], children),
      });
      const from = (8 * batch + row) * HIDDEN;
      const expected: number[] = golden.expected.h.values.slice(from, from + HIDDEN);
      rootOf(outputs).forEach((value, i) => expect(value).toBeCloseTo(expected[i]!, 5));
      expect(usage.cells).toBe(9);
    }
  });

  it("gives in company, whatever the shapes, what it gives alone", async () => {
    /** Joins two random roots again and again until one is left. */
    const shape = fc.array(fc.tuple(fc.nat(), fc.nat()), { minLength: 1, maxLength: 12 });
    const ask = (choices: readonly (readonly [number, number])[], seed: number) => {
      const leaves = choices.length + 1;
      const roots = Array.from({ length: leaves }, (_, leaf) => leaf);
      const children = choices.flatMap(([a, b], i) => {
        const pair = [roots.splice(a % roots.length, 1)[0]!, roots.splice(b % roots.length, 1)[0]!];
        roots.push(leaves + i);
        return pair;
      });
      const inputs = {
        x: float32([leaves, 4], noise(leaves * 4, seed)),
        children: int32([leaves - 1, 2], Int32Array.from(children)),
      };
      return runtime.run("tree", inputs).then(({ outputs }) => rootOf(outputs));
    };
    await fc.assert(
      fc.asyncProperty(fc.array(shape, { minLength: 1, maxLength: 8 }), async (shapes) => {
        const together = await Promise.all(shapes.map(ask));
        for (const [i, one] of shapes.entries()) expect(together[i]).toEqual(await ask(one, i));
      }),
      { numRuns: 40 },
    );
  });

  it.each([
    [
      "a child that comes later",
      [0, 4, 1, 2, 3, 5],
      /names 4 as a child of node 0, which is not a leaf or an earlier node/,
    ],
    [
      "a child with two parents",
      [0, 1, 0, 2, 5, 3],
      /names 0 as a child of node 1, which already has a parent/,
    ],
    ["too few nodes", [0, 1], /names leaf 2 as nobody's child/],
  ])("with %s is refused", async (_, children, why) => {
    const inputs = {
      x: float32([4, 4], noise(16, 1)),
      children: int32([children.length / 2, 2], Int32Array.from(children)),
    };
    await expect(runtime.run("tree", inputs)).rejects.toThrow(why);
  });
});
