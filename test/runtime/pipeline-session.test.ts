import { fileURLToPath } from "node:url";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { ModelDefinition } from "../../models/definition.ts";
import type { Gate } from "../../models/pipeline.ts";
import { float32 } from "../../src/core/tensor.ts";
import { createRuntime } from "../../src/runtime/create.ts";
import type { Runtime, Session, StepOutput } from "../../src/runtime/types.ts";
import { listenerModel, lstmCell } from "../fixtures/models.ts";
import { speech } from "../vad/fixture.ts";
import { byHand, numbers } from "./gated.ts";
import { pipeline, stage, stepsOf, vectors } from "./pipelines.ts";

const silero = fileURLToPath(new URL("../../models/silero-vad", import.meta.url));

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

const gate: Gate = { output: "ear.h", open: 0.005, close: -0.05, hold: 1, reset: false };
const voice: Gate = { output: "vad.output", open: 0.5, close: 0.35, hold: 3, reset: false };

let runtime: Runtime;
beforeAll(async () => {
  runtime = await createRuntime({
    models: [
      silero,
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
    ],
    inline: true,
    maxActive: 40,
  });
}, 180_000);
afterAll(() => runtime.close(0));

/** Every output of every step as plain numbers. */
const plain = (steps: readonly StepOutput[]) =>
  steps.map(({ step, outputs }) => [
    step,
    Object.fromEntries(Object.entries(outputs).map(([name, value]) => [name, numbers(value)])),
  ]);

describe("a session of a pipeline", () => {
  it("gates a recogniser by Silero VAD on real speech, as both by hand", async () => {
    const frames = Math.floor(speech.length / 512);
    const audio = float32([frames, 512], speech.slice(0, frames * 512));
    const { levels, given } = await byHand(runtime, {
      models: ["silero-vad", "recogniser"],
      input: "input",
      tensor: audio,
      rule: voice,
    });
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
    const { levels, given } = await byHand(runtime, {
      models: ["ear", "mind"],
      input: "x",
      tensor: input,
      rule,
    });
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

function pieces(cuts: readonly number[], end: number): (readonly [number, number])[] {
  const ends = [...new Set([...cuts, end])].sort((a, b) => a - b);
  return ends.map((to, i) => [ends[i - 1] ?? 0, to] as const);
}

function pack(state: object): string {
  return Buffer.from(JSON.stringify(state)).toString("base64url");
}
