import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";
import type { ImportedModel } from "../../../models/import/imported.ts";
import { importOnnxBytes } from "../../../models/import/onnx/import-onnx.ts";
import { findStatePairs } from "../../../models/import/onnx/state-pairs.ts";
import { createRuntime } from "../../../src/runtime/index.ts";
import { bytesOf, cases, difference, rowOf } from "./cases.ts";

function imported(name: string, outputs?: readonly string[]): ImportedModel {
  const one = cases.find((candidate) => candidate.name === name)!;
  return importOnnxBytes(bytesOf(one), { name: "case", ...(outputs ? { outputs } : {}) });
}

const kinds = ({ manifest }: ImportedModel) => manifest.cells.map(({ name, kind }) => `${name}: ${kind}`);

describe("the form of imported cells", () => {
  it("is plain for an LSTM or GRU as PyTorch defines it", () => {
    expect(kinds(imported("lstm forward", ["Y"]))).toEqual(["step: lstm"]);
    expect(kinds(imported("gru forward reset after", ["Y"]))).toEqual(["step: gru"]);
  });

  it("is plain with the embedding before it and the linear layer after it", () => {
    const { manifest, notes, files } = imported("embedding, lstm, linear on the last state");
    expect(manifest.cells).toEqual([
      {
        name: "step",
        kind: "lstm",
        weights: { file: "weights.safetensors", prefix: "step." },
        outputs: ["logits", "token"],
      },
    ]);
    expect(manifest.program).toEqual({ kind: "chain", cell: "step", collect: "last" });
    expect([...files.keys()]).toEqual(["weights.safetensors"]);
    expect(notes).toEqual(["input 'tokens' is called 'token'", "output 'best' is called 'token'"]);
  });

  it("is a step graph for what differs from PyTorch", () => {
    for (const name of [
      "gru forward reset before",
      "lstm clip",
      "lstm input_forget",
      "rnn clip",
      "lstm activations",
    ]) {
      expect(kinds(imported(name, ["Y"])), name).toEqual(["step: onnx"]);
    }
  });

  it("is one cell with several states for recurrences one after the other", () => {
    const { manifest } = imported("three stacked lstms as pytorch writes them");
    const [cell] = manifest.cells;
    expect(manifest.cells).toHaveLength(1);
    expect(cell!.kind === "onnx" && cell!.states.map(({ input }) => input)).toEqual(
      [0, 1, 2].flatMap((layer) => [`step/h${layer}`, `step/c${layer}`]),
    );
    expect(manifest.program).toEqual({ kind: "chain", cell: "step", collect: "all" });
  });

  it("is a layer of two cells for each bidirectional recurrence, and a head for what follows the last states", () => {
    const model = imported("two bidirectional lstms, both last states to a classifier");
    expect(kinds(model)).toEqual([
      "layer0_forward: lstm",
      "layer0_backward: lstm",
      "layer1_forward: lstm",
      "layer1_backward: lstm",
      "head: onnx",
    ]);
    expect(model.manifest.program).toEqual({
      kind: "layers",
      layers: [
        { forward: "layer0_forward", backward: "layer0_backward", merge: "concat" },
        { forward: "layer1_forward", backward: "layer1_backward", merge: "concat" },
      ],
      collect: "last",
      head: "head",
    });
  });

  it("is a cell without states for what acts on each step after a bidirectional recurrence", () => {
    const { manifest } = imported("bidirectional tagger");
    expect(manifest.program).toMatchObject({
      kind: "layers",
      layers: [{}, { forward: "layer1" }],
      collect: "all",
    });
    const last = manifest.cells.at(-1)!;
    expect(last.kind === "onnx" && last.states).toEqual([]);
  });

  it("collects each output as the graph gives it", () => {
    expect(imported("lstm bidirectional").manifest.program).toMatchObject({
      collect: { Y: "all", Y_h: "last", Y_c: "last" },
    });
    expect(imported("max over the steps of a gru").manifest.program).toMatchObject({ collect: "max" });
    expect(imported("mean over the steps, then linear").manifest.program).toMatchObject({
      collect: "mean",
      head: "head",
    });
  });

  it("leaves out a backward cell's counterpart where only the reverse is computed", () => {
    expect(imported("lstm reverse from states", ["Y"]).manifest.program).toMatchObject({
      layers: [{ backward: "layer0_backward" }],
    });
  });
});

describe("an imported model", () => {
  it("says which inputs fell away", () => {
    expect(imported("three stacked lstms as pytorch writes them").notes).toEqual([
      "input 'h0' falls away: requests begin with zeros and keep the state that 'hn' would give",
      "input 'c0' falls away: requests begin with zeros and keep the state that 'cn' would give",
    ]);
    expect(imported("lstm sequence_lens").notes[0]).toBe(
      "input 'lengths' falls away: a request is as long as its steps",
    );
  });

  it("runs in the engine where its program is a chain", async () => {
    const one = cases.find(({ name }) => name === "three stacked lstms as pytorch writes them")!;
    const { manifest, files } = imported(one.name);
    const folder = await mkdtemp(join(tmpdir(), "cellbatch-imported-"));
    onTestFinished(() => rm(folder, { recursive: true }));
    await writeFile(join(folder, "model.json"), JSON.stringify(manifest));
    for (const [name, content] of files) await writeFile(join(folder, name), content);
    const runtime = await createRuntime({ models: [folder], inline: true });
    onTestFinished(() => runtime.close());
    const x = rowOf(one.inputs.x!, 1, 5);
    const { outputs } = await runtime.run("case", {
      x: { dtype: "float32", shape: [5, 4], data: Float32Array.from(x.flat()) },
    });
    const data = (outputs as Record<string, { data: Float32Array }>).output!.data;
    expect(difference([[...data]], [rowOf(one.outputs.output!, 1, 5).flat()])).toBeLessThan(1e-5);
  });
});

describe("states are paired by name, type and shape", () => {
  const port = (name: string, shape: (number | string)[] = ["batch", 8], type = 1) => ({ name, type, shape });

  it.each([
    ["h", "hn"],
    ["state", "stateN"],
    ["h_in", "h_out"],
    ["hidden", "new_hidden"],
    ["h0", "hn"],
    ["past_key_values.0.key", "present.0.key"],
    ["past_ssm.3", "present_ssm.3"],
    ["prev_state", "next_state"],
    ["state_in_1", "state_out_1"],
    ["cell_state", "cell_state_out"],
    ["lstm_input_h", "lstm_output_h"],
    ["initial_c", "final_c"],
    ["h1", "hn1"],
  ])("%s becomes %s", (input, output) => {
    expect(findStatePairs([port(input)], [port("y"), port(output)])).toEqual([{ input, output }]);
  });

  it.each([
    ["of another type", [port("h")], [port("hn", ["batch", 8], 7)]],
    ["of another shape", [port("h")], [port("hn", ["batch", 9])]],
    ["that is fed in at every step", [port("input")], [port("output")]],
    ["with no like name", [port("h")], [port("y")]],
  ])("but not one %s", (_, inputs, outputs) => {
    expect(findStatePairs(inputs, outputs)).toEqual([]);
  });

  it("and two that could be the same are named", () => {
    expect(() => findStatePairs([port("h"), port("h0")], [port("hn")])).toThrow(
      /both 'h' and 'h0' seem to become 'hn'/,
    );
  });
});
