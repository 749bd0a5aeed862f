import { mkdir, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";
import { float32, type Tensor } from "../../src/core/tensor.ts";
import { ModelRepository } from "../../src/repository/repository.ts";
import { createRuntime } from "../../src/runtime/create.ts";
import { noise } from "../fixtures/models.ts";
import { type Message, TestClient } from "../server/client.ts";
import { manifest, repositoryFolder, weights, writeFolder } from "./folders.ts";
import { callOf } from "./grpc-client.ts";
import { serve } from "./process.ts";

const input = float32([3, 4], noise(12, 7));
const wire = { datatype: "FP32", shape: [3, 4], data: [...input.data] };
const infer = { inputs: [{ name: "x", ...wire }] };
/** Between an answer and a client's next request, so that the machine is not all theirs. */
const THINK_MS = 250;
const PATIENT = { timeout: 120_000, interval: 100 };

/** What a model's folder answers, by a runtime of its own. */
async function answerOf(folder: string): Promise<number[]> {
  const runtime = await createRuntime({ models: [folder], inline: true });
  const { outputs } = await runtime.run("chain", { x: input });
  await runtime.close(0);
  return [...(outputs.h as Tensor).data];
}

function http(port: number) {
  const url = (path: string) => `http://127.0.0.1:${port}/v2/${path}`;
  return {
    get: async (path: string) => {
      const answer = await fetch(url(path));
      // biome-ignore lint/suspicious/noExplicitAny: the tests state what is in it.
      return { status: answer.status, json: (await answer.json()) as any };
    },
    post: async (path: string, body: unknown = {}) => {
      const answer = await fetch(url(path), { method: "POST", body: JSON.stringify(body) });
      const text = await answer.text();
      return { status: answer.status, json: text === "" ? undefined : JSON.parse(text) };
    },
  };
}

describe("cellbatch serve --models --watch", () => {
  it("changes versions under 100 clients: no request fails, each is answered by one version, none goes back", async () => {
    const dir = await repositoryFolder();
    const folder = (version: string) => join(dir, "chain", version);
    await writeFolder(folder("1"), { name: "chain", version: "1", seed: 10 });
    await writeFolder(join(dir, "listener"), { name: "listener", version: "a", seed: 1, kind: "session" });
    const { port, errors } = await serve("--models", dir, "--watch", "--drain-ms", "2000");
    const { get, post } = http(port);
    const answers: Record<string, number[]> = { 1: await answerOf(folder("1")) };

    let stopping = false;
    let answered = 0;
    const wrong: string[] = [];
    const note = (version: number, before: number, data: readonly number[]): number => {
      answered++;
      if (version < before) wrong.push(`version ${version} after ${before}`);
      if (JSON.stringify(data) !== JSON.stringify(answers[version]))
        wrong.push(`version ${version} said ${data}`);
      return version;
    };
    const think = () => new Promise((resolve) => setTimeout(resolve, THINK_MS));
    const overHttp = async () => {
      for (let version = 1; !stopping; await think()) {
        const { status, json } = await post("models/chain/infer", infer);
        if (status === 200) version = note(Number(json.model_version), version, json.outputs[0].data);
        else wrong.push(`${status} ${JSON.stringify(json)}`);
      }
    };
    const overWebSocket = async () => {
      const client = await TestClient.open(port);
      for (let version = 1, id = 0; !stopping; id++, await think()) {
        client.send({
          type: "infer",
          id: `${id}`,
          model: "chain",
          inputs: { x: wire },
          parameters: { stream: false },
        });
        const { type, outputs, message } = (await client.next({ id: `${id}` })) as Message & {
          outputs: { h: { data: number[] } };
        };
        client.messages.length = 0;
        if (type !== "done") wrong.push(`${type} ${message}`);
        else {
          const { data } = outputs.h;
          const found = Object.keys(answers).find(
            (one) => JSON.stringify(answers[one]) === JSON.stringify(data),
          );
          version = note(Number(found), version, data);
        }
      }
      client.close();
    };
    const clients = Array.from({ length: 100 }, (_, i) => (i % 2 === 0 ? overHttp() : overWebSocket()));
    const voice = await TestClient.open(port);
    voice.send({ type: "open", id: "voice", model: "listener" });
    await voice.next({ type: "opened" });
    const alive = setInterval(() => voice.send({ type: "keepalive", id: "voice" }), 1000);

    // A version whose files come one after the other, the last of them in two writes.
    await writeFolder(join(dir, "whole"), { name: "chain", version: "2", seed: 20 });
    answers[2] = await answerOf(join(dir, "whole"));
    await rm(join(dir, "whole"), { recursive: true });
    await mkdir(folder("2"));
    await writeFile(join(folder("2"), "model.json"), manifest("chain", "2"));
    await writeFile(join(folder("2"), "weights.safetensors"), weights(20).subarray(0, 500));
    await expect.poll(() => errors(), PATIENT).toMatch(/"name":"chain","version":"2".*refused/);
    expect((await get("models/chain")).json.versions).toEqual(["1"]);
    await writeFile(join(folder("2"), "weights.safetensors"), weights(20));
    await expect.poll(async () => (await get("models/chain")).json.versions, PATIENT).toEqual(["2"]);

    // A broken one is refused, and says why; the one before stays.
    await mkdir(folder("3"));
    await writeFile(join(folder("3"), "model.json"), "{}");
    const third = async () =>
      (await post("repository/index")).json.find((one: { version: string }) => one.version === "3");
    await expect.poll(third, PATIENT).toMatchObject({
      name: "chain",
      state: "UNAVAILABLE",
      reason: expect.stringMatching(/^chain\/3\/model.json is no model/),
    });
    expect((await get("models/chain/ready")).json).toEqual({ name: "chain", ready: true });
    expect((await get("models/chain")).json.versions).toEqual(["2"]);

    // Replaced in one go, by renaming; and a model for sessions whose version is its own text.
    await writeFolder(join(dir, ".4"), { name: "chain", version: "4", seed: 40 });
    answers[4] = await answerOf(join(dir, ".4"));
    await rename(join(dir, ".4"), folder("4"));
    await writeFolder(join(dir, "listener"), { name: "listener", version: "b", seed: 2, kind: "session" });
    await expect.poll(async () => (await get("models/chain")).json.versions, PATIENT).toEqual(["4"]);
    expect(await voice.next({ id: "voice", type: "evicted" })).toMatchObject({
      reason: "replaced",
      state: expect.any(String),
    });
    clearInterval(alive);
    voice.send({ type: "open", id: "again", model: "listener" });
    voice.send({ type: "push", id: "again", inputs: { x: wire } });
    voice.send({ type: "end", id: "again" });
    await voice.next({ id: "again", type: "done" });
    voice.close();

    await rm(join(dir, "listener"), { recursive: true });
    await expect.poll(async () => (await get("models/listener/ready")).status, PATIENT).toBe(404);
    const before = answered;
    await expect.poll(() => answered, PATIENT).toBeGreaterThan(before + 100);
    stopping = true;
    await Promise.all(clients);
    expect(wrong).toEqual([]);
  }, 300_000);
});

describe("cellbatch serve --models --model-control explicit", () => {
  it("loads and unloads what clients ask for, over HTTP and gRPC, and nothing else", async () => {
    const dir = await repositoryFolder();
    await writeFolder(join(dir, "chain", "1"), { name: "chain", version: "x", seed: 1 });
    await writeFolder(join(dir, "chain", "10"), { name: "chain", version: "x", seed: 2 });
    await writeFolder(join(dir, "chain", "9"), { name: "chain", version: "x", seed: 3 });
    await writeFolder(join(dir, "misnamed"), { name: "other", version: "1", seed: 4 });
    await writeFolder(join(dir, "..evil"), { name: "chain", version: "1", seed: 4 });
    const served = await serve(
      "--models",
      dir,
      "--model-control",
      "explicit",
      "--grpc-port",
      "0",
      "--model-versions",
      "2",
    );
    const { get, post } = http(served.port);
    const call = callOf(served.grpcPort!);
    expect((await get("health/ready")).status).toBe(200);
    expect((await post("repository/index")).json).toEqual([
      { name: "chain", state: "", reason: "" },
      { name: "misnamed", state: "", reason: "" },
    ]);
    expect((await post("models/chain/infer", infer)).status).toBe(404);

    expect(await post("repository/models/chain/load")).toEqual({ status: 200, json: undefined });
    expect((await get("models/chain")).json.versions).toEqual(["10", "9"]);
    const [newest, named] = await Promise.all([
      post("models/chain/infer", infer),
      post("models/chain/versions/9/infer", infer),
    ]);
    expect(newest.json).toMatchObject({
      model_version: "10",
      outputs: [{ data: await answerOf(join(dir, "chain", "10")) }],
    });
    expect(named.json).toMatchObject({
      model_version: "9",
      outputs: [{ data: await answerOf(join(dir, "chain", "9")) }],
    });
    expect((await post("models/chain/versions/1/infer", infer)).status).toBe(404);
    expect((await get("models/chain/versions/9/stats")).json.model_stats[0].inference_count).toBe(1);

    for (const name of ["misnamed", "nope", "..", "..%2fchain", "..evil", "chain%2f1", "%00"]) {
      const { status, json } = await post(`repository/models/${name}/load`);
      expect([name, status]).toEqual([name, expect.toSatisfy((code: number) => code >= 400 && code < 500)]);
      expect(JSON.stringify(json)).not.toContain(dir);
    }
    expect((await post("repository/models/misnamed/load")).json.error).toMatch(/names it 'other'/);
    for (const parameter of ["config", "file:1/model.onnx"]) {
      const { status } = await post("repository/models/chain/load", { parameters: { [parameter]: "{}" } });
      expect(status).toBe(501);
    }

    expect(await post("repository/models/chain/unload")).toEqual({ status: 200, json: undefined });
    expect((await get("models/chain/ready")).status).toBe(404);
    const { models } = (await call("RepositoryIndex", {})) as { models: object[] };
    expect(models).toContainEqual({ name: "chain", version: "10", state: "UNAVAILABLE", reason: "unloaded" });
    await call("RepositoryModelLoad", { model_name: "chain" });
    expect((await get("models/chain/ready")).status).toBe(200);
    await call("RepositoryModelUnload", { model_name: "chain" });
    await expect(call("RepositoryModelUnload", { model_name: "chain" })).rejects.toThrow(
      /no version of it is loaded/,
    );
  }, 300_000);

  it("refuses a load that would take more memory than is allowed, with both numbers", async () => {
    const dir = await repositoryFolder();
    await writeFolder(join(dir, "chain"), { name: "chain", version: "1", seed: 1 });
    const { port } = await serve("--models", dir, "--model-control", "explicit", "--memory-limit", "10KiB");
    const { status, json } = await http(port).post("repository/models/chain/load");
    expect([status, json.error]).toEqual([
      503,
      expect.stringMatching(/takes \d+ bytes .* limit of 10240 bytes/),
    ]);
  });
});

describe("cellbatch serve --models", () => {
  it("loads all at the start, and lets nobody change them", async () => {
    const dir = await repositoryFolder();
    await writeFolder(join(dir, "chain"), { name: "chain", version: "1", seed: 1 });
    const { port } = await serve("--models", dir);
    const { get, post } = http(port);
    expect((await get("models/chain/ready")).status).toBe(200);
    const { status, json } = await post("repository/models/chain/unload");
    expect([status, json.error]).toEqual([
      503,
      expect.stringMatching(/^explicit model load \/ unload is not allowed if polling is enabled/),
    ]);
  }, 300_000);

  it("ends with the file and what is wrong with it where a model cannot be loaded", async () => {
    const dir = await repositoryFolder();
    await mkdir(join(dir, "chain"));
    await writeFile(join(dir, "chain", "model.json"), "{");
    await expect(serve("--models", dir)).rejects.toThrow(/chain\/model.json cannot be read/);
    await expect(serve("--models", join(dir, "nowhere"))).rejects.toThrow(
      /nowhere' cannot be read as a folder of models/,
    );
    await expect(serve("--models", dir, "--watch", "--model-control", "explicit")).rejects.toThrow(
      /choose one/,
    );
  });
});

describe("a pipeline in a folder of models", () => {
  /** Two readers of vectors side by side: their models are served beside it, or one lies in its folder. */
  async function writePipeline(
    folder: string,
    name: string,
    models: readonly [string, string],
  ): Promise<void> {
    await mkdir(folder, { recursive: true });
    const stages = models.map((model, i) => ({ name: `stage${i}`, model }));
    const outputs = { left: "stage0.h", right: "stage1.h" };
    const program = { kind: "pipeline", stages, outputs };
    const about = { format: 1, name, version: "1", description: "for tests" };
    await writeFile(join(folder, "model.json"), JSON.stringify({ ...about, program }));
  }

  async function open(dir: string, control: "none" | "watch" | "explicit") {
    const runtime = await createRuntime({ models: [], inline: true });
    const repository = new ModelRepository({ dir, runtime, control, drainMs: 500 });
    onTestFinished(async () => {
      await repository.close();
      await runtime.close(0);
    });
    const names = () => runtime.models.map(({ name }) => name).sort();
    return { runtime, repository, names };
  }

  const chain = (dir: string, name: string, seed: number) =>
    writeFolder(join(dir, name), { name, version: "1", seed });

  it("is loaded after its stages whatever the names, with the models inside its own folder", async () => {
    const dir = await repositoryFolder();
    await chain(dir, "reader", 1);
    await writePipeline(join(dir, "both"), "both", ["reader", "inner"]);
    await chain(join(dir, "both"), "inner", 2);
    const { runtime, repository, names } = await open(dir, "none");
    await repository.start();
    expect(names()).toEqual(["both", "inner", "reader"]);
    const { outputs } = await runtime.run("both", { x: input });
    expect([...(outputs.left as Tensor).data]).not.toEqual([...(outputs.right as Tensor).data]);
  });

  it("ends the start with what is missing where a stage is nowhere", async () => {
    const dir = await repositoryFolder();
    await writePipeline(join(dir, "both"), "both", ["reader", "reader"]);
    const { repository } = await open(dir, "none");
    await expect(repository.start()).rejects.toThrow(
      "failed to load 'both': pipeline 'both' has a stage of model 'reader', which is not loaded",
    );
  });

  it("keeps its stages while it is there, and goes with the models of its folder", async () => {
    const dir = await repositoryFolder();
    await chain(dir, "reader", 1);
    await writePipeline(join(dir, "both"), "both", ["reader", "inner"]);
    await chain(join(dir, "both"), "inner", 2);
    const { runtime, repository, names } = await open(dir, "explicit");
    await repository.start();
    await expect(repository.load("both")).rejects.toThrow("which is not loaded");
    await repository.load("reader");
    await repository.load("both");
    await expect(repository.unload("reader")).rejects.toMatchObject({
      code: "INVALID_REQUEST",
      message: "model 'reader' is a stage of pipeline 'both': unload the pipeline first",
    });
    expect((await runtime.run("both", { x: input })).outputs).toHaveProperty("left");
    await repository.unload("both");
    expect(names()).toEqual(["reader"]);
    await repository.unload("reader");
    expect(names()).toEqual([]);
    expect(repository.index().map(({ name, state }) => [name, state])).toEqual([
      ["both", "UNAVAILABLE"],
      ["reader", "UNAVAILABLE"],
    ]);
  });

  it("finishes on it whoever is with it when it is unloaded, or is told after the time to drain", async () => {
    const dir = await repositoryFolder();
    await chain(dir, "reader", 1);
    await writePipeline(join(dir, "both"), "both", ["reader", "reader"]);
    const { runtime, repository } = await open(dir, "explicit");
    await repository.start();
    await repository.load("reader");
    await repository.load("both");
    const finishing = runtime.run("both", { x: input });
    const paused = new Promise((resolve) => {
      const listener = { done: resolve, failed: resolve };
      runtime.submit("both", { x: input }, {}, listener).pause();
    });
    await repository.unload("both");
    expect((await finishing).outputs).toHaveProperty("right");
    expect(await paused).toMatchObject({
      code: "MODEL_NOT_READY",
      message: "version 1 of model 'both' was unloaded before the request was done",
    });
    await expect(runtime.run("both", { x: input })).rejects.toMatchObject({ code: "MODEL_NOT_FOUND" });
  });

  it("comes when its last stage comes and goes together with it, where the folder is watched", async () => {
    const dir = await repositoryFolder();
    await writePipeline(join(dir, "zebra"), "zebra", ["reader", "reader"]);
    const { repository, names } = await open(dir, "watch");
    await repository.start();
    expect(names()).toEqual([]);
    await chain(dir, "reader", 1);
    await expect.poll(names, PATIENT).toEqual(["reader", "zebra"]);
    await Promise.all(["reader", "zebra"].map((name) => rm(join(dir, name), { recursive: true })));
    await expect.poll(names, PATIENT).toEqual([]);
  });

  it("refuses a version of a stage that it would not fit, and goes on with the one before", async () => {
    const dir = await repositoryFolder();
    await chain(dir, "reader", 1);
    await writePipeline(join(dir, "both"), "both", ["reader", "reader"]);
    const { runtime, repository } = await open(dir, "explicit");
    await repository.start();
    await repository.load("reader");
    await repository.load("both");
    await writeFile(join(dir, "reader", "model.json"), manifest("reader", "2", "session"));
    await expect(repository.load("reader")).rejects.toThrow(
      "model 'reader' does not fit its pipelines: pipeline 'both' would take or give something else",
    );
    expect((await runtime.run("both", { x: input })).outputs).toHaveProperty("left");
  });
});
