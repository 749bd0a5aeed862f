import { afterEach, describe, expect, it } from "vitest";
import type { ModelDefinition } from "../../models/definition.ts";
import { float32 } from "../../src/core/tensor.ts";
import { createRuntime } from "../../src/runtime/create.ts";
import type { Listener, Runtime, Values } from "../../src/runtime/types.ts";
import { chainModel, listenerModel, noise } from "../fixtures/models.ts";

let runtime: Runtime;
afterEach(() => runtime.close(0));

const x = (steps: number) => float32([steps, 4], noise(steps * 4, 1));

/** A version of a model that can be told from the others by what it answers. */
function version(model: ModelDefinition, text: string): ModelDefinition {
  const [cell] = model.cells;
  const { body } = cell!;
  if (body.kind !== "lstm") throw new Error("expected an LSTM");
  const { weights } = body;
  const inputBias = weights.inputBias.map((value) => value + Number(text));
  return {
    ...model,
    version: text,
    cells: [{ ...cell!, body: { ...body, weights: { ...weights, inputBias } } }],
  };
}

describe("a runtime whose models change", () => {
  it("gives new requests the newest version, or the one they name", async () => {
    runtime = await createRuntime({ models: [version(chainModel(), "1")], inline: true });
    const first = (await runtime.run("chain", { x: x(3) })).outputs;
    await runtime.load(version(chainModel(), "10"));
    await runtime.load(version(chainModel(), "9"));
    expect(runtime.models.map((model) => model.version)).toEqual(["10", "9", "1"]);
    const outputs = async (options?: { version: string }) =>
      (await runtime.run("chain", { x: x(3) }, options)).outputs;
    expect(await outputs({ version: "1" })).toEqual(first);
    const alone = await createRuntime({ models: [version(chainModel(), "10")], inline: true });
    expect(await outputs()).toEqual((await alone.run("chain", { x: x(3) })).outputs);
    await alone.close(0);
    await expect(outputs({ version: "2" })).rejects.toThrow(/has no version '2'; there are 10, 9, 1/);
    await runtime.unload("chain", { version: "10" });
    expect(runtime.models.map((model) => model.version)).toEqual(["9", "1"]);
    await runtime.unload("chain");
    await expect(outputs()).rejects.toMatchObject({ code: "MODEL_NOT_FOUND" });
    await expect(runtime.unload("chain")).rejects.toMatchObject({ code: "MODEL_NOT_FOUND" });
  });

  it("lets a session go on with the version it began on, then hands back its state", async () => {
    runtime = await createRuntime({ models: [version(listenerModel(), "1")], inline: true });
    const session = runtime.session("listener");
    const heard: Values[] = [];
    const reading = (async () => {
      for await (const { outputs } of session) heard.push(outputs);
    })();
    session.push({ x: x(1) });
    await session.flush();
    await runtime.load(version(listenerModel(), "1.5"));
    const unloading = runtime.unload("listener", { version: "1", drainMs: 50 });
    session.push({ x: x(1) });
    await session.flush();
    await unloading;
    await expect(reading).rejects.toMatchObject({
      code: "MODEL_NOT_READY",
      message: expect.stringMatching(/version was unloaded/),
    });
    const state = await session.suspend();
    const alone = await createRuntime({ models: [version(listenerModel(), "1")], inline: true });
    const other = alone.session("listener");
    other.push({ x: x(1) });
    other.push({ x: x(1) });
    const steps: Values[] = [];
    const all = (async () => {
      for await (const { outputs } of other) steps.push(outputs);
    })();
    await other.end();
    await all;
    expect(heard).toEqual(steps);
    expect(() => runtime.session("listener", { state })).toThrow(/version/);
    const resumed = alone.session("listener", { state });
    resumed.push({ x: x(1) });
    expect((await resumed.end()).usage.cells).toBe(1);
    await alone.close(0);
  });

  it("fails requests that run longer than an unload waits with MODEL_NOT_READY, and answers each once", async () => {
    runtime = await createRuntime({ models: [chainModel()], inline: true });
    const words: string[] = [];
    const listener: Listener = {
      done: () => words.push("done"),
      failed: (fault) => words.push(fault.code),
    };
    runtime.submit("chain", { x: x(10_000) }, {}, listener).pause();
    runtime.submit("chain", { x: x(1) }, {}, listener);
    await runtime.unload("chain", { drainMs: 20 });
    expect(words.sort()).toEqual(["MODEL_NOT_READY", "done"]);
    expect(runtime.stats()).toMatchObject({ active: 0, bytes: 0 });
  });

  it("replaces a version by one of the same name and number without losing who runs on it", async () => {
    runtime = await createRuntime({ models: [listenerModel()], inline: true });
    const before = runtime.session("listener");
    before.push({ x: x(1) });
    await before.flush();
    await runtime.load(version(listenerModel(), "1"));
    expect(runtime.models).toHaveLength(1);
    before.push({ x: x(2) });
    expect((await before.end()).usage.cells).toBe(3);
  });

  it("refuses a model that does not fit under the memory limit, and says both numbers", async () => {
    runtime = await createRuntime({ models: [chainModel("last", 32)], inline: true });
    const { bytes } = runtime.stats();
    await runtime.close(0);
    runtime = await createRuntime({
      models: [chainModel("last", 32)],
      inline: true,
      memoryLimit: bytes * 1.5,
    });
    const other = { ...chainModel("last", 32), name: "other" };
    await expect(runtime.load(other)).rejects.toMatchObject({
      code: "OVERLOADED",
      message: expect.stringMatching(/takes \d+ bytes on 1 engines, \d+ of the memory limit of [\d.]+ bytes/),
    });
    await runtime.unload("chain");
    await runtime.load(other);
    await expect(
      createRuntime({ models: [chainModel("last", 32)], inline: true, memoryLimit: 1000 }),
    ).rejects.toThrow(/memory limit of 1000 bytes/);
  });

  it("keeps what it has where a load is refused", async () => {
    runtime = await createRuntime({ models: [chainModel()], engines: 1 });
    const broken = chainModel();
    const [cell] = broken.cells;
    const bad = {
      ...broken,
      cells: [
        {
          ...cell!,
          body: { kind: "graph" as const, graph: { onnx: new Uint8Array([1, 2, 3]), states: [] } },
        },
      ],
    };
    await expect(runtime.load(bad)).rejects.toMatchObject({ code: "INVALID_REQUEST" });
    expect((await runtime.run("chain", { x: x(2) })).usage.cells).toBe(2);
  });
});
