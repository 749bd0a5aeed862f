import { readFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";
import { importOnnxBytes } from "../../../models/import/onnx/import-onnx.ts";
import { readModel } from "../../../models/read-model.ts";
import { writeModel } from "../../../models/write-model.ts";
import { int32, type Tensor } from "../../../src/core/tensor.ts";
import { verifyModel } from "../../../src/verify/verify.ts";
import { serveImported } from "../serve.ts";
import { bytesOf, refused } from "./cases.ts";

const { model, width, requests } = JSON.parse(
  readFileSync(new URL("fixtures/transformer.json", import.meta.url), "utf8"),
) as {
  readonly model: string;
  readonly width: number;
  readonly requests: readonly {
    readonly tokens: readonly number[];
    readonly hidden: readonly number[];
    readonly pooled: readonly number[];
  }[];
};

const transformer = () => importOnnxBytes(bytesOf({ model }), { name: "transformer" });
const tokensOf = (tokens: readonly number[]) => int32([tokens.length], Int32Array.from(tokens));

function expectClose(actual: Tensor, shape: readonly number[], expected: readonly number[]): void {
  expect(actual.shape).toEqual(shape);
  for (let i = 0; i < expected.length; i++)
    expect(Math.abs(actual.data[i]! - expected[i]!)).toBeLessThan(2e-6);
}

describe("a transformer encoder from PyTorch", () => {
  it("is served whole, with its mask made for it", () => {
    const { lane, manifest, notes } = transformer();
    expect(lane).toBe("graph");
    expect(manifest.program).toMatchObject({ kind: "graph", cell: "graph", mask: "attention_mask" });
    expect(notes).toContain("input 'attention_mask' is filled with 1 where a request has a step, 0 behind");
  });

  it("gives each of a padded batch what PyTorch gives it alone", async () => {
    const runtime = await serveImported(transformer());
    const [info] = runtime.models;
    expect(info!.inputs).toEqual([{ name: "input_ids", type: "int32", shape: [-1] }]);
    const results = await Promise.all(
      requests.map(({ tokens }) => runtime.run("transformer", { input_ids: tokensOf(tokens) })),
    );
    expect(runtime.stats().tasks).toBeLessThan(requests.length);
    requests.forEach(({ tokens, hidden, pooled }, i) => {
      expectClose(results[i]!.outputs.hidden as Tensor, [tokens.length, width], hidden);
      expectClose(results[i]!.outputs.pooled as Tensor, [width], pooled);
    });
  });

  it("streams its outputs in one piece", async () => {
    const runtime = await serveImported(transformer());
    const steps = [];
    const { tokens, pooled } = requests[1]!;
    for await (const step of runtime.stream("transformer", { input_ids: tokensOf(tokens) })) steps.push(step);
    expect(steps).toHaveLength(1);
    expectClose(steps[0]!.outputs.pooled as Tensor, [width], pooled);
  });

  it("answers a token that it has not with the graph's own words, and goes on", async () => {
    const runtime = await serveImported(transformer());
    const wrong = runtime.run("transformer", { input_ids: tokensOf([1, 77, 2]) });
    const right = runtime.run("transformer", { input_ids: tokensOf(requests[0]!.tokens) });
    await expect(wrong).rejects.toThrow(/the graph of model 'transformer' failed: .*77/s);
    expectClose((await right).outputs.pooled as Tensor, [width], requests[0]!.pooled);
  });
});

describe("verify", () => {
  const findingsOf = async (one: { readonly model: string }) => {
    const folder = await mkdtemp(join(tmpdir(), "cellbatch-verify-"));
    onTestFinished(() => rm(folder, { recursive: true }));
    await writeModel(folder, importOnnxBytes(bytesOf(one), { name: "case" }));
    return verifyModel(await readModel(folder));
  };

  it("finds requests of a masked graph independent of their padding", async () => {
    const { findings, independent } = await findingsOf({ model });
    expect(findings.map(({ check }) => check)).toEqual(["in batches", "padded beside longer ones"]);
    expect(independent).toBe(true);
  });

  it("finds a graph without a mask that mixes padding in", async () => {
    const { findings, independent } = await findingsOf(
      refused.find(({ name }) => name === "attention over steps")!,
    );
    expect(independent).toBe(false);
    expect(findings[0]!.difference).toBeLessThan(1e-5);
    expect(findings[1]!.difference).toBeGreaterThan(1e-3);
  });
});

describe("a graph that cannot be cut", () => {
  it.each(refused.map((one) => [one.name, one] as const))("is loaded whole: %s", async (_, one) => {
    const imported = importOnnxBytes(bytesOf(one), { name: "case" });
    if (one.name === "an operator nobody knows") {
      await expect(serveImported(imported)).rejects.toThrow(/graph 'graph' cannot be loaded/);
      return;
    }
    const runtime = await serveImported(imported);
    expect(runtime.models[0]!.program).toBe("graph");
  });
});
