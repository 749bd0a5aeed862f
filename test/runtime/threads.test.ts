import { fileURLToPath } from "node:url";
import { afterEach, describe, expect, it } from "vitest";
import { defineModel } from "../../models/define-model.ts";
import { float32 } from "../../src/core/tensor.ts";
import { createRuntime } from "../../src/runtime/create.ts";
import type { Runtime } from "../../src/runtime/types.ts";
import { chainModel, noise } from "../fixtures/models.ts";

let runtime: Runtime | undefined;
afterEach(() => runtime?.close(0));

const x = (steps: number, seed = 1) => float32([steps, 4], noise(steps * 4, seed));

describe("engines on threads", () => {
  it("give what an inline engine gives", async () => {
    runtime = await createRuntime({ models: [chainModel()], engines: 2 });
    const inline = await createRuntime({ models: [chainModel()], inline: true });
    const ask = (from: Runtime) =>
      Promise.all(Array.from({ length: 40 }, (_, i) => from.run("chain", { x: x((i % 8) + 1, i) })));
    const [threads, here] = [await ask(runtime), await ask(inline)];
    expect(threads.map(({ outputs }) => outputs)).toEqual(here.map(({ outputs }) => outputs));
    await inline.close();
  });

  it("that die fail their requests with a clear error, and are started again", async () => {
    runtime = await createRuntime({ models: [DEADLY], engines: 1 });
    const killed = x(1);
    killed.data[0] = 666;
    const others = Array.from({ length: 5 }, () =>
      runtime!.run("deadly", { x: x(5) }).catch((fault) => fault.code),
    );
    await expect(runtime.run("deadly", { x: killed })).rejects.toMatchObject({
      code: "INTERNAL",
      message: expect.stringMatching(/engine 0 died/),
    });
    for (const answer of await Promise.all(others))
      expect(["INTERNAL", "object"]).toContain(typeof answer === "string" ? answer : typeof answer);
    await expect(runtime.run("deadly", { x: x(1) })).rejects.toMatchObject({ code: "MODEL_NOT_READY" });
    await expect.poll(() => runtime!.stats().restarts, { timeout: 10_000 }).toBe(1);
    await expect
      .poll(
        () =>
          runtime!.run("deadly", { x: x(3) }).then(
            ({ usage }) => usage.cells,
            () => 0,
          ),
        { timeout: 10_000 },
      )
      .toBe(3);
    const { accepted, completed, failed, active } = runtime.stats();
    expect([accepted, active]).toEqual([completed + failed, 0]);
  });

  it("drain on close, and refuse what comes after", async () => {
    runtime = await createRuntime({ models: [chainModel()], engines: 1 });
    const running = Array.from({ length: 30 }, () => runtime!.run("chain", { x: x(50) }));
    const closing = runtime.close();
    await expect(runtime.run("chain", { x: x(1) })).rejects.toMatchObject({ code: "SHUTTING_DOWN" });
    expect(await Promise.all(running)).toHaveLength(30);
    await closing;
  });

  it("refuse a definition with a function, which cannot be sent to them", async () => {
    const { cells, inputs, outputs } = chainModel();
    const custom = defineModel({ name: "custom", cells, inputs, outputs, unfold: () => {} });
    await expect(createRuntime({ models: [custom], engines: 1 })).rejects.toThrow(/'custom' has a function/);
  });

  it("refuse a module that exports no model", async () => {
    await expect(
      createRuntime({ models: [fileURLToPath(new URL("../../dist/src/core/clock.js", import.meta.url))] }),
    ).rejects.toThrow(/no model/);
  });
});

/** By path, as users' models come to an engine's thread. */
const DEADLY = fileURLToPath(new URL("../fixtures/deadly.mjs", import.meta.url));
