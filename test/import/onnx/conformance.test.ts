import { describe, expect, it, onTestFinished } from "vitest";
import { importOnnxBytes } from "../../../models/import/onnx/import-onnx.ts";
import {
  bytesOf,
  type Case,
  cases,
  difference,
  lengthsOf,
  refused,
  rowOf,
  runWhole,
  type Stored,
} from "./cases.ts";
import { Evaluator, type Values } from "./evaluate.ts";

const TOLERANCE = 1e-5;

async function checkCells(one: Case, expected: Readonly<Record<string, Stored>>) {
  const outputs = Object.keys(one.outputs).filter((name) => !one.states?.some(([, state]) => state === name));
  const imported = importOnnxBytes(bytesOf(one), { name: "case", ...(one.states ? {} : { outputs }) });
  expect(imported.lane, imported.why).toBe("cellular");
  const evaluator = await Evaluator.open(imported);
  onTestFinished(() => evaluator.close());
  const { model } = evaluator;
  const lengths = lengthsOf(one);
  // Inputs keep their order, whatever they are called.
  const given = Object.keys(one.inputs).filter(
    (name) => name !== "lengths" && !one.states?.some(([state]) => state === name),
  );
  for (const steps of new Set(lengths)) {
    const rows = lengths.flatMap((length, row) => (length === steps ? [row] : []));
    const requests = rows.map(
      (row): Values =>
        Object.fromEntries(
          model.inputs.map(({ name }, i) => {
            const from = one.inputs[name] ?? one.inputs[given[i]!]!;
            return [name, rowOf(from, row, steps)];
          }),
        ),
    );
    const results = await evaluator.run(requests);
    results.forEach((result, i) => {
      const names = Object.keys(result);
      outputs.forEach((output, at) => {
        const actual = result[output] ?? result[names[at]!]!;
        const off = difference(actual, rowOf(expected[output]!, rows[i]!, steps));
        expect(off, `output '${output}' of row ${rows[i]}`).toBeLessThan(TOLERANCE);
      });
    });
  }
}

describe("cells of an ONNX graph over sequences give what the graph gives", () => {
  it.each(cases.map((one) => [one.name, one] as const))("%s", async (_, one) => {
    await checkCells(one, one.outputs);
  });
});

describe("cells of an ONNX graph agree with ONNX Runtime over the whole graph", () => {
  // ONNX Runtime has no CPU kernel for layout 1.
  const whole = cases.filter(({ layout }) => layout === 0);
  it.each(whole.map((one) => [one.name, one] as const))("%s", async (_, one) => {
    await checkCells(one, await runWhole(one));
  });
});

describe("a graph that mixes steps or rows is left whole, with the node that does", () => {
  it.each(refused.map((one) => [one.name, one] as const))("%s", (_, one) => {
    const { lane, why, manifest, files } = importOnnxBytes(bytesOf(one), { name: "case" });
    expect(why).toContain(one.why);
    expect(lane).toBe("graph");
    expect(manifest.program).toMatchObject({ kind: "graph", cell: "graph" });
    expect(files.get("graph.onnx")!.length).toBeGreaterThan(0);
  });
});
