import { readFileSync } from "node:fs";
import { basename } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { zooModels } from "../../models/zoo.ts";
import { float32, type Tensor } from "../../src/core/tensor.ts";
import { createRuntime } from "../../src/runtime/create.ts";
import type { Runtime } from "../../src/runtime/types.ts";

interface Spoken {
  readonly word: string;
  readonly phonemes: string[];
  readonly searched: string[];
}

let runtime: Runtime;
const { folders } = zooModels();
const expected = (name: string) =>
  JSON.parse(readFileSync(`${folders.find((folder) => basename(folder) === name)}/expected.json`, "utf8"));

beforeAll(async () => {
  runtime = await createRuntime({ models: folders, inline: true });
}, 60_000);
afterAll(() => runtime.close(0));

describe("the zoo gives what PyTorch gave", () => {
  it("for g2p: the phonemes of 50 words it was not trained on, greedily and by beam search", async () => {
    const { width, words }: { width: number; words: Spoken[] } = expected("g2p");
    expect(words).toHaveLength(50);
    const say = async (beamWidth: number) => {
      const answers = await Promise.all(
        words.map(({ word }) => runtime.run("g2p", { text: word }, { beamWidth })),
      );
      return answers.map(({ outputs }) => outputs.phonemes);
    };
    expect(await say(1)).toEqual(words.map(({ phonemes }) => phonemes.join(" ")));
    expect(width).toBeGreaterThan(1);
    expect(await say(width)).toEqual(words.map(({ searched }) => searched.join(" ")));
  });

  it("for char-lm: the likeliest continuation", async () => {
    const { prompt, continuation } = expected("char-lm");
    const { outputs } = await runtime.run("char-lm", { text: prompt }, { maxSteps: continuation.length });
    expect(outputs.text).toBe(continuation);
  });

  it("for stress: the marked phonemes of 50 words it was not trained on", async () => {
    const { words }: { words: { text: string; marked: string }[] } = expected("stress");
    expect(words).toHaveLength(50);
    const answers = await Promise.all(words.map(({ text }) => runtime.run("stress", { phonemes: text })));
    expect(answers.map(({ outputs }) => outputs.phonemes)).toEqual(words.map(({ marked }) => marked));
  });

  it("for listops: the values of 60 expressions, all at once", async () => {
    const { expressions }: { expressions: { text: string; value: string }[] } = expected("listops");
    expect(expressions).toHaveLength(60);
    const answers = await Promise.all(expressions.map(({ text }) => runtime.run("listops", { text })));
    expect(answers.map(({ outputs }) => outputs.value)).toEqual(expressions.map(({ value }) => value));
  });

  it("for forecaster: the temperatures after each of 40 days", async () => {
    const { days, tomorrow }: { days: number[][]; tomorrow: number[][] } = expected("forecaster");
    expect(days).toHaveLength(40);
    const { outputs } = await runtime.run("forecaster", {
      days: float32([40, 6], Float32Array.from(days.flat())),
    });
    const said = outputs.tomorrow as Tensor;
    expect(said.shape).toEqual([40, 2]);
    tomorrow.flat().forEach((value, i) => expect(said.data[i]).toBeCloseTo(value, 4));
  });
});

describe("silero-vad", () => {
  it("gives a stream among others, of other lengths, bit for bit what it gives it alone", async () => {
    const audio = (seed: number, windows: number) =>
      float32(
        [windows, 512],
        Float32Array.from(
          { length: windows * 512 },
          (_, i) => 0.3 * Math.sin(i * (0.02 + seed / 97)) * Math.sin(i / 900),
        ),
      );
    const listen = async (seed: number, windows: number) => {
      const session = runtime.session("silero-vad");
      const { data } = audio(seed, windows);
      for (let at = 0; at < windows; at++) {
        session.push({ input: float32([512], data.slice(at * 512, (at + 1) * 512) as Float32Array) });
        if ((at + seed) % 3 === 0) await session.flush();
      }
      await session.end();
      const given: number[] = [];
      for await (const { outputs } of session)
        given.push(((outputs.output as Tensor).data as Float32Array)[0]!);
      return given;
    };
    const lengths = [9, 4, 12, 7, 1, 15];
    const together = await Promise.all(lengths.map((windows, seed) => listen(seed, windows)));
    for (const [seed, windows] of lengths.entries())
      expect(together[seed]).toEqual(await listen(seed, windows));
    expect(together.flat().every((value) => value > 0 && value < 1)).toBe(true);
  });
});
