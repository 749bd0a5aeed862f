import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";
import { canRunNatively } from "../../kernels/native/cells.ts";
import { importFolder } from "../../models/import/import-folder.ts";
import { importModel } from "../../models/import/import-model.ts";
import type { ImportedModel } from "../../models/import/imported.ts";
import { quantizeModel } from "../../models/import/quantize.ts";
import { importTorchBytes } from "../../models/import/torch/import-torch.ts";
import { readModel } from "../../models/read-model.ts";
import { writeModel } from "../../models/write-model.ts";
import { writeSafetensors } from "../../models/write-safetensors.ts";
import { zooModels } from "../../models/zoo.ts";
import { float32, type Tensor } from "../../src/core/tensor.ts";
import { verifyModel } from "../../src/verify/verify.ts";
import { noise } from "../fixtures/models.ts";
import { serveImported } from "./serve.ts";

const charLm = zooModels().folders.find((folder) => basename(folder) === "char-lm")!;

/** A state dict of an LSTM of 16 over vectors of 5, with as many layers and directions as asked. */
function stateDict(layers: number, suffixes: readonly string[]): Uint8Array {
  const tensors = new Map<string, { shape: number[]; data: Float32Array }>();
  for (let layer = 0; layer < layers; layer++) {
    for (const suffix of suffixes) {
      const input = layer === 0 ? 5 : 16 * suffixes.length;
      const add = (name: string, ...shape: number[]) => {
        const length = shape.reduce((a, b) => a * b, 1);
        tensors.set(`${name}_l${layer}${suffix}`, { shape, data: noise(length, tensors.size) });
      };
      add("weight_ih", 64, input);
      add("weight_hh", 64, 16);
      add("bias_ih", 64);
      add("bias_hh", 64);
    }
  }
  return writeSafetensors(tensors);
}

async function answers(imported: ImportedModel): Promise<number[][]> {
  const runtime = await serveImported(imported);
  const all = await Promise.all(
    [1, 3, 12].map((steps) => {
      const x = float32([steps, 5], noise(steps * 5, steps));
      return runtime.run("case", { [runtime.models[0]!.inputs[0]!.name]: x });
    }),
  );
  return all.map(({ outputs }) => [...(Object.values(outputs)[0] as Tensor).data]);
}

describe("a model that is imported with int8", () => {
  it("answers close to what it answers in float32, both of its directions", async () => {
    const full = importTorchBytes(stateDict(1, ["", "_reverse"]), { name: "case" });
    const small = quantizeModel(full, "int8");
    expect(small.manifest.cells.map((cell) => "quantize" in cell && cell.quantize)).toEqual(["int8", "int8"]);
    expect(small.files).toEqual(full.files);
    const [wanted, got] = [await answers(full), await answers(small)];
    let largest = 0;
    wanted.forEach((values, i) => {
      values.forEach((value, at) => {
        largest = Math.max(largest, Math.abs(value - got[i]![at]!));
      });
    });
    // Half a step of a state is 0.004, and twelve steps add up; nothing here is as large as 0.5.
    expect(largest).toBeLessThan(0.05);
    expect(largest).toBeGreaterThan(1e-5);
  });

  it("is refused where no cell is built from weights, with the reason", () => {
    const stacked = importTorchBytes(stateDict(2, [""]), { name: "case" });
    expect(() => quantizeModel(stacked, "int8")).toThrow(
      /model 'case' has no cell to quantise: '.*' is a step graph/,
    );
  });

  it("may be a folder, which is copied with the files that it names and verified bit for bit", async () => {
    const imported = await importModel(charLm, { name: "small", quantize: "int8" });
    expect([...imported.files.keys()].sort()).toEqual(["vocabulary.json", "weights.safetensors"]);
    const folder = await mkdtemp(join(tmpdir(), "cellbatch-int8-"));
    onTestFinished(() => rm(folder, { recursive: true }));
    await writeModel(folder, imported);
    const model = await readModel(folder);
    expect(model.name).toBe("small");
    expect(model.cells[0]!.body).toMatchObject({ kind: "lstm", quantize: "int8" });
    expect(canRunNatively(model.cells[0]!)).toBe(false);
    expect(canRunNatively((await readModel(charLm)).cells[0]!)).toBe(true);
    const { findings, independent } = await verifyModel(model);
    expect(independent).toBe(true);
    expect(findings.filter(({ difference }) => difference !== 0)).toEqual([]);
  });

  it("is refused where the folder lacks a file that it names", async () => {
    const folder = await mkdtemp(join(tmpdir(), "cellbatch-int8-"));
    onTestFinished(() => rm(folder, { recursive: true }));
    const { manifest } = await importFolder(charLm);
    await writeModel(folder, { manifest, files: new Map(), lane: "cellular", why: "", notes: [] });
    await expect(importFolder(folder)).rejects.toThrow(/'weights.safetensors' cannot be read/);
  });
});
