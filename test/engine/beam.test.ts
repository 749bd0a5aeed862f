import fc from "fast-check";
import { describe, expect, it, onTestFinished } from "vitest";
import { ReferenceKernel } from "../../kernels/reference/reference.ts";
import type { Beam, ModelDefinition } from "../../models/definition.ts";
import { int32, type Tensor } from "../../src/core/tensor.ts";
import { BeamSearch } from "../../src/engine/beam.ts";
import { createRuntime } from "../../src/runtime/create.ts";
import { lstmCell } from "../fixtures/models.ts";

const STOP = 0;

interface Sequence {
  readonly tokens: readonly number[];
  readonly score: number;
}

/** Logits after some tokens. */
type Language = (tokens: readonly number[]) => ArrayLike<number>;

function logProbabilities(logits: ArrayLike<number>): number[] {
  const sum = Array.from(logits).reduce((total, value) => total + Math.exp(value), 0);
  return Array.from(logits, (value) => value - Math.log(sum));
}

/** Beam search as one writes it down: lists of whole sequences, no states, no shared tails. */
function plainSearch(
  language: Language,
  { width, lengthPenalty, nBest }: Beam,
  maxSteps: number,
): Sequence[] {
  let live: Sequence[] = [{ tokens: [], score: 0 }];
  const found: Sequence[] = [];
  for (let steps = 1; steps <= maxSteps && found.length < width && live.length > 0; steps++) {
    const all = live
      .flatMap(({ tokens, score }) =>
        logProbabilities(language(tokens)).map((value, token) => ({
          tokens: [...tokens, token],
          score: score + value,
        })),
      )
      .sort((a, b) => b.score - a.score)
      .slice(0, 2 * width);
    const ends = all.slice(0, width).filter(({ tokens }) => tokens.at(-1) === STOP);
    found.push(
      ...ends.map(({ tokens, score }) => ({
        tokens: tokens.slice(0, -1),
        score: score / steps ** lengthPenalty,
      })),
    );
    live = all.filter(({ tokens }) => tokens.at(-1) !== STOP).slice(0, width);
    if (steps === maxSteps)
      found.push(...live.map(({ tokens, score }) => ({ tokens, score: score / steps ** lengthPenalty })));
  }
  return found.sort((a, b) => b.score - a.score).slice(0, nBest);
}

/** Runs the class under test, with the tokens of each beam kept here. */
function search(language: Language, beam: Beam, maxSteps: number): readonly Sequence[] {
  const under = new BeamSearch(beam, STOP, maxSteps);
  let live = new Map<number, readonly number[]>([[0, []]]);
  for (;;) {
    let done = false;
    for (const [number, tokens] of live) {
      expect(done).toBe(false);
      const logits = Float32Array.from([9, ...Array.from(language(tokens)), 9]);
      done = under.step(number, logits, 1, logits.length - 2);
    }
    expect(done).toBe(true);
    const moves = under.advance();
    if (!moves) return under.best;
    expect(new Set(moves.map(({ beam: number }) => number)).size).toBe(moves.length);
    const parents = new Set(moves.map(({ parent }) => parent));
    // A parent's state is read after others have been overwritten, so only itself may take its number.
    for (const { beam: number, parent } of moves)
      if (number !== parent) expect(parents.has(number)).toBe(false);
    live = new Map(moves.map(({ beam: number, parent, token }) => [number, [...live.get(parent)!, token]]));
  }
}

/** A language of `size` tokens that is the same for the same seed. */
function randomLanguage(size: number, seed: number): Language {
  return (tokens) => {
    let state = tokens.reduce((hash, token) => Math.imul(hash ^ (token + 1), 0x01000193), seed | 1);
    return Float32Array.from({ length: size }, () => {
      state = (Math.imul(state, 1_664_525) + 1_013_904_223) | 0;
      return (state / 2 ** 31) * 2;
    });
  };
}

describe("beam search", () => {
  const beams = fc
    .record({
      width: fc.integer({ min: 1, max: 6 }),
      lengthPenalty: fc.constantFrom(0, 0.6, 1),
      nBest: fc.constant(1),
    })
    .chain((beam) => fc.integer({ min: 1, max: beam.width }).map((nBest) => ({ ...beam, nBest })));

  it("finds what a search over lists of whole sequences finds", () => {
    fc.assert(
      fc.property(
        beams,
        fc.integer({ min: 2, max: 7 }),
        fc.integer({ min: 1, max: 8 }),
        fc.integer(),
        (beam, size, maxSteps, seed) => {
          const language = randomLanguage(size, seed);
          const actual = search(language, beam, maxSteps);
          const expected = plainSearch(language, beam, maxSteps);
          expect(actual.map(({ tokens }) => tokens)).toEqual(expected.map(({ tokens }) => tokens));
          actual.forEach(({ score }, i) => expect(score).toBeCloseTo(expected[i]!.score, 4));
        },
      ),
    );
  });

  it("takes the likeliest token at each step when it is one wide", () => {
    const language = randomLanguage(5, 42);
    const greedy: number[] = [];
    while (greedy.length < 12) {
      const logits = Array.from(language(greedy));
      const token = logits.indexOf(Math.max(...logits));
      if (token === STOP) break;
      greedy.push(token);
    }
    const [best] = search(language, { width: 1, lengthPenalty: 1, nBest: 1 }, 12);
    expect(best!.tokens).toEqual(greedy);
  });
});

