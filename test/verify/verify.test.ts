import onnxProto from "onnx-proto";
import { describe, expect, it } from "vitest";
import { ReferenceKernel } from "../../kernels/reference/reference.ts";
import type { ModelDefinition } from "../../models/definition.ts";
import { readModel } from "../../models/read-model.ts";
import { zooModels } from "../../models/zoo.ts";
import { checkCell, type Finding } from "../../src/verify/cells.ts";
import { verifyModel } from "../../src/verify/verify.ts";
import { chainModel } from "../fixtures/models.ts";

const { onnx } = onnxProto;
const FLOAT = onnx.TensorProto.DataType.FLOAT;

/** One cell: `next` from `state` and `x`, both `[rows, 4]`. */
function graphModel(node: onnxProto.onnx.INodeProto[]): ModelDefinition {
  const value = (name: string) => ({
    name,
    type: { tensorType: { elemType: FLOAT, shape: { dim: [{ dimParam: "rows" }, { dimValue: 4 }] } } },
  });
  const model = {
    irVersion: 8,
    opsetImport: [{ domain: "", version: 13 }],
    graph: { name: "cell", node, input: [value("x"), value("state")], output: [value("next"), value("y")] },
  };
  const y = { opType: "Identity", input: ["next"], output: ["y"] };
  model.graph.node = [...node, y];
  return {
    ...chainModel(),
    cells: [
      {
        name: "cell",
        inputs: [{ name: "x", dtype: "float32", shape: [4] }],
        reads: 1,
        writes: true,
        states: [{ name: "state", shape: [4] }],
        outputs: [{ name: "y", dtype: "float32", shape: [4] }],
        body: {
          kind: "graph",
          graph: {
            onnx: onnx.ModelProto.encode(model).finish(),
            states: [{ input: "state", output: "next" }],
          },
        },
      },
    ],
  };
}

const byCheck = (findings: readonly Finding[]) =>
  Object.fromEntries(findings.map(({ check, difference }) => [check, difference]));

describe("verify", () => {
  it("finds every model of the zoo independent of company", async () => {
    for (const folder of zooModels().folders) {
      const { independent, findings } = await verifyModel(await readModel(folder));
      expect(findings.filter(({ difference }) => difference > 1e-5)).toEqual([]);
      expect(independent).toBe(true);
    }
  });

  it("finds a graph that takes the mean over its rows, and says where", async () => {
    const { independent, findings } = await verifyModel(
      graphModel([
        { opType: "Add", input: ["x", "state"], output: ["sum"] },
        {
          opType: "ReduceMean",
          input: ["sum"],
          output: ["mean"],
          attribute: [{ name: "axes", type: onnx.AttributeProto.AttributeType.INTS, ints: [0] }],
        },
        { opType: "Sub", input: ["sum", "mean"], output: ["next"] },
      ]),
    );
    expect(independent).toBe(false);
    const worst = findings.find(({ check }) => check === "in batches")!;
    expect(worst.difference).toBeGreaterThan(0.01);
    expect(worst.where).toMatch(/^output 'y'\[\d\] of row \d+ of \d+: .* instead of/);
    expect(byCheck(findings)["beside NaN"]).toBe(Number.POSITIVE_INFINITY);
  });

  it("finds a kernel that does not clear its slots", async () => {
    const { cells } = chainModel();
    const kernel = new ReferenceKernel(cells, { maxBatch: 8 });
    kernel.reserve(32);
    const honest = byCheck(await checkCell(kernel, 0, Math.random));
    expect(honest["on reused slots"]).toBe(0);
    kernel.clear = () => {};
    expect(byCheck(await checkCell(kernel, 0, Math.random))["on reused slots"]).toBeGreaterThan(0.001);
  });
});
