import { readFileSync } from "node:fs";
import { mkdtemp, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { SymbolCodec } from "../../models/codec.ts";
import { openCodec } from "../../models/open-codec.ts";
import { readModel } from "../../models/read-model.ts";
import { openSymbols } from "../../models/symbol-codec.ts";
import { openTokenizer } from "../../models/tokenizer-codec.ts";
import { writeSafetensors } from "../../models/write-safetensors.ts";
import { createRuntime } from "../../src/runtime/create.ts";
import { lstmCell } from "../fixtures/models.ts";

const MOST = 10_000;

describe("a list of symbols", () => {
  const symbols = ["a", "b", "é", "𝄞", " "];
  const characters: SymbolCodec = { kind: "characters", symbols };

  it("decodes what it encoded", () => {
    const codec = openSymbols(characters);
    fc.assert(
      fc.property(fc.array(fc.constantFrom(...symbols)), (parts) => {
        expect(codec.decode(codec.encode(parts.join(""), MOST))).toBe(parts.join(""));
      }),
    );
  });

  it("names the symbol it does not know", () => {
    expect(() => openSymbols(characters).encode("ab!", MOST)).toThrow(/"!" is not among/);
    const words = openSymbols({ kind: "symbols", symbols: ["AA", "B"] });
    expect(() => words.encode("AA C", MOST)).toThrow(/"C" is not among/);
  });

  it("takes its unknown symbol for what it does not know, where it has one", async () => {
    const words = openSymbols({ kind: "symbols", symbols: ["AA", "?", "B"], unknown: "?" });
    expect([...words.encode("B C AA", MOST)]).toEqual([2, 1, 0]);
    await expect(openCodec({ ...characters, unknown: "#" })).rejects.toThrow(/"#" is not among the symbols/);
  });

  it("folds case where the model says so", () => {
    expect([...openSymbols({ ...characters, lowerCase: true }).encode("AB", MOST)]).toEqual([0, 1]);
  });

  it("separates symbols by spaces", () => {
    const codec = openSymbols({ kind: "symbols", symbols: ["AA", "B"] });
    expect(codec.decode(codec.encode("B  AA", MOST))).toBe("B AA");
  });
});

const folder = new URL("./tokenizers/", import.meta.url);
const fixture = (name: string) => readFileSync(new URL(`${name}.json`, folder), "utf8");
const open = (name: string, options: object = {}) =>
  openTokenizer({ kind: "tokenizer", json: fixture(name), ...options });

interface Expected {
  readonly text: string;
  readonly ids: readonly number[];
  readonly plainIds: readonly number[];
  readonly decoded: string;
  readonly withSpecial: string;
  readonly pieces: readonly string[];
}

/** What the Rust library says; see `tokenizers/make.py`. */
const expected = JSON.parse(fixture("expected")) as Record<string, readonly Expected[]>;
const names = Object.keys(expected);

describe("a tokenizer.json", () => {
  it.each(names)("(%s) encodes as the library that wrote it", async (name) => {
    const [codec, plain] = [await open(name), await open(name, { addSpecialTokens: false })];
    for (const { text, ids, plainIds } of expected[name]!) {
      expect([...codec.encode(text, MOST)]).toEqual(ids);
      expect([...plain.encode(text, MOST)]).toEqual(plainIds);
    }
  });

  it.each(names)("(%s) decodes as the library that wrote it", async (name) => {
    const [codec, all] = [await open(name), await open(name, { skipSpecialTokens: false })];
    for (const { ids, decoded, withSpecial } of expected[name]!) {
      expect(codec.decode(ids)).toBe(decoded);
      expect(all.decode(ids)).toBe(withSpecial);
    }
  });

  it.each(names)("(%s) decodes a stream as that library, and no piece later", async (name) => {
    const codec = await open(name);
    for (const { ids, pieces, decoded } of expected[name]!) {
      const stream = codec.stream();
      let [ours, theirs] = ["", ""];
      ids.forEach((id, at) => {
        ours += stream.push([id]);
        theirs += pieces[at];
        // Of a token such as "o" with half an "ù", ours gives the "o" at once.
        expect(ours.slice(0, theirs.length)).toBe(theirs);
        expect(decoded.startsWith(ours)).toBe(true);
      });
      expect(ours + stream.end()).toBe(decoded);
    }
  });

  it("of bytes gives back every text, whole and as a stream", async () => {
    const codec = await open("byte-level-bpe");
    fc.assert(
      fc.property(fc.string({ unit: "binary", maxLength: 30 }), (original) => {
        const tokens = codec.encode(original, MOST);
        const stream = codec.stream();
        const pieces = Array.from(tokens, (token) => stream.push([token]));
        expect(codec.decode(tokens)).toBe(original);
        expect(pieces.join("") + stream.end()).toBe(original);
      }),
      { numRuns: 100 },
    );
  });

  it.each(names)("(%s) gives a stream of any tokens the text that they have together", async (name) => {
    const codec = await open(name);
    fc.assert(
      fc.property(fc.array(fc.nat(codec.size + 3), { maxLength: 80 }), (tokens) => {
        const stream = codec.stream();
        const pieces = tokens.map((token) => stream.push([token]));
        expect(pieces.join("") + stream.end()).toBe(codec.decode(tokens));
      }),
      { numRuns: 100 },
    );
  });

  it("keeps no more than a few tokens of a stream that never finishes a character", async () => {
    const codec = await open("byte-level-bpe");
    // "é" is C3 A9: its first byte again and again, then once with its second.
    const [lead, second] = codec.encode("ĂČé", MOST).slice(-2) as unknown as [number, number];
    const tokens = [...Array(200).fill(lead), second];
    const stream = codec.stream();
    const pieces = tokens.map((token: number) => stream.push([token]));
    expect(pieces.join("") + stream.end()).toBe(codec.decode(tokens));
  });

  it("says what to install where the package is missing", async () => {
    const missing = Object.assign(new Error("Cannot find package"), { code: "ERR_MODULE_NOT_FOUND" });
    const codec = { kind: "tokenizer", json: fixture("unigram") } as const;
    await expect(openTokenizer(codec, () => Promise.reject(missing))).rejects.toMatchObject({
      code: "INVALID_REQUEST",
      message: expect.stringMatching(/npm install @huggingface\/tokenizers/),
    });
  });

  it("refuses a text that is longer than all tokens it may have", async () => {
    const codec = await open("unigram");
    expect(() => codec.encode("a".repeat(1000), 10)).toThrow(/1000 characters has more than 10 tokens/);
  });

  it.each([
    ["no JSON", "{", /no JSON/],
    ["no tokenizer", "[1]", /no tokenizer\.json/],
    ["of an unknown kind", '{"model":{"type":"WordLevelish"}}', /model\.type/],
    ["without a vocabulary", '{"model":{"type":"BPE"}}', /cannot be used/],
  ])("that is %s is refused with the reason", async (_, json, why) => {
    await expect(openTokenizer({ kind: "tokenizer", json })).rejects.toThrow(why);
  });
});

describe("a model folder with a tokenizer.json", () => {
  const TOKENS = 340;

  async function writeFolder(file: string): Promise<string> {
    const path = await mkdtemp(join(tmpdir(), "cellbatch-"));
    const { body } = lstmCell("cell", { hidden: 8, input: 4, symbols: TOKENS, classes: TOKENS });
    if (body.kind !== "lstm") throw new Error("not an LSTM");
    const { weights, embedding, head } = body;
    const matrix = ({ rows, columns, data }: NonNullable<typeof embedding>) => ({
      shape: [rows, columns],
      data,
    });
    const vector = (data: Float32Array) => ({ shape: [data.length], data });
    const tensors = new Map([
      ["weight_ih", matrix(weights.inputWeights)],
      ["weight_hh", matrix(weights.stateWeights)],
      ["bias_ih", vector(weights.inputBias)],
      ["bias_hh", vector(weights.stateBias)],
      ["embedding.weight", matrix(embedding!)],
      ["head.weight", matrix(head!.weights)],
      ["head.bias", vector(head!.bias)],
    ]);
    await writeFile(join(path, "weights.safetensors"), writeSafetensors(tensors));
    await writeFile(join(path, "tokenizer.json"), fixture("byte-level-bpe"));
    const text = { name: "text", tensor: "token", codec: { kind: "tokenizer", file } };
    const manifest = {
      format: 1,
      name: "writer",
      version: "1",
      description: "",
      cells: [{ name: "cell", kind: "lstm", weights: { file: "weights.safetensors" } }],
      program: { kind: "generate", cell: "cell", start: 0, stop: 0, maxSteps: 60 },
      text: { inputs: [text], outputs: [text] },
    };
    await writeFile(join(path, "model.json"), JSON.stringify(manifest));
    return path;
  }

  it("takes text and streams text whose pieces make the result, characters whole", async () => {
    const runtime = await createRuntime({ models: [await writeFolder("tokenizer.json")], inline: true });
    try {
      for (let seed = 0; seed < 20; seed++) {
        // Hot enough for any byte to follow any other, so that characters break off.
        const options = { temperature: 100, seed };
        const { outputs } = await runtime.run("writer", { text: "the slot 東京" }, options);
        const pieces: unknown[] = [];
        for await (const step of runtime.stream("writer", { text: "the slot 東京" }, options)) {
          pieces.push(step.outputs.text);
        }
        expect(pieces.join("")).toBe(outputs.text);
        expect(pieces.length).toBeGreaterThan(10);
      }
    } finally {
      await runtime.close(0);
    }
  });

  it("is refused where the file is missing or lies outside", async () => {
    await expect(readModel(await writeFolder("other.json"))).rejects.toThrow(/other\.json cannot be read/);
    await expect(readModel(await writeFolder("../tokenizer.json"))).rejects.toThrow(/lies outside/);
  });
});
