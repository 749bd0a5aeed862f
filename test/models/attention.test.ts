import { readFileSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";
import { int32, type Tensor } from "../../src/core/tensor.ts";
import { createRuntime } from "../../src/runtime/create.ts";

interface Case {
  readonly name: string;
  readonly encoders: string;
  readonly decoder: string;
  readonly states: readonly string[];
  readonly answers: readonly { readonly source: number[]; readonly tokens: number[] }[];
}

const { sizes, cases } = JSON.parse(
  readFileSync(new URL("fixtures/attention.json", import.meta.url), "utf8"),
) as {
  sizes: Record<"hidden" | "most" | "words" | "start" | "stop" | "maxSteps", number>;
  cases: Case[];
};

/** The folder that a user makes of a decoder exported from PyTorch and the state dicts of two encoders. */
async function folderOf({ name, encoders, decoder, states }: Case): Promise<string> {
  const { hidden, most, words, start, stop, maxSteps } = sizes;
  const folder = await mkdtemp(join(tmpdir(), "cellbatch-attention-"));
  onTestFinished(() => rm(folder, { recursive: true }));
  const reader = (prefix: string) => ({
    name: prefix,
    kind: "lstm",
    weights: { file: "encoders.safetensors", prefix: `${prefix}.` },
  });
  const manifest = {
    format: 1,
    name: name.toLowerCase(),
    version: "1",
    description: `attention as ${name} has it`,
    cells: [
      reader("back"),
      reader("ahead"),
      {
        name: "decoder",
        kind: "onnx",
        file: "decoder.onnx",
        inputs: [
          { name: "token", dtype: "int32", shape: [] },
          { name: "memory", shape: [most, 2 * hidden] },
          { name: "mask", shape: [most] },
        ],
        states: states.map((state) => ({ input: state, output: `next_${state}`, shape: [hidden] })),
        outputs: [{ name: "logits", shape: [words] }],
      },
    ],
    program: {
      kind: "seq2seq",
      encoder: "back",
      decoder: "decoder",
      reverse: true,
      attention: { memory: "memory", mask: "mask", other: "ahead" },
      start,
      stop,
      maxSteps,
    },
  };
  await writeFile(join(folder, "encoders.safetensors"), Buffer.from(encoders, "base64"));
  await writeFile(join(folder, "decoder.onnx"), Buffer.from(decoder, "base64"));
  await writeFile(join(folder, "model.json"), JSON.stringify(manifest));
  return folder;
}

describe("a decoder that attends as PyTorch exports it", () => {
  it.each(cases.map((one) => [one.name, one] as const))(
    "says of sources of all lengths at once what PyTorch says of each alone: %s",
    async (name, one) => {
      const runtime = await createRuntime({ models: [await folderOf(one)], inline: true, maxBatch: 8 });
      onTestFinished(() => runtime.close(0));
      const answers = await Promise.all(
        one.answers.map(({ source }) =>
          runtime.run(name.toLowerCase(), { token: int32([source.length], Int32Array.from(source)) }),
        ),
      );
      expect(answers.map(({ outputs }) => [...(outputs.token as Tensor).data])).toEqual(
        one.answers.map(({ tokens }) => tokens),
      );
      expect(new Set(one.answers.map(({ source }) => source.length)).size).toBe(sizes.most);
      expect(new Set(one.answers.map(({ tokens }) => String(tokens))).size).toBeGreaterThan(8);
    },
  );
});
