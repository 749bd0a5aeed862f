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

describe("a layers model", () => {
  const steps = keras.find(({ name }) => name === "LSTM, all steps")!;
  const changed = async (edit: (text: string) => string) => {
    const files = filesOf(steps, "tfjs2");
    return written({ ...files, "model.json": edit(String(files["model.json"])) });
  };

  it("that is stateful keeps its state through a session", async () => {
    const file = await changed((text) => text.replace('"stateful": false', '"stateful": true'));
    const imported = await importModel(file, { name: "case", keras: { program: "session" } });
    expect(imported.notes.join()).toContain("is stateful");
    const session = (await serveImported(imported)).session("case");
    const [, , values] = steps.inputs;
    for (let at = 0; at < values!.length; at += INPUT) {
      session.push({ x: float32([INPUT], Float32Array.from(values!.slice(at, at + INPUT))) });
    }
    await session.end();
    const given: number[] = [];
    for await (const { outputs } of session) given.push(...(outputs.h as Tensor).data);
    expectClose(given, steps.outputs[2]!);
  });

  it("may name weights by their numbers, as the converter does from archives of Keras 3", async () => {
    const names = ["kernel", "recurrent_kernel", "bias"];
    await expectEqual(
      steps,
      await changed((text) =>
        names.reduce((all, name, i) => all.replace(`"lstm/lstm_cell/${name}"`, `"lstm/${i}"`), text),
      ),
    );
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
    expectClose(given!.data, expected);
  });
}

function expectClose(given: ArrayLike<number>, expected: readonly number[]): void {
  expect(given.length).toBe(expected.length);
  expected.forEach((value, at) => {
    expect(Math.abs(given[at]! - value) / Math.max(1, Math.abs(value))).toBeLessThan(1e-5);
  });
}
