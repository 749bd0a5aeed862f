import { describe, expect, it } from "vitest";
import { importOnnxBytes } from "../../../models/import/onnx/import-onnx.ts";
import { sizeOf, type Tensor } from "../../../src/core/tensor.ts";
import { serveImported } from "../serve.ts";
import { bytesOf, cases, difference, lengthsOf, rowOf } from "./cases.ts";
import type { Steps } from "./evaluate.ts";

/** Whole sequences; the two others of a case with sequence lengths are shorter. */
const whole = cases.filter(({ states }) => !states);

describe("an imported ONNX model, served to all its rows at once, gives what the whole graph gives", () => {
  it.each(whole.map((one) => [one.name, one] as const))("%s", async (_, one) => {
    const runtime = await serveImported(
      importOnnxBytes(bytesOf(one), { name: "case", outputs: Object.keys(one.outputs) }),
    );
    const { inputs } = runtime.models[0]!;
    const given = Object.keys(one.inputs).filter((name) => name !== "lengths");
    const lengths = lengthsOf(one);
    const results = await Promise.all(
      lengths.map((steps, row) =>
        runtime.run(
          "case",
          Object.fromEntries(
            inputs.map(({ name, type, shape }, i) => {
              const values = rowOf(one.inputs[name] ?? one.inputs[given[i]!]!, row, steps);
              return [
                name,
                tensor(type === "int32" ? "int32" : "float32", [steps, ...shape.slice(1)], values),
              ];
            }),
          ),
        ),
      ),
    );
    results.forEach(({ outputs }, row) => {
      const names = Object.keys(outputs);
      Object.entries(one.outputs).forEach(([name, stored], at) => {
        const expected = rowOf(stored, row, lengths[row]!);
        const { data } = (outputs[name] ?? outputs[names[at]!]) as Tensor;
        const size = data.length / expected.length;
        const actual = expected.map((_, step) => [...data.slice(step * size, (step + 1) * size)]);
        expect(difference(actual, expected), `output '${name}' of row ${row}`).toBeLessThan(1e-5);
      });
    });
  });
});

function tensor(dtype: "int32" | "float32", shape: readonly number[], values: Steps): Tensor {
  const flat = values.flat();
  expect(flat.length).toBe(sizeOf(shape));
  return dtype === "int32"
    ? { dtype, shape, data: Int32Array.from(flat) }
    : { dtype, shape, data: Float32Array.from(flat) };
}
