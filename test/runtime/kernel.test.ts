import "@tensorflow/tfjs-backend-wasm";
import { fileURLToPath } from "node:url";
import * as tf from "@tensorflow/tfjs-core";
import { expect, it, onTestFinished } from "vitest";
import { nativeStatus } from "../../kernels/native/load.ts";
import { createTfjsKernel } from "../../kernels/tfjs/tfjs.ts";
import { zooModels } from "../../models/zoo.ts";
import { createRuntime, type RuntimeSettings } from "../../src/runtime/create.ts";

const charLm = zooModels().folders.find((folder) => /char-lm\/?$/.test(folder))!;
const module = fileURLToPath(new URL("../fixtures/tfjs-kernel.mjs", import.meta.url));

const open = async (settings: Partial<RuntimeSettings>) => {
  const runtime = await createRuntime({ models: [charLm], engines: 1, maxBatch: 8, ...settings });
  onTestFinished(() => runtime.close(0));
  return async () => {
    const prompts = ["a small ", "the ", "of or relating to "];
    const answers = prompts.map((text, i) => runtime.run("char-lm", { text }, { maxSteps: 20 + 5 * i }));
    return (await Promise.all(answers)).map(({ outputs }) => outputs.text);
  };
};

it("writes the same with a user's kernel on its thread as with ONNX Runtime", async () => {
  const onnx = await open({});
  const tfjs = await open({ kernel: module });
  expect(await tfjs()).toEqual(await onnx());
});

it("takes a function as the kernel of an engine on this thread", async () => {
  await tf.setBackend("wasm");
  const tfjs = await open({ kernel: createTfjsKernel(tf), inline: true });
  const onnx = await open({ inline: true });
  expect(await tfjs()).toEqual(await onnx());
});

it("says that a function cannot go to a thread", async () => {
  await expect(open({ kernel: createTfjsKernel(tf) })).rejects.toThrow(/give the path of its module/);
});

it("names a module that loads no kernel", async () => {
  const deadly = fileURLToPath(new URL("../fixtures/deadly.mjs", import.meta.url));
  await expect(open({ kernel: deadly })).rejects.toThrow(
    /deadly\.mjs' has no function as its default export/,
  );
});

it("runs a model's cells on a GPU where there is one, and says what to do where there is none", async () => {
  const { reason, message } = nativeStatus();
  const onnx = await open({});
  if (reason !== "ok") {
    await expect(open({ device: "cuda" })).rejects.toMatchObject({ code: "MODEL_NOT_READY", message });
  }
  const auto = await open({ device: "auto" });
  expect(await auto()).toEqual(await onnx());
});

it("refuses several engines where ONNX Runtime crashes with two threads", async () => {
  await expect(open({ providers: ["webgpu", "cpu"], engines: 2 })).rejects.toMatchObject({
    code: "INVALID_REQUEST",
    message:
      "'engines' is 2, with the provider 'webgpu' it must be 1: ONNX Runtime crashes where two threads use WebGPU",
  });
});

it("runs on the execution providers that it is told", async () => {
  const told = await open({ providers: ["cpu"] });
  const onnx = await open({});
  expect(await told()).toEqual(await onnx());
});

it("names the execution provider that is not there", async () => {
  const message = "ONNX Runtime cannot use the providers 'abacus', 'cpu' here: ";
  const refused = expect.objectContaining({
    code: "INVALID_REQUEST",
    message: expect.stringContaining(message),
  });
  await expect(open({ providers: ["abacus", "cpu"], inline: true })).rejects.toEqual(refused);
  await expect(open({ providers: ["abacus", "cpu"] })).rejects.toEqual(refused);
});
