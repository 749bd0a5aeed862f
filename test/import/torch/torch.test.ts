import { readFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { importTorchBytes } from "../../../models/import/torch/import-torch.ts";
import type { TorchImportOptions } from "../../../models/import/torch/state-dict.ts";
import { readSafetensors } from "../../../models/safetensors.ts";
import { type WrittenTensor, writeSafetensors } from "../../../models/write-safetensors.ts";
import { Fault } from "../../../src/core/faults.ts";
import { float32, int32, type Tensor } from "../../../src/core/tensor.ts";
import { serveImported } from "../serve.ts";

type Nested = number | readonly Nested[];

interface Case {
  readonly name: string;
  /** A safetensors file in base64. */
  readonly file: string;
  readonly options: TorchImportOptions;
  readonly input: "token" | "x";
  readonly inputs: readonly (readonly Nested[])[];
  readonly outputs: readonly Nested[];
}

const cases = JSON.parse(readFileSync(new URL("fixtures/cases.json", import.meta.url), "utf8")) as Case[];
const bytesOf = ({ file }: Case) => new Uint8Array(Buffer.from(file, "base64"));
const flat = (values: Nested): number[] =>
  typeof values === "number" ? [values] : values.flatMap((one) => flat(one));

describe("a state dict of PyTorch, served to requests of several lengths at once, gives what PyTorch gives", () => {
  it.each(cases.map((one) => [one.name, one] as const))("%s", async (_, one) => {
    const imported = importTorchBytes(bytesOf(one), { name: "case", ...one.options });
    expect(imported.lane, imported.why).toBe("cellular");
    const runtime = await serveImported(imported);
    const answers = await Promise.all(
      [...one.inputs, ...one.inputs].map((input) => {
        const values = flat(input);
        const tensor =
          one.input === "token"
            ? int32([input.length], Int32Array.from(values))
            : float32([input.length, values.length / input.length], Float32Array.from(values));
        return runtime.run("case", { [one.input]: tensor });
      }),
    );
    answers.forEach(({ outputs }, i) => {
      const expected = flat(one.outputs[i % one.inputs.length]!);
      const [first] = Object.values(outputs) as Tensor[];
      const named = (outputs.logits ?? outputs.h ?? first) as Tensor;
      expect(named.data.length).toBe(expected.length);
      expected.forEach((value, at) => {
        expect(Math.abs(named.data[at]! - value) / Math.max(1, Math.abs(value))).toBeLessThan(1e-5);
      });
    });
  });
});

describe("a state dict whose tensors have names of their own", () => {
  const one = cases.find(({ options }) => options.linear === undefined && options.prefix === undefined)!;
  const tensors = readSafetensors(bytesOf(one), "case");
  const names = Object.fromEntries([...tensors.keys()].map((name, at) => [name, `w/${at}`]));
  const bytes = writeSafetensors(new Map([...tensors].map(([name, tensor]) => [names[name]!, tensor])));

  it("is taken as with PyTorch's names where those are given", () => {
    const renamed = importTorchBytes(bytes, { name: "case", ...one.options, names });
    const usual = importTorchBytes(bytesOf(one), { name: "case", ...one.options });
    expect(renamed).toEqual(usual);
  });

  it("is refused where one of them is not in the file, or a name is taken", () => {
    const [first] = Object.keys(names);
    expect(() => importTorchBytes(bytes, { name: "case", names: { ...names, [first!]: "w/none" } })).toThrow(
      new RegExp(`there is no 'w/none', which is to be '${first}'; there are 'w/0'`),
    );
    expect(() => importTorchBytes(bytes, { name: "case", names: { "w/1": "w/0" } })).toThrow(
      /'w\/0' is to be 'w\/1', which the file has already/,
    );
  });
});

describe("a state dict that cannot be taken is refused with what is wrong", () => {
  const zeros = (...shape: number[]): WrittenTensor => ({
    shape,
    data: new Float32Array(shape.reduce((a, b) => a * b, 1)),
  });
  const lstm = { "rnn.weight_ih_l0": zeros(8, 3), "rnn.weight_hh_l0": zeros(8, 2) };
  const take = (tensors: Record<string, WrittenTensor>, options: TorchImportOptions = {}) =>
    importTorchBytes(writeSafetensors(new Map(Object.entries(tensors))), { name: "case", ...options });

  it.each<[string, Record<string, WrittenTensor>, TorchImportOptions, RegExp]>([
    ["nothing recurrent", { weight: zeros(2, 2) }, {}, /no 'weight_ih' and 'weight_hh'/],
    [
      "two modules",
      { ...lstm, weight_ih: zeros(8, 3), weight_hh: zeros(8, 2) },
      {},
      /'rnn\.', '': give the 'prefix'/,
    ],
    [
      "an unknown prefix",
      lstm,
      { prefix: "gru." },
      /no recurrent module is named 'gru\.', there are 'rnn\.'/,
    ],
    ["a missing matrix", { "rnn.weight_ih_l0": zeros(8, 3) }, {}, /'rnn\.weight_hh_l0' is missing/],
    [
      "gates of no kind",
      { "rnn.weight_ih_l0": zeros(10, 3), "rnn.weight_hh_l0": zeros(10, 2) },
      {},
      /10 rows of 2/,
    ],
    [
      "a bias of another length",
      { ...lstm, "rnn.bias_ih_l0": zeros(7) },
      {},
      /'rnn\.bias_ih' of layer 0 has shape \[7\], expected \[8\]/,
    ],
    [
      "a second layer that does not fit",
      { ...lstm, "rnn.weight_ih_l1": zeros(8, 3), "rnn.weight_hh_l1": zeros(8, 2) },
      {},
      /'rnn\.weight_ih' of layer 1 has shape \[8, 3\], expected \[8, 2\]/,
    ],
    [
      "two linear layers",
      { ...lstm, "a.weight": zeros(4, 2), "b.weight": zeros(5, 2) },
      {},
      /'a\.weight', 'b\.weight': give 'linear'/,
    ],
    [
      "a linear layer that is not there",
      lstm,
      { linear: ["out.weight"] },
      /linear layer 'out\.weight' is missing/,
    ],
    [
      "an embedding of another width",
      { ...lstm, "emb.weight": zeros(9, 4) },
      { embedding: "emb.weight" },
      /takes 3/,
    ],
  ])("%s", (_, tensors, options, message) => {
    expect(() => take(tensors, options)).toThrow(message);
  });

  it("takes linear layers in the order that is given, and says what it left out", () => {
    const { notes } = take(
      { ...lstm, "a.weight": zeros(4, 2), "b.weight": zeros(5, 4), "c.weight": zeros(1, 1) },
      { linear: ["a.weight", "b.weight"] },
    );
    expect(notes.join()).toContain("left out: 'c.weight'");
  });

  it("gives a model or a fault for any damaged file", () => {
    const files = cases.map(bytesOf).filter(({ length }) => length < 4000);
    const damage = fc.array(fc.tuple(fc.nat(3999), fc.nat(255)), { minLength: 1, maxLength: 6 });
    fc.assert(
      fc.property(fc.constantFrom(...files), damage, fc.nat(4000), (file, changes, length) => {
        const bytes = file.slice(0, length % 3 === 0 ? length : undefined);
        for (const [at, value] of changes) if (at < bytes.length) bytes[at] = value;
        try {
          importTorchBytes(bytes, { name: "case" });
        } catch (error) {
          expect(error).toBeInstanceOf(Fault);
        }
      }),
      { numRuns: 500 },
    );
  });

  it("refuses a header of 2^60 bytes before it reads any", () => {
    const bytes = new Uint8Array(16);
    new DataView(bytes.buffer).setBigUint64(0, 2n ** 60n, true);
    expect(() => readSafetensors(bytes, "hostile")).toThrow(/its header would take 115292150460684\d+ bytes/);
  });
});
