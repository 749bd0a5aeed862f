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

it("refuses numbers of a GPU where no GPU computes, by name and with the reason", async () => {
  const { reason, message } = nativeStatus();
  const refusal = (numbers: string, why: string) => ({
    code: "INVALID_REQUEST",
    message: `numbers '${numbers}' are multiplied by the CUDA kernel alone, and ${why}; leave them out, or take 'fp32'`,
  });
  await expect(open({ numbers: "bf16" })).rejects.toMatchObject(refusal("bf16", "the device is 'cpu'"));
  await expect(open({ numbers: "tf32", device: "auto", kernel: module })).rejects.toMatchObject(
    refusal("tf32", "a kernel of your own was given"),
  );
  if (reason !== "ok") {
    await expect(open({ numbers: "tf32", device: "auto" })).rejects.toMatchObject(refusal("tf32", message));
    await expect(open({ numbers: "bf16", device: "cuda" })).rejects.toMatchObject({
      code: "MODEL_NOT_READY",
      message,
    });
  }
  const told = await open({ numbers: "fp32", device: "auto" });
  const plain = await open({});
  expect(await told()).toEqual(await plain());
});

it.skipIf(nativeStatus().reason !== "ok")("writes with all numbers of a GPU", async () => {
  for (const numbers of ["fp32", "tf32", "bf16"] as const) {
    const texts = await (await open({ numbers, device: "cuda" }))();
    expect(texts.every((text) => String(text).length > 0)).toBe(true);
  }
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
