import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from "vitest";
import type { Fault } from "../../src/core/faults.ts";
import { float32, type Tensor } from "../../src/core/tensor.ts";
import { createRuntime } from "../../src/runtime/create.ts";
import type { Runtime, Values } from "../../src/runtime/types.ts";
import { chainModel, listenerModel, noise, writerModel } from "../fixtures/models.ts";

let runtime: Runtime;

beforeAll(async () => {
  runtime = await createRuntime({
    models: [chainModel(), writerModel(50), listenerModel()],
    inline: true,
    maxBatch: 5,
  });
});

afterAll(() => runtime.close(0));

const vectors = (steps: number, seed: number) => float32([steps, 4], noise(steps * 4, seed));
const numbers = (outputs: Values) =>
  Object.values(outputs).map((value) => (typeof value === "string" ? value : [...(value as Tensor).data]));

describe("requests in company", () => {
  it("give what each gives alone, bit for bit, whoever joins, leaves or is cancelled", async () => {
    const request = fc.record({
      model: fc.constantFrom("chain", "writer"),
      size: fc.integer({ min: 1, max: 12 }),
      seed: fc.integer({ min: 0, max: 5 }),
      priority: fc.integer({ min: 1, max: 9 }),
      cancelled: fc.boolean(),
      temperature: fc.constantFrom(0, 0.8),
      wait: fc.integer({ min: 0, max: 3 }),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(request, { minLength: 1, maxLength: 14 }), async (requests) => {
        const ask = (
          { model, size, seed, priority, temperature }: (typeof requests)[number],
          signal?: AbortSignal,
        ) => {
          const inputs: Values =
            model === "chain" ? { x: vectors(size, seed) } : { text: "abcdefgh".slice(0, (size % 8) + 1) };
          const options = {
            priority,
            ...(model === "writer" ? { temperature, seed } : {}),
            ...(signal ? { signal } : {}),
          };
          return runtime.run(model, inputs, options);
        };
        const together = await Promise.all(
          requests.map(async (one) => {
            for (let turn = 0; turn < one.wait; turn++) await new Promise(setImmediate);
            const abort = new AbortController();
            const result = ask(one, abort.signal).catch((fault: Fault) => fault.code);
            if (one.cancelled) setImmediate(() => abort.abort());
            return result;
          }),
        );
        for (const [i, result] of together.entries()) {
          if (typeof result === "string")
            expect([requests[i]!.cancelled, result]).toEqual([true, "CANCELLED"]);
          else expect(numbers(result.outputs)).toEqual(numbers((await ask(requests[i]!)).outputs));
        }
        expect(runtime.stats().active).toBe(0);
      }),
      { numRuns: 40 },
    );
  });

  for (const kind of ["written", "streamed", "last"] as const) {
    it(`give what each gives alone when thousands of a kind are there at once (${kind})`, async () => {
      const fresh = await createRuntime({ models: [chainModel(), writerModel(50)], inline: true });
      onTestFinished(() => fresh.close(0));
      const ask = async (number: number): Promise<unknown> => {
        const [text, options] = ["abcdefgh"[number % 8]!, { maxSteps: 4 }] as const;
        if (kind === "written") return (await fresh.run("writer", { text }, options)).outputs.text;
        const x = vectors((number % 5) + 1, number % 8);
        if (kind === "last") return numbers((await fresh.run("chain", { x })).outputs);
        let last: readonly unknown[] = [];
        for await (const { outputs } of fresh.stream("chain", { x })) last = numbers(outputs);
        return last;
      };
      const together = await Promise.all(Array.from({ length: 3000 }, (_, number) => ask(number)));
      const period = 5 * 8;
      const alone: unknown[] = [];
      for (let number = 0; number < period; number++) alone.push(await ask(number));
      together.forEach((got, number) => {
        expect(got).toEqual(alone[number % period]);
      });
    });
  }

  it("are all answered, once", async () => {
    const before = runtime.stats();
    const results = await Promise.allSettled(
      Array.from({ length: 300 }, (_, i) =>
        runtime.run("chain", { x: vectors((i % 9) + 1, i) }, i % 7 === 0 ? { timeoutMs: 0.5 } : {}),
      ),
    );
    const after = runtime.stats();
    expect(after.accepted - before.accepted).toBe(300);
    const fulfilled = results.filter(({ status }) => status === "fulfilled").length;
    expect(after.completed - before.completed).toBe(fulfilled);
    expect(after.failed - before.failed).toBe(300 - fulfilled);
  });
});

