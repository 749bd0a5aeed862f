import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { ModelDefinition } from "../../models/definition.ts";
import type { Gate } from "../../models/pipeline.ts";
import { readModel } from "../../models/read-model.ts";
import { createRuntime } from "../../src/runtime/create.ts";
import type { Runtime } from "../../src/runtime/types.ts";
import { chainModel, lstmCell, writerModel } from "../fixtures/models.ts";
import { pipeline, stage, stepsOf, vectors } from "./pipelines.ts";

const g2p = fileURLToPath(new URL("../../models/g2p", import.meta.url));

/** Phonemes in, h of the last one out. */
async function taggerModel(): Promise<ModelDefinition> {
  const { text } = await readModel(g2p);
  const { codec } = text!.outputs[0]!;
  if (codec.kind === "tokenizer") throw new Error("phonemes are a list");
  return {
    ...chainModel(),
    name: "tagger",
    cells: [lstmCell("cell", { hidden: 8, input: 4, symbols: codec.symbols.length })],
    inputs: [{ name: "token", dtype: "int32", shape: [-1] }],
    outputs: [{ name: "h", dtype: "float32", shape: [8] }],
    text: { inputs: [{ name: "phonemes", tensor: "token", codec }], outputs: [] },
  };
}

const twice = pipeline("twice", [stage("one", "writer"), stage("two", "writer", { text: "one.text" })]);

let runtime: Runtime;
beforeAll(async () => {
  runtime = await createRuntime({
    models: [
      g2p,
      await taggerModel(),
      writerModel(),
      pipeline("spoken", [stage("g2p", "g2p"), stage("tag", "tagger", { phonemes: "g2p.phonemes" })], {
        phonemes: "g2p.phonemes",
        h: "tag.h",
      }),
      twice,
    ],
    inline: true,
  });
}, 180_000);
afterAll(() => runtime.close(0));

describe("a request of a pipeline", () => {
  it("gives what its models give one after the other, in any company", async () => {
    const words = ["cellular", "batching", "runs", "at", "every", "step", "state", "rows"];
    const alone = async (text: string) => {
      const { outputs, usage } = await runtime.run("g2p", { text });
      const phonemes = outputs.phonemes!;
      const tagged = await runtime.run("tagger", { phonemes });
      return { phonemes, ...tagged.outputs, cells: usage.cells + tagged.usage.cells };
    };
    const results = await Promise.all(words.map((text) => runtime.run("spoken", { text })));
    for (const [i, { outputs, usage }] of results.entries()) {
      expect({ ...outputs, cells: usage.cells }).toEqual(await alone(words[i]!));
    }
    expect(runtime.stats().active).toBe(0);
  });

  it("streams the steps of the stage that answers", async () => {
    const options = { temperature: 1, seed: 3, maxSteps: 7 };
    const { outputs } = await runtime.run("twice", { text: "ab" }, options);
    const first = await runtime.run("writer", { text: "ab" }, options);
    expect(outputs).toEqual((await runtime.run("writer", { text: first.outputs.text! }, options)).outputs);
    const steps = await stepsOf(runtime.stream("twice", { text: "ab" }, options));
    expect(steps.map(({ step }) => step)).toEqual([...steps.keys()]);
    expect(steps.map((one) => one.outputs.text).join("")).toBe(outputs.text);
  });

  it("names the stage that cannot take its input, and inputs that are missing or unknown", async () => {
    await expect(runtime.run("spoken", { text: "naïve" })).rejects.toThrow(/stage 'g2p': "ï" is not among/);
    await expect(runtime.run("spoken", {})).rejects.toThrow(/input 'text' of model 'spoken' is missing/);
    await expect(runtime.run("spoken", { word: "a" })).rejects.toThrow(/no input 'word', it takes 'text'/);
    expect(runtime.stats().active).toBe(0);
  });

  it("ends with CANCELLED or DEADLINE_EXCEEDED, whichever stage it is in", async () => {
    for (const turns of [0, 1, 2, 4, 8, 16, 30]) {
      const abort = new AbortController();
      const running = runtime.run("twice", { text: "abcabc" }, { signal: abort.signal });
      for (let turn = 0; turn < turns; turn++) await new Promise(setImmediate);
      abort.abort();
      await expect(running).rejects.toMatchObject({ code: "CANCELLED" });
      expect(runtime.stats().active).toBe(0);
    }
    await expect(runtime.run("twice", { text: "abc" }, { timeoutMs: 0.01 })).rejects.toMatchObject({
      code: "DEADLINE_EXCEEDED",
      message: expect.stringMatching(/stage/),
    });
  });

  it("drains with all of its stages when the runtime closes", async () => {
    const own = await createRuntime({
      models: [writerModel(), twice],
      inline: true,
    });
    const running = own.run("twice", { text: "ab" });
    await own.close();
    expect((await running).outputs.text).toHaveLength(20);
  });

  it("leaves a stage out whose gate stays closed, and what needs it", async () => {
    const last = { ...chainModel(), name: "judge", cells: [lstmCell("cell", { hidden: 1, input: 4 })] };
    const judge: ModelDefinition = { ...last, outputs: [{ name: "h", dtype: "float32", shape: [1] }] };
    const rule = (open: number): Gate => ({ output: "judge.h", open, close: open, hold: 0, reset: false });
    const gated = (name: string, open: number) =>
      pipeline(name, [stage("judge", "judge"), stage("chain", "chain", {}, rule(open))], {
        verdict: "judge.h",
        h: "chain.h",
      });
    const own = await createRuntime({
      models: [judge, chainModel(), gated("low", -1), gated("high", 1)],
      inline: true,
    });
    try {
      const x = vectors(5, 2);
      const low = await own.run("low", { x });
      expect(low.outputs.h).toEqual((await own.run("chain", { x })).outputs.h);
      expect(low.usage.cells).toBe(10);
      const high = await own.run("high", { x });
      expect([Object.keys(high.outputs), high.usage.cells]).toEqual([["verdict"], 5]);
    } finally {
      await own.close(0);
    }
  });
});
