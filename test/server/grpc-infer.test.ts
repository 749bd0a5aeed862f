import { type ServiceError, status } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import { fromRaw, type Message, openGrpcDoor, raw, text, typed } from "./grpc-door.ts";
import { ramp } from "./served.ts";

const door = openGrpcDoor();
const { served } = door;

describe("questions over gRPC", () => {
  it("are answered as over HTTP", async () => {
    const get = async (path: string) => (await fetch(`http://127.0.0.1:${served.server.port}${path}`)).json();
    expect(await door.call("ServerLive")).toEqual({ live: true });
    expect(await door.call("ServerReady")).toEqual({ ready: true });
    expect(await door.call("ServerMetadata")).toEqual(await get("/v2"));
    expect(await door.call("ModelReady", { name: "chain" })).toEqual({ ready: true });
    expect(await door.call("ModelReady", { name: "chain", version: "2" })).toEqual({ ready: false });
    for (const name of ["chain", "writer", "listener"]) {
      const numbers = ({ shape, ...tensor }: { shape: string[] }) => ({
        ...tensor,
        shape: shape.map(Number),
      });
      const metadata = await door.call("ModelMetadata", { name });
      const { inputs, outputs } = metadata;
      const told = { ...metadata, inputs: inputs.map(numbers), outputs: outputs.map(numbers) };
      expect(told).toEqual(await get(`/v2/models/${name}`));
      const { config } = await door.call("ModelConfig", { name, version: "1" });
      const other = (await get(`/v2/models/${name}/config`)) as Message;
      expect(config).toMatchObject({ name, backend: "cellbatch", max_batch_size: 0 });
      expect(config.input.map(({ data_type, dims }: Message) => [data_type, dims.map(Number)])).toEqual(
        other.input.map(({ data_type, dims }: Message) => [data_type, dims]),
      );
      expect(Boolean(config.sequence_batching)).toBe("sequence_batching" in other);
    }
    expect((await door.call("ModelConfig", { name: "listener" })).config.sequence_batching).toMatchObject({
      max_sequence_idle_microseconds: "60000000",
      oldest: { max_candidate_sequences: 8 },
    });
    const index = await door.call("RepositoryIndex");
    expect(index.models.map(({ name, state }: Message) => [name, state])).toContainEqual(["writer", "READY"]);
  });

  it("count requests", async () => {
    const count = async (name: string) =>
      Number((await door.call("ModelStatistics", { name })).model_stats[0].inference_count);
    const before = await count("chain");
    await door.infer("chain", raw(ramp(2)));
    expect(await count("chain")).toBe(before + 1);
    expect((await door.call("ModelStatistics")).model_stats).toHaveLength(3);
  });

  it("tell health checkers", async () => {
    expect(await door.call("Check", {}, door.health)).toEqual({ status: "SERVING" });
    await expect(door.call("Check", { service: "x" }, door.health)).rejects.toMatchObject({
      code: status.NOT_FOUND,
    });
    const watch = door.health.Watch({ service: "inference.GRPCInferenceService" });
    watch.on("error", () => {});
    expect(await new Promise((resolve) => watch.once("data", resolve))).toEqual({ status: "SERVING" });
    watch.cancel();
  });
});

describe("ModelInfer", () => {
  it.each([
    ["typed", typed],
    ["raw", raw],
  ] as const)("takes %s contents and answers raw", async (_, request) => {
    const answer = await door.infer("chain", { id: "7", ...request(ramp(3)) });
    expect(answer).toMatchObject({ model_name: "chain", model_version: "1", id: "7" });
    expect(answer.outputs).toMatchObject([{ name: "h", datatype: "FP32", shape: ["3", "8"] }]);
    expect(answer.raw_output_contents.map(fromRaw)).toEqual([await served.chain(ramp(3))]);
  });

  it("takes and gives text, and obeys parameters", async () => {
    const { outputs } = await served.runtime.run(
      "writer",
      { text: "abc" },
      { maxSteps: 7, temperature: 1, seed: 3 },
    );
    const parameters = {
      max_steps: { int64_param: 7 },
      temperature: { double_param: 1 },
      seed: { int64_param: 3 },
      priority: { uint64_param: 1 },
    };
    const answer = await door.infer("writer", { ...text("abc"), parameters });
    const [bytes] = answer.raw_output_contents;
    expect([bytes.readUInt32LE(0), bytes.toString("utf8", 4)]).toEqual([bytes.length - 4, outputs.text]);
  });

  it("takes FP16 raw, and a batch axis of 1", async () => {
    const answer = await door.infer("chain", {
      inputs: [{ name: "x", datatype: "FP16", shape: [1, 1, 4] }],
      raw_input_contents: [Buffer.from("003c00b800000040", "hex")],
    });
    expect(answer.outputs[0].shape).toEqual(["1", "1", "8"]);
    expect(fromRaw(answer.raw_output_contents[0])).toEqual(await served.chain([1, -0.5, 0, 2]));
  });

  it("is cancelled when its client leaves or its deadline passes", async () => {
    const long = raw(new Array(4 * 10_000).fill(0));
    const { failed, cells } = served.runtime.stats();
    const left = new Promise<ServiceError>((resolve) => {
      const sent = door.client.ModelInfer({ model_name: "chain", ...long }, resolve);
      expect
        .poll(() => served.runtime.stats().cells, { interval: 1 })
        .toBeGreaterThan(cells)
        .then(() => sent.cancel());
    });
    expect((await left).code).toBe(status.CANCELLED);
    await expect.poll(() => served.runtime.stats().failed).toBe(failed + 1);
    const late = new Promise<ServiceError>((resolve) =>
      door.client.ModelInfer({ model_name: "chain", ...long }, { deadline: Date.now() + 20 }, resolve),
    );
    expect((await late).code).toBe(status.DEADLINE_EXCEEDED);
    await expect.poll(() => served.runtime.stats().active).toBe(0);
  });
});

describe("a sequence over gRPC", () => {
  const step = (parameters: object, from = 0) =>
    door.infer("listener", { ...raw(ramp(1, from)), parameters });
  const data = (answer: Message) => fromRaw(answer.raw_output_contents[0]);

  it("keeps its state, and is the same sequence over HTTP", async () => {
    const id = { sequence_id: { int64_param: "9007199254740993" } };
    const first = await step({ ...id, sequence_start: { bool_param: true } });
    const reply = await fetch(`http://127.0.0.1:${served.server.port}/v2/models/listener/infer`, {
      method: "POST",
      body: `{"parameters":{"sequence_id":9007199254740993},"inputs":[${JSON.stringify({ name: "x", datatype: "FP32", shape: [1, 4], data: ramp(1, 1) })}]}`,
    });
    const second = ((await reply.json()) as Message).outputs[0].data;
    const third = await step({ ...id, sequence_end: { bool_param: true } }, 2);
    expect([...data(first), ...second, ...data(third)]).toEqual(await served.chain(ramp(3)));
    expect(served.runtime.stats().active).toBe(0);
  });

  it("takes a negative id as its 64 bits without a sign", async () => {
    await step({ sequence_id: { int64_param: "-1" }, sequence_start: { bool_param: true } });
    const reply = await fetch(`http://127.0.0.1:${served.server.port}/v2/models/listener/infer`, {
      method: "POST",
      body: `{"parameters":{"sequence_id":18446744073709551615,"sequence_end":true},"inputs":[${JSON.stringify({ name: "x", datatype: "FP32", shape: [1, 4], data: ramp(1) })}]}`,
    });
    expect(reply.status).toBe(200);
  });
});
