import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { InferenceSession, Tensor } from "onnxruntime-node";
import { describe, expect, it, onTestFinished } from "vitest";
import { importOnnx, importOnnxBytes } from "../../../models/import/onnx/import-onnx.ts";
import { bytesOf, cases, difference, rowOf, stepCases } from "./cases.ts";
import { Evaluator, type Values } from "./evaluate.ts";

const vad = (version: string) =>
  fileURLToPath(
    new URL(`../../../node_modules/@ricky0123/vad-web/dist/silero_vad_${version}.onnx`, import.meta.url),
  );

describe("a step graph", () => {
  it.each(stepCases.map((one) => [one.name, one] as const))(
    "gives at every step what the file gives: %s",
    async (_, one) => {
      const imported = importOnnxBytes(bytesOf(one), { name: "step", form: "step", ...one.options });
      expect(imported.lane, imported.why).toBe("cellular");
      const evaluator = await Evaluator.open(imported);
      onTestFinished(() => evaluator.close());
      const { inputs, outputs } = evaluator.model;
      const requests = [0, 1, 2].map(
        (row): Values =>
          Object.fromEntries(inputs.map(({ name }) => [name, rowOf(one.inputs[name]!, row, 4)])),
      );
      const results = await evaluator.run(requests);
      expect(outputs.map(({ name }) => name).sort()).toEqual(Object.keys(one.outputs).sort());
      results.forEach((result, row) => {
        for (const { name } of outputs) {
          expect(difference(result[name]!, rowOf(one.outputs[name]!, row, 4)), name).toBeLessThan(1e-5);
        }
      });
    },
  );

  it("of recurrent nodes over one step is found to be one", () => {
    const one = stepCases.find(({ name }) => name.startsWith("lstm node"))!;
    const { manifest, why } = importOnnxBytes(bytesOf(one), { name: "step" });
    expect(manifest.program).toEqual({ kind: "session", cell: "step" });
    expect(why).toBe("it computes one step of its states ('h0' to 'hn', 'c0' to 'cn')");
  });

  it("can run over whole requests instead of sessions", () => {
    const { manifest } = importOnnxBytes(bytesOf(stepCases[1]!), { name: "step", program: "chain" });
    expect(manifest.program).toEqual({ kind: "chain", cell: "step", collect: "all" });
  });

  it("keeps weights that lay in another file", async () => {
    const file = fileURLToPath(new URL("fixtures/external.onnx", import.meta.url));
    const inside = cases.find(({ name }) => name === "weights in a file beside the graph")!;
    const imported = await importOnnx(file);
    const expected = importOnnxBytes(bytesOf(inside), { name: "external" });
    expect(imported.manifest).toEqual(expected.manifest);
    expect(imported.files).toEqual(expected.files);
  });
});

describe("Silero VAD", () => {
  const options = {
    shapes: { input: [512], state: [2, 128] },
    constants: { sr: 16_000 },
    context: { input: "input", size: 64 },
  };

  it("version 5 becomes the model that is in the zoo", async () => {
    const zoo = JSON.parse(
      await readFile(new URL("../../../models/silero-vad/model.json", import.meta.url), "utf8"),
    );
    const { manifest } = await importOnnx(vad("v5"), options);
    const { inputs, outputs, states, constants, context } = zoo.cells[0];
    expect(manifest.name).toBe("silero_vad_v5");
    expect(manifest.program.kind).toBe("session");
    const withTypes = (tensors: object[]) => tensors.map((tensor) => ({ dtype: "float32", ...tensor }));
    expect(manifest.cells[0]).toMatchObject({
      inputs: withTypes(inputs),
      outputs: withTypes(outputs),
      states,
      constants,
      context,
    });
  });

  it("of the first kind gives for rows of a batch what the file gives for one", async () => {
    const imported = await importOnnx(vad("legacy"), { shapes: { input: [512] }, constants: { sr: 16_000 } });
    const evaluator = await Evaluator.open(imported);
    onTestFinished(() => evaluator.close());
    const session = await InferenceSession.create(vad("legacy"), { logSeverityLevel: 3 });
    onTestFinished(() => session.release());
    const requests = [1, 2, 3].map((seed) => ({
      input: [0, 1].map((step) =>
        Array.from({ length: 512 }, (_, i) => Math.sin(i * 0.05 * seed + step) * 0.3),
      ),
    }));
    const results = await evaluator.run(requests);
    for (const [row, { input }] of requests.entries()) {
      let [h, c] = [new Float32Array(128), new Float32Array(128)];
      for (const [step, samples] of input.entries()) {
        const { output, hn, cn } = await session.run({
          input: new Tensor("float32", Float32Array.from(samples), [1, 512]),
          sr: new Tensor("int64", BigInt64Array.of(16_000n), []),
          h: new Tensor("float32", h, [2, 1, 64]),
          c: new Tensor("float32", c, [2, 1, 64]),
        });
        [h, c] = [hn!.data as Float32Array<ArrayBuffer>, cn!.data as Float32Array<ArrayBuffer>];
        expect(results[row]!.output![step]![0]).toBeCloseTo((output!.data as Float32Array)[0]!, 5);
      }
    }
  });
});

describe("a step graph is refused", () => {
  const [gru, lstm] = stepCases.map(bytesOf);

  it.each([
    ["with a scalar that has no value", gru!, {}, /input 'temperature' is one number for all rows/],
    [
      "with a constant for no input",
      gru!,
      { constants: { temperatur: 1 } },
      /no input 'temperatur', it has 'tokens'/,
    ],
    [
      "with a state that is no input",
      lstm!,
      { states: [{ input: "h", output: "hn" }] },
      /no input 'h' for a state/,
    ],
    [
      "with a state of another shape",
      lstm!,
      { states: [{ input: "x", output: "hn" }] },
      /'x' cannot become 'hn'/,
    ],
    ["with an axis it does not have", lstm!, { batchAxes: { x: 3 } }, /'x' has 3 axes, so axis 3/],
    ["with an output it does not have", lstm!, { outputs: ["z"] }, /no output 'z'/],
  ])("%s", (_, bytes, options, why) => {
    expect(() => importOnnxBytes(bytes, { name: "step", form: "step", ...options })).toThrow(why);
  });

  it("where its inputs leave a row's shape open", async () => {
    await expect(importOnnx(vad("v5"), { constants: { sr: 16_000 } })).rejects.toThrow(
      /'(input|state)' of shape \[.*\?.*\] leaves the shape of a row open/,
    );
  });

  it("where nothing goes in and out as a state, as a whole graph", () => {
    const one = cases.find(({ name }) => name === "lstm forward")!;
    const { lane, why } = importOnnxBytes(bytesOf(one), { name: "step", form: "step" });
    expect(lane).toBe("graph");
    expect(why).toMatch(/no input is named like an output/);
  });
});
