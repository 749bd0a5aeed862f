import { cp, mkdtemp, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { ModelDefinition } from "../../models/definition.ts";
import type { Gate, Pipeline, Stage } from "../../models/pipeline.ts";
import { readModel } from "../../models/read-model.ts";
import { float32, type Tensor } from "../../src/core/tensor.ts";
import { createRuntime } from "../../src/runtime/create.ts";
import { CLOSED, type GateState, gateAfter } from "../../src/runtime/gate.ts";
import type { Runtime, Session, StepOutput } from "../../src/runtime/types.ts";
import { chainModel, listenerModel, lstmCell, noise, writerModel } from "../fixtures/models.ts";
import { speech } from "../vad/fixture.ts";

const g2p = fileURLToPath(new URL("../../models/g2p", import.meta.url));
const silero = fileURLToPath(new URL("../../models/silero-vad", import.meta.url));

function pipeline(name: string, stages: readonly Stage[], outputs?: Pipeline["outputs"]): ModelDefinition {
  const program: Pipeline = { kind: "pipeline", stages, ...(outputs ? { outputs } : {}) };
  return { name, version: "1", description: "", cells: [], program, inputs: [], outputs: [] };
}

const stage = (name: string, model: string, inputs: Stage["inputs"] = {}, gate?: Gate): Stage => ({
  name,
  model,
  inputs,
  ...(gate ? { gate } : {}),
});

/** A session over vectors of `input` values that answers h of `hidden`. */
function session(name: string, hidden: number, input: number): ModelDefinition {
  return {
    ...listenerModel(),
    name,
    cells: [lstmCell("cell", { hidden, input })],
    inputs: [{ name: "x", dtype: "float32", shape: [-1, input] }],
    outputs: [{ name: "h", dtype: "float32", shape: [hidden] }],
  };
}

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

const gate: Gate = { output: "ear.h", open: 0.005, close: -0.05, hold: 1, reset: false };
const voice: Gate = { output: "vad.output", open: 0.5, close: 0.35, hold: 3, reset: false };

let runtime: Runtime;
beforeAll(async () => {
  runtime = await createRuntime({
    models: [
      silero,
      g2p,
      await taggerModel(),
      chainModel(),
      writerModel(),
      session("ear", 1, 4),
      session("mind", 8, 4),
      session("after", 4, 8),
      session("recogniser", 8, 512),
      pipeline("heard", [stage("ear", "ear"), stage("mind", "mind", {}, gate)], {
        level: "ear.h",
        thought: "mind.h",
      }),
      pipeline("anew", [stage("ear", "ear"), stage("mind", "mind", {}, { ...gate, reset: true })]),
      pipeline(
        "three",
        [stage("ear", "ear"), stage("mind", "mind", {}, gate), stage("end", "after", { x: "mind.h" })],
        { thought: "mind.h", end: "end.h" },
      ),
      pipeline("speech", [stage("vad", "silero-vad"), stage("words", "recogniser", { x: "input" }, voice)], {
        probability: "vad.output",
        h: "words.h",
      }),
      pipeline("spoken", [stage("g2p", "g2p"), stage("tag", "tagger", { phonemes: "g2p.phonemes" })], {
        phonemes: "g2p.phonemes",
        h: "tag.h",
      }),
      pipeline("twice", [stage("one", "writer"), stage("two", "writer", { text: "one.text" })]),
    ],
    inline: true,
    maxActive: 40,
  });
}, 180_000);
afterAll(() => runtime.close(0));

const vectors = (steps: number, seed: number) => float32([steps, 4], noise(steps * 4, seed));
const numbers = (value: unknown) => [...((value as Tensor).data as Float32Array)];

async function stepsOf(from: AsyncIterable<StepOutput>): Promise<StepOutput[]> {
  const steps: StepOutput[] = [];
  for await (const step of from) steps.push(step);
  return steps;
}

/** Every output of every step as plain numbers. */
const plain = (steps: readonly StepOutput[]) =>
  steps.map(({ step, outputs }) => [
    step,
    Object.fromEntries(Object.entries(outputs).map(([name, value]) => [name, numbers(value)])),
  ]);

/** Whether a gate is open at each step, from its definition: it was reached, and not left for longer than it holds. */
function opened(values: readonly number[], { open, close, hold }: Gate): boolean[] {
  return values.map((_, at) => {
    for (let from = at; from >= 0; from--) {
      if (values[from]! < open) continue;
      let below = 0;
      let isLeft = false;
      for (const value of values.slice(from + 1, at + 1)) {
        below = value < close ? below + 1 : 0;
        isLeft ||= below > hold;
      }
      if (!isLeft) return true;
    }
    return false;
  });
}

/** What a gated stage answers, from sessions of the two models by hand. */
async function byHand(
  models: readonly [string, string],
  input: string,
  tensor: Tensor,
  rule: Gate,
): Promise<{ levels: number[]; given: (number[] | undefined)[] }> {
  const all = async (model: string, name: string, push: Tensor) => {
    const one = runtime.session(model);
    one.push({ [name]: push });
    await one.end();
    return (await stepsOf(one)).map(({ outputs }) => numbers(Object.values(outputs)[0]));
  };
  const levels = (await all(models[0], input, tensor)).map(([level]) => level!);
  const isOpen = opened(levels, rule);
  const size = tensor.shape[1]!;
  const pieces: number[][] = [];
  isOpen.forEach((open, at) => {
    if (!open) return;
    if (pieces.length === 0 || (rule.reset && !isOpen[at - 1])) pieces.push([]);
    pieces.at(-1)!.push(at);
  });
  const given: (number[] | undefined)[] = isOpen.map(() => undefined);
  for (const steps of pieces) {
    const data = new Float32Array(steps.length * size);
    steps.forEach((step, i) => data.set(tensor.data.subarray(step * size, (step + 1) * size), i * size));
    const answers = await all(models[1], "x", float32([steps.length, size], data));
    steps.forEach((step, i) => {
      given[step] = answers[i];
    });
  }
  return { levels, given };
}

describe("a gate", () => {
  it("is open from a value that reaches it until it is left for longer than it holds", () => {
    const rule = fc.record({
      open: fc.constantFrom(0.5, 0.8),
      close: fc.constantFrom(0.2, 0.5),
      hold: fc.nat(3),
    });
    fc.assert(
      fc.property(rule, fc.array(fc.constantFrom(0, 0.2, 0.3, 0.5, 0.7, 0.8, 1)), (one, values) => {
        let state: GateState = CLOSED;
        const seen = values.map((value) => {
          state = gateAfter(one, state, value);
          return state.isOpen;
        });
        expect(seen).toEqual(opened(values, { ...one, output: "", reset: false }));
      }),
    );
  });
});

describe("a session of a pipeline", () => {
  it("gates a recogniser by Silero VAD on real speech, as both by hand", async () => {
    const frames = Math.floor(speech.length / 512);
    const audio = float32([frames, 512], speech.slice(0, frames * 512));
    const { levels, given } = await byHand(["silero-vad", "recogniser"], "input", audio, voice);
    const open = given.filter((one) => one !== undefined).length;
    expect(open).toBeGreaterThan(50);
    expect(open).toBeLessThan(frames - 20);
    const heard = runtime.session("speech");
    for (let at = 0; at < frames; at += 50) {
      const end = Math.min(frames, at + 50);
      heard.push({ input: float32([end - at, 512], speech.slice(at * 512, end * 512)) });
    }
    const { usage } = await heard.end();
    expect(plain(await stepsOf(heard))).toEqual(
      levels.map((level, at) => [at, { probability: [level], ...(given[at] ? { h: given[at] } : {}) }]),
    );
    expect(usage.cells).toBe(frames + open);
  });

  it.each(["heard", "anew"])("(%s) gives the same however its input is cut, in company", async (model) => {
    const rule = { ...gate, reset: model === "anew" };
    const input = vectors(40, 7);
    const { levels, given } = await byHand(["ear", "mind"], "x", input, rule);
    expect(new Set(given.map((one) => one === undefined)).size).toBe(2);
    const wanted = levels.map((level, at) => {
      const thought = given[at];
      const name = model === "anew" ? "h" : "thought";
      return [
        at,
        { ...(model === "anew" ? {} : { level: [level] }), ...(thought ? { [name]: thought } : {}) },
      ];
    });
    const cuts = fc.array(fc.integer({ min: 1, max: 40 }), { maxLength: 6 });
    await fc.assert(
      fc.asyncProperty(fc.array(cuts, { minLength: 1, maxLength: 6 }), async (sessions) => {
        const all = await Promise.all(
          sessions.map(async (ends) => {
            const one = runtime.session(model);
            for (const [from, to] of pieces(ends, 40)) {
              one.push({ x: float32([to - from, 4], input.data.slice(from * 4, to * 4) as Float32Array) });
              await new Promise(setImmediate);
            }
            await one.end();
            return plain(await stepsOf(one));
          }),
        );
        for (const steps of all) expect(steps).toEqual(wanted);
      }),
      { numRuns: 15 },
    );
    expect(runtime.stats().active).toBe(0);
  });

  it("keeps a third stage from steps that the second did not run", async () => {
    const one = runtime.session("three");
    one.push({ x: vectors(40, 7) });
    await one.end();
    const steps = await stepsOf(one);
    expect(steps.some(({ outputs }) => outputs.end)).toBe(true);
    for (const { outputs } of steps) expect(outputs.end === undefined).toBe(outputs.thought === undefined);
  });

  it.each(["heard", "anew"])("(%s) goes on from a suspended state and from a fork", async (model) => {
    const input = vectors(40, 7);
    const part = (from: number, to: number) => ({
      x: float32([to - from, 4], input.data.slice(from * 4, to * 4) as Float32Array),
    });
    const whole = runtime.session(model);
    whole.push({ x: input });
    await whole.end();
    const wanted = plain(await stepsOf(whole)).map(([, outputs]) => outputs);
    const values = async (from: Session) => plain(await stepsOf(from)).map(([, outputs]) => outputs);
    for (const at of [1, 13, 20, 33]) {
      const first = runtime.session(model);
      first.push(part(0, at));
      const fork = first.fork();
      fork.push(part(at, 40));
      const ended = fork.end();
      const second = runtime.session(model, { state: await first.suspend() });
      second.push(part(at, 40));
      await second.end();
      await ended;
      expect(await values(first)).toEqual(wanted.slice(0, at));
      expect(await values(second)).toEqual(wanted.slice(at));
      expect(await values(fork)).toEqual(wanted.slice(at));
    }
    expect(runtime.stats().active).toBe(0);
  });

  it("answers a marker after the outputs of all input before it", async () => {
    const heard: string[] = [];
    await new Promise<void>((resolve, reject) => {
      const handle = runtime.open(
        "heard",
        {},
        {
          output: ({ step }) => heard.push(`step ${step}`),
          consumed: (inputs) => heard.push(`consumed ${inputs}`),
          marker: (marker) => heard.push(`marker ${marker}`),
          done: () => resolve(),
          failed: reject,
        },
      );
      handle.marker(1);
      handle.push({ x: vectors(1, 7) });
      handle.marker(2);
      handle.push({ x: vectors(1, 8) });
      handle.end();
    });
    expect(heard).toEqual(["marker 1", "step 0", "consumed 1", "marker 2", "step 1", "consumed 1"]);
  });

  it("counts as one, and frees all of its stages when it is cancelled", async () => {
    const before = runtime.stats();
    const one = runtime.session("heard");
    one.push({ x: vectors(30, 7) });
    expect(runtime.stats().active).toBe(1);
    const fork = one.fork();
    one.cancel();
    fork.cancel();
    await expect(one.end()).rejects.toMatchObject({ code: "CANCELLED" });
    await expect(fork.end()).rejects.toMatchObject({ code: "CANCELLED" });
    const { active, accepted, failed } = runtime.stats();
    expect([active, accepted - before.accepted, failed - before.failed]).toEqual([0, 2, 2]);
    // Nothing runs on: a session opened now has the engine for itself.
    const other = runtime.session("heard");
    other.push({ x: vectors(2, 1) });
    expect((await other.end()).usage.cells).toBeLessThanOrEqual(4);
  });

  it("is refused where too many are active, as one", async () => {
    const open = Array.from({ length: 40 }, () => runtime.session("heard"));
    expect(() => runtime.session("heard")).toThrow(/40 requests and sessions are active/);
    for (const one of open) one.cancel();
    await Promise.all(open.map((one) => one.end().catch(() => {})));
    expect(runtime.stats().active).toBe(0);
  });

  it("refuses input of a wrong shape and goes on", async () => {
    const one = runtime.session("heard");
    expect(() => one.push({ x: float32([3], new Float32Array(3)) })).toThrow(/shape/);
    one.push({ x: vectors(2, 7) });
    await one.end();
    expect(await stepsOf(one)).toHaveLength(2);
  });

  it("fails once its time is over, and names the stage", async () => {
    await expect(stepsOf(runtime.session("heard", { timeoutMs: 20 }))).rejects.toMatchObject({
      code: "DEADLINE_EXCEEDED",
      message: expect.stringMatching(/stage '(ear|mind)'/),
    });
    expect(runtime.stats().active).toBe(0);
  });

  it.each([
    ["damaged", "!!", /damaged/],
    ["of another model", pack({ model: "other", version: "1", stages: [] }), /of 'other' 1/],
    ["of other stages", pack({ model: "heard", version: "1", stages: [] }), /of stages/],
  ])("refuses a state that is %s", (_, state, why) => {
    expect(() => runtime.session("heard", { state })).toThrow(why);
  });
});

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
      models: [
        writerModel(),
        pipeline("twice", [stage("one", "writer"), stage("two", "writer", { text: "one.text" })]),
      ],
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

describe("a pipeline that does not fit", () => {
  it.each<readonly [string, readonly Stage[], Pipeline["outputs"], RegExp]>([
    [
      "names a model that is not there",
      [stage("a", "nobody")],
      undefined,
      /model 'nobody', which is not there/,
    ],
    ["has two stages of one name", [stage("a", "chain"), stage("a", "chain")], undefined, /two stages 'a'/],
    [
      "gives an unknown input",
      [stage("a", "chain", { y: "x" })],
      undefined,
      /input 'y', model 'chain' takes 'x'/,
    ],
    [
      "uses a stage that comes later",
      [stage("a", "chain", { x: "b.h" }), stage("b", "chain")],
      undefined,
      /not before/,
    ],
    ["uses an unknown stage", [stage("a", "chain", { x: "c.h" })], undefined, /no such stage/],
    ["uses an unknown output", [stage("a", "chain")], { y: "a.z" }, /'a\.z', but model 'chain' gives 'h'/],
    [
      "mixes requests and sessions",
      [stage("a", "chain"), stage("b", "listener")],
      undefined,
      /mixes stages: 'chain' takes single requests/,
    ],
    [
      "joins what has other shapes",
      [stage("a", "chain"), stage("b", "chain", { x: "a.h" })],
      undefined,
      /float32 \[8\].*takes float32 \[-1, 4\]/,
    ],
    [
      "has a gate on many numbers",
      [stage("a", "chain"), stage("b", "chain", {}, { ...gate, output: "a.h" })],
      undefined,
      /not one number/,
    ],
  ])("(it %s) is refused with the reason", async (_, stages, outputs, why) => {
    const models = [chainModel(), listenerModel(), pipeline("bad", stages, outputs)];
    await expect(createRuntime({ models, inline: true })).rejects.toThrow(why);
  });
});

describe("a folder with a pipeline", () => {
  async function write(program: object): Promise<string> {
    const folder = await mkdtemp(join(tmpdir(), "cellbatch-"));
    const manifest = { format: 1, name: "p", version: "1", description: "", program };
    await writeFile(join(folder, "model.json"), JSON.stringify(manifest));
    return folder;
  }

  it("brings the models that lie in it", async () => {
    const folder = await write({ kind: "pipeline", stages: [{ model: "g2p" }] });
    await cp(g2p, join(folder, "g2p"), { recursive: true });
    const own = await createRuntime({ models: [folder], inline: true });
    try {
      expect(own.models.map(({ name, program }) => [name, program])).toEqual([
        ["p", "pipeline"],
        ["g2p", "seq2seq"],
      ]);
      expect((await own.run("p", { text: "cell" })).outputs).toEqual(
        (await own.run("g2p", { text: "cell" })).outputs,
      );
    } finally {
      await own.close(0);
    }
  });

  it.each([
    ["whose gate closes above where it opens", { output: "a.b", open: 1, close: 2 }, /closes above/],
    ["whose gate is on no stage", { output: "level", open: 1 }, /'stage\.output'/],
  ])("%s is refused with the reason", async (_, rule, why) => {
    const folder = await write({ kind: "pipeline", stages: [{ model: "g2p", gate: rule }] });
    await expect(readModel(folder)).rejects.toThrow(why);
  });

  it("is refused where a model in it has another name than its folder", async () => {
    const folder = await write({ kind: "pipeline", stages: [{ model: "letters" }] });
    await cp(g2p, join(folder, "letters"), { recursive: true });
    await expect(readModel(folder)).rejects.toThrow(/holds model 'g2p', the pipeline wants 'letters'/);
  });
});

function pieces(cuts: readonly number[], end: number): (readonly [number, number])[] {
  const ends = [...new Set([...cuts, end])].sort((a, b) => a - b);
  return ends.map((to, i) => [ends[i - 1] ?? 0, to] as const);
}

function pack(state: object): string {
  return Buffer.from(JSON.stringify(state)).toString("base64url");
}