const CLASSES = 6;
const MAX_STEPS = 9;

function generator(beam?: Beam): ModelDefinition {
  const tokens = { name: "token", dtype: "int32" as const, shape: [-1] };
  return {
    name: "generator",
    version: "1",
    description: "a model for tests",
    cells: [lstmCell("cell", { hidden: 8, input: 4, symbols: CLASSES, classes: CLASSES })],
    program: {
      kind: "generate",
      cell: "cell",
      start: 1,
      stop: STOP,
      maxSteps: MAX_STEPS,
      ...(beam ? { beam } : {}),
    },
    inputs: [tokens],
    outputs: beam
      ? [tokens, { ...tokens, name: "token.2" }, { name: "score", dtype: "float32", shape: [-1] }]
      : [tokens],
  };
}

/** The cell itself in float64 after a prompt, run anew for every sequence. */
function cellLanguage(prompt: readonly number[]): Language {
  const { cells } = generator();
  return (tokens) => {
    const kernel = new ReferenceKernel(cells);
    kernel.reserve(1);
    const slot = Int32Array.of(0);
    for (const token of [1, ...prompt, ...tokens]) {
      kernel.stage(0)[0]![0] = token;
      kernel.run({ cell: 0, rows: 1, steps: 1, reads: slot, writes: slot });
    }
    return kernel.outputs(0)[0]!.slice(0, CLASSES);
  };
}

describe("a model that generates by beam search", () => {
  const beam = { width: 4, lengthPenalty: 0.6, nBest: 2 };
  const serve = async () => {
    const runtime = await createRuntime({ models: [generator(beam)], inline: true, maxBatch: 8 });
    onTestFinished(() => runtime.close(0));
    return runtime;
  };
  const prompts = Array.from({ length: 20 }, (_, i) =>
    Array.from({ length: i % 4 }, (_, at) => 1 + ((i + at) % 5)),
  );

  it("answers each of many requests at once as a search over the cell alone does", async () => {
    const runtime = await serve();
    const results = await Promise.all(
      prompts.map((prompt) =>
        runtime.run("generator", { token: int32([prompt.length], Int32Array.from(prompt)) }),
      ),
    );
    results.forEach(({ outputs }, i) => {
      const expected = plainSearch(cellLanguage(prompts[i]!), beam, MAX_STEPS);
      const data = (name: string) => [...(outputs[name] as Tensor).data];
      expect(data("token")).toEqual(expected[0]!.tokens);
      expect(data("token.2")).toEqual(expected[1]!.tokens);
      data("score").forEach((score, rank) => expect(score).toBeCloseTo(expected[rank]!.score, 4));
    });
  });

  it("searches as wide as each request wants, narrower or wider than the model says", async () => {
    const runtime = await serve();
    const widths = [1, 2, 3, 7, undefined];
    const results = await Promise.all(
      prompts.map((prompt, i) => {
        const beamWidth = widths[i % widths.length];
        const input = { token: int32([prompt.length], Int32Array.from(prompt)) };
        return runtime.run("generator", input, beamWidth === undefined ? {} : { beamWidth });
      }),
    );
    results.forEach(({ outputs }, i) => {
      const width = widths[i % widths.length] ?? beam.width;
      const expected = plainSearch(
        cellLanguage(prompts[i]!),
        { ...beam, width, nBest: Math.min(2, width) },
        MAX_STEPS,
      );
      const data = (name: string) => [...(outputs[name] as Tensor).data];
      expect(data("token")).toEqual(expected[0]!.tokens);
      expect(data("token.2")).toEqual(expected[1]?.tokens ?? []);
      expect(data("score")).toHaveLength(expected.length);
    });
  });

  it("refuses a width out of bounds, and one for a model that does not search", async () => {
    const runtime = await createRuntime({
      models: [generator(beam), { ...generator(), name: "greedy" }],
      inline: true,
    });
    onTestFinished(() => runtime.close(0));
    const input = { token: int32([0], new Int32Array()) };
    await expect(runtime.run("generator", input, { beamWidth: 65 })).rejects.toThrow(/'beamWidth' is 65/);
    await expect(runtime.run("greedy", input, { beamWidth: 2 })).rejects.toThrow(
      /'greedy' has no beam search/,
    );
  });

  it("streams the best sequence once it is found", async () => {
    const runtime = await serve();
    const tokens: number[] = [];
    for await (const { outputs } of runtime.stream("generator", { token: int32([0], new Int32Array()) })) {
      if (outputs.token) tokens.push((outputs.token as Tensor).data[0]!);
    }
    expect(tokens).toEqual(plainSearch(cellLanguage([]), beam, MAX_STEPS)[0]!.tokens);
  });

  it("ends alone when its request is cancelled, and serves the others", async () => {
    const runtime = await serve();
    const aborter = new AbortController();
    const input = { token: int32([1], Int32Array.of(2)) };
    const cancelled = runtime.run("generator", input, { signal: aborter.signal });
    const others = Array.from({ length: 8 }, () => runtime.run("generator", input));
    setImmediate(() => aborter.abort());
    await expect(cancelled).rejects.toMatchObject({ code: "CANCELLED" });
    const expected = plainSearch(cellLanguage([2]), beam, MAX_STEPS)[0]!.tokens;
    for (const { outputs } of await Promise.all(others)) {
      expect([...(outputs.token as Tensor).data]).toEqual(expected);
    }
    expect(runtime.stats().active).toBe(0);
  });
});
