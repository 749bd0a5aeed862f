import { mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import onnxProto from "onnx-proto";
import { describe, expect, it, onTestFinished } from "vitest";
import { importOnnx, importOnnxBytes } from "../../../models/import/onnx/import-onnx.ts";
import { Fault } from "../../../src/core/faults.ts";
import { bytesOf, cases, refused, stepCases } from "./cases.ts";

const { onnx } = onnxProto;
const { DataLocation, DataType } = onnx.TensorProto;
type Model = onnxProto.onnx.IModelProto;

const plain = cases.find(({ name }) => name === "lstm forward")!;

/** A file that is right, changed. */
function changed(change: (model: Model) => void): Uint8Array {
  const model = onnx.ModelProto.decode(bytesOf(plain));
  change(model);
  return onnx.ModelProto.encode(model).finish();
}

function weights({ graph }: Model) {
  return graph!.initializer![0]!;
}

function importing(bytes: Uint8Array): () => unknown {
  return () => importOnnxBytes(bytes, { name: "hostile" });
}

describe("an ONNX file is refused with what is wrong in it", () => {
  it.each([
    ["that is empty", new Uint8Array(0), /no graph with nodes/],
    ["that is no protobuf", new TextEncoder().encode("<html>not found</html>"), /cannot be decoded|no graph/],
    ["that ends early", bytesOf(plain).subarray(0, 300), /cannot be decoded/],
    [
      "with a tensor that is not there",
      changed(({ graph }) => graph!.initializer!.shift()),
      /node '.*' \(LSTM\) takes 'k0', which nothing gives/,
    ],
    [
      "with a cycle",
      changed(({ graph }) => {
        graph!.node![0]!.input![0] = "Y";
      }),
      /\(LSTM\) waits for itself/,
    ],
    [
      "with a name that is given twice",
      changed(({ graph }) => graph!.node!.push({ opType: "Identity", input: ["x"], output: ["Y"] })),
      /'Y' is given twice/,
    ],
    [
      "with an output that nothing gives",
      changed(({ graph }) => {
        graph!.output![0]!.name = "Z";
      }),
      /nothing gives its output 'Z'/,
    ],
    [
      "without a version of the operators",
      changed((model) => {
        model.opsetImport = [];
      }),
      /no version/,
    ],
    [
      "with fewer values than the shape says",
      changed((model) => {
        weights(model).dims = [1, 20, 5];
      }),
      /'k0' of shape \[1, 20, 5\] needs 400 bytes, it has 320/,
    ],
    [
      "with a shape that no machine holds",
      changed((model) => {
        weights(model).dims = [2 ** 30, 2 ** 30, 2 ** 30];
      }),
      /'k0' of shape \[.*\] is too large/,
    ],
    [
      "with a negative axis",
      changed((model) => {
        weights(model).dims = [-1, 20, 4];
      }),
      /'k0' has an axis of -1/,
    ],
    [
      "with a negative input",
      changed(({ graph }) => {
        graph!.input![0]!.type!.tensorType!.shape!.dim![2] = { dimValue: -4 };
      }),
      /'x' has an axis of -4/,
    ],
    [
      "whose values lie in a file that was not given",
      changed((model) => {
        Object.assign(weights(model), { rawData: new Uint8Array(0), dataLocation: DataLocation.EXTERNAL });
      }),
      /'k0' lie in another file/,
    ],
    [
      "whose constants grow without bound",
      changed(({ graph }) => {
        const rawData = new Uint8Array(BigInt64Array.of(2n ** 24n).buffer);
        graph!.initializer!.push({ name: "size", dataType: DataType.INT64, dims: [1], rawData });
        let value = "x";
        for (let i = 0; i < 40; i++) {
          graph!.node!.unshift({ opType: "Add", input: [value, `big${i}`], output: [`sum${i}`] });
          graph!.node!.unshift({ opType: "ConstantOfShape", input: ["size"], output: [`big${i}`] });
          value = `sum${i}`;
        }
        graph!.node!.at(-4)!.input![0] = value;
      }),
      /computes too many constant values/,
    ],
  ])("%s", (_, bytes, why) => {
    expect(importing(bytes)).toThrow(why);
    expect(importing(bytes)).toThrow(Fault);
  });

  it("with graphs nested beyond the stack", () => {
    // Attribute 5 of a node holds field 6, a graph, whose field 1 is a node.
    let inner = new Uint8Array(0);
    for (let depth = 0; depth < 3_000; depth++) inner = field(1, field(5, field(6, inner)));
    const bytes = field(7, inner);
    try {
      importOnnxBytes(bytes, { name: "hostile" });
    } catch (error) {
      expect(error).toBeInstanceOf(Fault);
    }
  });

  it("that is missing", async () => {
    await expect(importOnnx("/nowhere/model.onnx")).rejects.toThrow(/nowhere.*cannot be read/);
  });
});

/** A protobuf field that holds bytes. */
function field(number: number, content: Uint8Array): Uint8Array<ArrayBuffer> {
  const length: number[] = [];
  let rest = content.length;
  for (; rest > 127; rest >>>= 7) length.push((rest & 127) | 128);
  return Uint8Array.of((number << 3) | 2, ...length, rest, ...content);
}

describe("values in other files", () => {
  const folder = async () => {
    const path = await mkdtemp(join(tmpdir(), "cellbatch-external-"));
    onTestFinished(() => rm(path, { recursive: true }));
    await mkdir(join(path, "model"));
    await writeFile(join(path, "outside"), new Uint8Array(320));
    await writeFile(join(path, "model", "inside"), new Uint8Array(320));
    await symlink(join(path, "outside"), join(path, "model", "link"));
    return path;
  };
  const withEntries = (entries: Record<string, string>) =>
    changed((model) => {
      const externalData = Object.entries(entries).map(([key, value]) => ({ key, value }));
      Object.assign(weights(model), {
        rawData: new Uint8Array(0),
        dataLocation: DataLocation.EXTERNAL,
        externalData,
      });
    });

  it.each([
    ["beside the folder", { location: "../outside" }, /'k0' lies in '\.\.\/outside', outside the folder/],
    ["at an absolute path", { location: "/etc/passwd" }, /'k0' lies in '\/etc\/passwd', outside/],
    ["behind a link that leads out", { location: "link" }, /'k0' lies in 'link', outside/],
    ["in the folder itself", { location: "." }, /outside/],
    ["at a name with a null", { location: "a\0b" }, /outside/],
    ["nowhere", {}, /outside/],
    ["in no file", { location: "gone" }, /'k0' lie in 'gone', which is not there/],
    [
      "beyond the end",
      { location: "inside", offset: "8" },
      /'k0' lies at 8 to 328 of 'inside', which has 320/,
    ],
    ["at an offset that is no number", { location: "inside", offset: "-1" }, /'k0' has the offset '-1'/],
    [
      "at an offset that overflows",
      { location: "inside", offset: "99999999999999999999" },
      /'k0' has the offset/,
    ],
    [
      "of another length",
      { location: "inside", length: "4" },
      /'k0' needs 320 bytes of 'inside', it names 4/,
    ],
  ])("%s are refused", async (_, entries, why) => {
    const file = join(await folder(), "model", "m.onnx");
    await writeFile(file, withEntries(entries as Record<string, string>));
    await expect(importOnnx(file)).rejects.toThrow(why);
    await expect(importOnnx(file)).rejects.toBeInstanceOf(Fault);
  });

  it("below the folder are read", async () => {
    const file = join(await folder(), "model", "m.onnx");
    await writeFile(file, withEntries({ location: "inside", offset: "0", length: "320" }));
    expect((await importOnnx(file)).lane).toBe("cellular");
  });
});

describe("a damaged ONNX file", () => {
  const files = [...cases, ...refused, ...stepCases].map(bytesOf).filter(({ length }) => length < 4_000);
  const damaged = fc.constantFrom(...files).chain((file) =>
    fc
      .record({
        changes: fc.array(fc.tuple(fc.nat(file.length - 1), fc.nat(255)), { minLength: 1, maxLength: 8 }),
        end: fc.option(fc.nat(file.length), { freq: 4 }),
      })
      .map(({ changes, end }) => {
        const bytes = file.slice();
        for (const [at, byte] of changes) bytes[at] = byte;
        return end === null ? bytes : bytes.subarray(0, end);
      }),
  );

  it("gives a fault or a model, in little time", () => {
    fc.assert(
      fc.property(damaged, (bytes) => {
        const start = performance.now();
        try {
          importOnnxBytes(bytes, { name: "damaged" });
        } catch (error) {
          if (!(error instanceof Fault)) throw error;
          expect(error.code).toBe("INVALID_REQUEST");
        }
        expect(performance.now() - start).toBeLessThan(2_000);
      }),
      { numRuns: 2_000 },
    );
  });

  it("whose structure is valid but senseless gives a fault or a model", () => {
    const shuffled = fc.constantFrom(...files).chain((file) => {
      const { graph } = onnx.ModelProto.decode(file);
      const names = [
        ...graph!.node!.flatMap(({ input, output }) => [...input!, ...output!]),
        ...graph!.initializer!.map(({ name }) => name!),
      ];
      const change = fc.record({
        node: fc.nat(graph!.node!.length - 1),
        input: fc.nat(8),
        name: fc.constantFrom(...names, ""),
        ints: fc.array(fc.integer({ min: -4, max: 9 }), { maxLength: 4 }),
        op: fc.constantFrom(
          "Reshape",
          "Transpose",
          "Gather",
          "Slice",
          "Concat",
          "Squeeze",
          "MatMul",
          "Gemm",
          "Softmax",
          "ReduceMean",
          "LSTM",
          "GRU",
          "Split",
          "Expand",
          "ConstantOfShape",
          "Flatten",
          "ArgMax",
          "Conv",
          "Clip",
          "Where",
        ),
        what: fc.constantFrom("input", "op", "attribute", "constant"),
      });
      return fc.array(change, { minLength: 1, maxLength: 4 }).map((changes) => {
        const model = onnx.ModelProto.decode(file);
        for (const { node: index, input, name, ints, op, what } of changes) {
          const node = model.graph!.node![index]!;
          if (what === "op") node.opType = op;
          if (what === "input" && node.input!.length > 0) node.input![input % node.input!.length] = name;
          for (const attribute of what === "attribute" ? node.attribute! : []) {
            if (attribute.ints?.length) attribute.ints = ints;
            else if (ints.length > 0) attribute.i = ints[0]!;
          }
          const constant = model.graph!.initializer![input % Math.max(1, model.graph!.initializer!.length)];
          if (what === "constant" && constant?.dataType === DataType.INT64 && constant.rawData!.length > 0) {
            const values = BigInt64Array.from({ length: constant.rawData!.length / 8 }, (_, i) =>
              BigInt(ints[i] ?? -1),
            );
            constant.rawData = new Uint8Array(values.buffer);
          }
        }
        return onnx.ModelProto.encode(model).finish();
      });
    });
    fc.assert(
      fc.property(shuffled, (bytes) => {
        try {
          importOnnxBytes(bytes, { name: "shuffled" });
        } catch (error) {
          if (!(error instanceof Fault)) throw error;
        }
      }),
      { numRuns: 2_000 },
    );
  });
});
