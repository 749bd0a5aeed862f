import { describe, expect, it } from "vitest";
import { importModel } from "../../../models/import/import-model.ts";
import { float32, int32, type Tensor } from "../../../src/core/tensor.ts";
import { serveImported } from "../serve.ts";
import { type Case, filesOf, INPUT, keras, tfjs, written } from "./cases.ts";

describe("a Keras model, served to requests of several lengths at once, gives what Keras gives", () => {
  const all = keras.flatMap((one) =>
    Object.keys(one.files).map((format) => [one.name, format, one] as const),
  );
  it.each(all)("%s (%s)", async (_, format, one) => {
    await expectEqual(one, await written(filesOf(one, format)));
  });
});

describe("a model that TensorFlow.js saved gives what TensorFlow.js gives", () => {
  it.each(tfjs.map((one) => [one.name, one] as const))("%s", async (_, one) => {
    await expectEqual(one, await written(filesOf(one, "saved")));
  });
});

async function expectEqual(one: Case, file: string): Promise<void> {
  const imported = await importModel(file, { name: "case" });
  if (one.note !== undefined) expect(imported.notes.join()).toContain(one.note);
  const runtime = await serveImported(imported);
  const ask = (values: readonly number[]) =>
    runtime.run("case", {
      [one.input]:
        one.input === "token"
          ? int32([values.length], Int32Array.from(values))
          : float32([values.length / INPUT, INPUT], Float32Array.from(values)),
    });
  const together = await Promise.all([...one.inputs, ...one.inputs].map(ask));
  const alone = [];
  for (const values of one.inputs) alone.push(await ask(values));
  [...together, ...alone].forEach(({ outputs }, i) => {
    const expected = one.outputs[i % one.inputs.length]!;
    const [given] = Object.values(outputs) as Tensor[];
    expect(Object.keys(outputs)).toHaveLength(1);
    expect(given!.data.length).toBe(expected.length);
    expected.forEach((value, at) => {
      expect(Math.abs(given!.data[at]! - value) / Math.max(1, Math.abs(value))).toBeLessThan(1e-5);
    });
  });
}