describe("one request", () => {
  it("is refused with CANCELLED where its signal was aborted before", async () => {
    await expect(
      runtime.run("chain", { x: vectors(1, 1) }, { signal: AbortSignal.abort() }),
    ).rejects.toMatchObject({ code: "CANCELLED" });
  });

  it("fails with DEADLINE_EXCEEDED once its time is over, and leaves the others alone", async () => {
    const others = Promise.all(Array.from({ length: 20 }, () => runtime.run("writer", { text: "a" })));
    await expect(runtime.run("writer", { text: "abc" }, { timeoutMs: 0.01 })).rejects.toMatchObject({
      code: "DEADLINE_EXCEEDED",
    });
    expect(await others).toHaveLength(20);
  });

  it("stops at maxSteps", async () => {
    const { outputs } = await runtime.run("writer", { text: "abc" }, { maxSteps: 3 });
    expect(outputs.text).toHaveLength(3);
  });

  it("gives the same text for the same seed and another for another", async () => {
    const ask = async (seed: number) =>
      (await runtime.run("writer", { text: "a" }, { temperature: 2, seed })).outputs.text;
    expect(await ask(1)).toBe(await ask(1));
    expect(await ask(1)).not.toBe(await ask(2));
  });

  it("counts its cells", async () => {
    expect((await runtime.run("chain", { x: vectors(7, 1) })).usage.cells).toBe(7);
  });

  it("refuses NaN and names where it is", async () => {
    const x = float32([1, 4], Float32Array.of(0, Number.NaN, 0, 0));
    await expect(runtime.run("chain", { x })).rejects.toMatchObject({
      code: "INVALID_INPUT",
      message: expect.stringContaining("NaN at 1"),
    });
  });
});

describe("a stream", () => {
  it("gives every step and cancels the request when its loop is left", async () => {
    const steps: number[] = [];
    for await (const { step } of runtime.stream("writer", { text: "a" })) {
      steps.push(step);
      if (step === 4) break;
    }
    expect(steps).toEqual([0, 1, 2, 3, 4]);
    await expect.poll(() => runtime.stats().active).toBe(0);
  });
});

describe("a session", () => {
  it("gives the same whether its input comes at once, in pieces, or through a suspended state", async () => {
    const whole = await outputsOf(runtime, [[0, 12]]);
    expect(
      await outputsOf(runtime, [
        [0, 1],
        [1, 6],
        [6, 12],
      ]),
    ).toEqual(whole);
    const input = vectors(12, 3).data as Float32Array;
    const first = runtime.session("listener");
    first.push({ x: float32([5, 4], input.slice(0, 20)) });
    const state = await first.suspend();
    const second = runtime.session("listener", { state });
    second.push({ x: float32([7, 4], input.slice(20)) });
    await second.end();
    const rest: number[][] = [];
    for await (const { outputs } of second) rest.push([...((outputs.h as Tensor).data as Float32Array)]);
    expect(rest).toEqual(whole.slice(5));
  });

  it.each([
    [2, 1],
    [1, 12],
    [3, 9],
  ])(
    "forks after the %i steps that are there, whatever follows, and not once it has ended",
    async (before, after) => {
      const session = runtime.session("listener");
      session.push({ x: vectors(before, 1) });
      const fork = session.fork();
      for (const one of [session, fork]) {
        one.push({ x: vectors(after, 9) });
        await one.end();
      }
      const last = async (one: AsyncIterable<{ outputs: Values }>) => {
        let h: unknown;
        for await (const { outputs } of one) h = (outputs.h as Tensor).data;
        return h;
      };
      expect(await last(fork)).toEqual(await last(session));
      expect(() => session.fork()).toThrow(/has ended/);
    },
  );

  it("gives the state after the steps that are there to a fork that is suspended before they have run", async () => {
    const session = runtime.session("listener");
    session.push({ x: vectors(9, 1) });
    const state = await session.fork().suspend();
    const resumed = runtime.session("listener", { state });
    for (const one of [session, resumed]) one.push({ x: vectors(2, 5) });
    for (const one of [session, resumed]) await one.end();
    const all: unknown[][] = [[], []];
    for await (const { outputs } of session) all[0]!.push(outputs.h);
    for await (const { outputs } of resumed) all[1]!.push(outputs.h);
    expect(all[1]).toEqual(all[0]!.slice(9));
  });

  it("refuses a state of another model", () => {
    const state = Buffer.from('{"model":"other","version":"1","values":16}\n').toString("base64url");
    expect(() => runtime.session("listener", { state })).toThrow(/other/);
  });
});

async function outputsOf(from: Runtime, pieces: [number, number][]): Promise<number[][]> {
  const input = vectors(12, 3).data as Float32Array;
  const session = from.session("listener");
  for (const [start, end] of pieces)
    session.push({ x: float32([end - start, 4], input.slice(start * 4, end * 4)) });
  await session.end();
  const given: number[][] = [];
  for await (const { outputs } of session) given.push([...((outputs.h as Tensor).data as Float32Array)]);
  return given;
}

describe("a runtime's settings", () => {
  it.each(["engines", "threads", "maxActive", "maxBatch", "recordLimit"] as const)(
    "are refused where '%s' is no integer of 1 or more",
    async (name) => {
      for (const value of [0, -1, 1.5, Number.NaN])
        await expect(createRuntime({ models: [chainModel()], [name]: value })).rejects.toMatchObject({
          code: "INVALID_REQUEST",
          message: `'${name}' is ${value}, it must be an integer of 1 or more`,
        });
    },
  );
});
