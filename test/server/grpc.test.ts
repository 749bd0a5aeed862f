import {
  type ClientDuplexStream,
  credentials,
  loadPackageDefinition,
  Metadata,
  type ServiceError,
  status,
} from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createRuntime } from "../../src/runtime/create.ts";
import type { Runtime } from "../../src/runtime/types.ts";
import { loadServices } from "../../src/server/grpc/protos.ts";
import { type Server, startServer } from "../../src/server/server.ts";
import { chainModel, listenerModel, writerModel } from "../fixtures/models.ts";

// biome-ignore lint/suspicious/noExplicitAny: messages of a client that is made at run time; the tests state their shapes.
type Message = any;

let runtime: Runtime;
let server: Server;
let client: Message;
let health: Message;
const unexpected: unknown[] = [];

const load = (file: string): Message =>
  loadPackageDefinition(
    loadSync(new URL(`../../src/server/grpc/${file}`, import.meta.url).pathname, {
      keepCase: true,
      longs: String,
      enums: String,
      defaults: true,
      oneofs: true,
    }),
  );

beforeAll(async () => {
  runtime = await createRuntime({
    models: [chainModel("all"), writerModel(), listenerModel()],
    inline: true,
    maxActive: 32,
  });
  server = await startServer({
    runtime,
    port: 0,
    grpcPort: 0,
    version: "1.2.3",
    limits: { sequences: 8, bodyBytes: 1_000_000 },
    unexpected: (error) => unexpected.push(error),
  });
  const address = `127.0.0.1:${server.grpcPort}`;
  client = new (load("inference.proto").inference.GRPCInferenceService)(
    address,
    credentials.createInsecure(),
  );
  health = new (load("health.proto").grpc.health.v1.Health)(address, credentials.createInsecure());
});

afterAll(async () => {
  client.close();
  health.close();
  await server.close(0);
  await runtime.close(0);
  expect(unexpected).toEqual([]);
});

function call(method: string, request: object = {}, of: Message = client): Promise<Message> {
  return new Promise((resolve, reject) => {
    of[method](request, (error: ServiceError | null, answer: Message) =>
      error ? reject(error) : resolve(answer),
    );
  });
}

const ramp = (steps: number, from = 0) =>
  Array.from({ length: steps * 4 }, (_, i) => ((from * 4 + i) % 7) / 8);
const floats = (values: readonly number[]) => Buffer.from(Float32Array.from(values).buffer);
const fromRaw = (bytes: Buffer) => [...new Float32Array(Uint8Array.from(bytes).buffer)];
const typed = (values: readonly number[], shape = [values.length / 4, 4]) => ({
  inputs: [{ name: "x", datatype: "FP32", shape, contents: { fp32_contents: values } }],
});
const raw = (values: readonly number[], shape = [values.length / 4, 4]) => ({
  inputs: [{ name: "x", datatype: "FP32", shape }],
  raw_input_contents: [floats(values)],
});
const text = (value: string) => ({
  inputs: [
    { name: "text", datatype: "BYTES", shape: [1], contents: { bytes_contents: [Buffer.from(value)] } },
  ],
});
const infer = (model: string, request: object) => call("ModelInfer", { model_name: model, ...request });

async function chain(values: readonly number[]): Promise<number[]> {
  const data = Float32Array.from(values);
  const { outputs } = await runtime.run("chain", {
    x: { dtype: "float32", shape: [values.length / 4, 4], data },
  });
  return [...(outputs.h as { data: Float32Array }).data];
}

describe("questions over gRPC", () => {
  it("are answered as over HTTP", async () => {
    const get = async (path: string) => (await fetch(`http://127.0.0.1:${server.port}${path}`)).json();
    expect(await call("ServerLive")).toEqual({ live: true });
    expect(await call("ServerReady")).toEqual({ ready: true });
    expect(await call("ServerMetadata")).toEqual(await get("/v2"));
    expect(await call("ModelReady", { name: "chain" })).toEqual({ ready: true });
    expect(await call("ModelReady", { name: "chain", version: "2" })).toEqual({ ready: false });
    for (const name of ["chain", "writer", "listener"]) {
      const numbers = ({ shape, ...tensor }: { shape: string[] }) => ({
        ...tensor,
        shape: shape.map(Number),
      });
      const metadata = await call("ModelMetadata", { name });
      const { inputs, outputs } = metadata;
      const told = { ...metadata, inputs: inputs.map(numbers), outputs: outputs.map(numbers) };
      expect(told).toEqual(await get(`/v2/models/${name}`));
      const { config } = await call("ModelConfig", { name, version: "1" });
      const other = (await get(`/v2/models/${name}/config`)) as Message;
      expect(config).toMatchObject({ name, backend: "cellbatch", max_batch_size: 0 });
      expect(config.input.map(({ data_type, dims }: Message) => [data_type, dims.map(Number)])).toEqual(
        other.input.map(({ data_type, dims }: Message) => [data_type, dims]),
      );
      expect(Boolean(config.sequence_batching)).toBe("sequence_batching" in other);
    }
    expect((await call("ModelConfig", { name: "listener" })).config.sequence_batching).toMatchObject({
      max_sequence_idle_microseconds: "60000000",
      oldest: { max_candidate_sequences: 8 },
    });
    const index = await call("RepositoryIndex");
    expect(index.models.map(({ name, state }: Message) => [name, state])).toContainEqual(["writer", "READY"]);
  });

  it("count requests", async () => {
    const count = async (name: string) =>
      Number((await call("ModelStatistics", { name })).model_stats[0].inference_count);
    const before = await count("chain");
    await infer("chain", raw(ramp(2)));
    expect(await count("chain")).toBe(before + 1);
    expect((await call("ModelStatistics")).model_stats).toHaveLength(3);
  });

  it("tell health checkers", async () => {
    expect(await call("Check", {}, health)).toEqual({ status: "SERVING" });
    await expect(call("Check", { service: "x" }, health)).rejects.toMatchObject({ code: status.NOT_FOUND });
    const watch = health.Watch({ service: "inference.GRPCInferenceService" });
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
    const answer = await infer("chain", { id: "7", ...request(ramp(3)) });
    expect(answer).toMatchObject({ model_name: "chain", model_version: "1", id: "7" });
    expect(answer.outputs).toMatchObject([{ name: "h", datatype: "FP32", shape: ["3", "8"] }]);
    expect(answer.raw_output_contents.map(fromRaw)).toEqual([await chain(ramp(3))]);
  });

  it("takes and gives text, and obeys parameters", async () => {
    const { outputs } = await runtime.run(
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
    const answer = await infer("writer", { ...text("abc"), parameters });
    const [bytes] = answer.raw_output_contents;
    expect([bytes.readUInt32LE(0), bytes.toString("utf8", 4)]).toEqual([bytes.length - 4, outputs.text]);
  });

  it("takes FP16 raw, and a batch axis of 1", async () => {
    const answer = await infer("chain", {
      inputs: [{ name: "x", datatype: "FP16", shape: [1, 1, 4] }],
      raw_input_contents: [Buffer.from("003c00b800000040", "hex")],
    });
    expect(answer.outputs[0].shape).toEqual(["1", "1", "8"]);
    expect(fromRaw(answer.raw_output_contents[0])).toEqual(await chain([1, -0.5, 0, 2]));
  });

  it("is cancelled when its client leaves or its deadline passes", async () => {
    const long = raw(new Array(4 * 10_000).fill(0));
    const { failed, cells } = runtime.stats();
    const left = new Promise<ServiceError>((resolve) => {
      const sent = client.ModelInfer({ model_name: "chain", ...long }, resolve);
      expect
        .poll(() => runtime.stats().cells, { interval: 1 })
        .toBeGreaterThan(cells)
        .then(() => sent.cancel());
    });
    expect((await left).code).toBe(status.CANCELLED);
    await expect.poll(() => runtime.stats().failed).toBe(failed + 1);
    const late = new Promise<ServiceError>((resolve) =>
      client.ModelInfer({ model_name: "chain", ...long }, { deadline: Date.now() + 20 }, resolve),
    );
    expect((await late).code).toBe(status.DEADLINE_EXCEEDED);
    await expect.poll(() => runtime.stats().active).toBe(0);
  });
});

describe("bad input over gRPC", () => {
  const x = { name: "x", datatype: "FP32", shape: [1, 4] };
  const one = typed(ramp(1));
  const withParameters = (parameters: object, request: object = one) => ({ ...request, parameters });
  const cases: [string, string, object, number, RegExp][] = [
    ["an unknown model", "nope", one, status.NOT_FOUND, /'nope'.*chain, writer, listener/],
    ["an unknown version", "chain", { ...one, model_version: "2" }, status.NOT_FOUND, /no version '2'/],
    [
      "both kinds of contents",
      "chain",
      { ...one, raw_input_contents: [floats(ramp(1))] },
      status.INVALID_ARGUMENT,
      /^contents field must not be specified when using raw_input_contents for 'x' for model 'chain'/,
    ],
    [
      "no contents",
      "chain",
      { inputs: [x] },
      status.INVALID_ARGUMENT,
      /^unable to find data for input tensor 'x' for model 'chain' in request\./,
    ],
    [
      "too few raw contents",
      "chain",
      { inputs: [x, { ...x, name: "y" }], raw_input_contents: [floats(ramp(1))] },
      status.INVALID_ARGUMENT,
      /^unable to find data for input tensor 'y'/,
    ],
    [
      "too many raw contents",
      "chain",
      { inputs: [x], raw_input_contents: [floats(ramp(1)), floats([])] },
      status.INVALID_ARGUMENT,
      /^unexpected additional input data for model 'chain'/,
    ],
    [
      "raw contents one short",
      "chain",
      { inputs: [x], raw_input_contents: [Buffer.alloc(15)] },
      status.INVALID_ARGUMENT,
      /^unexpected size for input 'x', expecting 1 additional bytes for model 'chain'/,
    ],
    [
      "raw contents one long",
      "chain",
      { inputs: [x], raw_input_contents: [Buffer.alloc(17)] },
      status.INVALID_ARGUMENT,
      /^unexpected additional input data for model 'chain'/,
    ],
    [
      "a wrong typed field",
      "chain",
      { inputs: [{ ...x, contents: { int_contents: [1, 2, 3, 4] } }] },
      status.INVALID_ARGUMENT,
      /^unexpected explicit tensor data for input tensor 'x' for model 'chain' of type 'INT32', expected datatype 'FP32'/,
    ],
    [
      "FP16 in a typed field",
      "chain",
      { inputs: [{ ...x, datatype: "FP16", contents: { fp32_contents: [1, 2, 3, 4] } }] },
      status.INVALID_ARGUMENT,
      /expected datatype 'FP16'/,
    ],
    ["NaN", "chain", typed([1, Number.NaN, 3, 4]), status.INVALID_ARGUMENT, /NaN at 1/],
    [
      "2^53+1 as INT64",
      "writer",
      {
        inputs: [
          {
            name: "token",
            datatype: "INT64",
            shape: [1],
            contents: { int64_contents: ["9007199254740993"] },
          },
        ],
      },
      status.INVALID_ARGUMENT,
      /9007199254740993 at 0/,
    ],
    [
      "300 as UINT8",
      "writer",
      { inputs: [{ name: "token", datatype: "UINT8", shape: [1], contents: { uint_contents: [300] } }] },
      status.INVALID_ARGUMENT,
      /300 at 0.*from 0 to 255/,
    ],
    [
      "a negative axis",
      "chain",
      { inputs: [{ ...x, shape: [-1, 4] }], raw_input_contents: [floats(ramp(1))] },
      status.INVALID_ARGUMENT,
      /^Unable to parse 'shape'.*-1, 4/,
    ],
    ["a batch of 2", "chain", raw(ramp(4), [2, 2, 4]), status.INVALID_ARGUMENT, /must specify batch-size 1/],
    [
      "an unknown output",
      "chain",
      { ...one, outputs: [{ name: "z" }] },
      status.INVALID_ARGUMENT,
      /unexpected inference output 'z'/,
    ],
    [
      "classification",
      "chain",
      { ...one, outputs: [{ name: "h", parameters: { classification: { int64_param: 1 } } }] },
      status.UNIMPLEMENTED,
      /classification/,
    ],
    [
      "a reserved parameter",
      "chain",
      withParameters({ triton_x: { bool_param: true } }),
      status.INVALID_ARGUMENT,
      /Only the following keys starting with 'triton_' are allowed: triton_enable_empty_final_response/,
    ],
    [
      "a uint64 parameter",
      "chain",
      withParameters({ seed: { uint64_param: 1 } }),
      status.INVALID_ARGUMENT,
      /^invalid value type for 'seed' parameter, expected int64_param, bool_param, or string_param\./,
    ],
    [
      "a uint64 sequence id",
      "listener",
      withParameters({ sequence_id: { uint64_param: 1 } }),
      status.INVALID_ARGUMENT,
      /^invalid value type for 'sequence_id' parameter, expected int64_param or string_param\./,
    ],
    [
      "a start that is a number",
      "listener",
      withParameters({ sequence_start: { int64_param: 1 } }),
      status.INVALID_ARGUMENT,
      /^invalid value type for 'sequence_start' parameter, expected bool_param\./,
    ],
    [
      "an empty parameter",
      "chain",
      withParameters({ a: {} }),
      status.INVALID_ARGUMENT,
      /^invalid value type for 'a'/,
    ],
    [
      "a priority below 0",
      "chain",
      withParameters({ priority: { int64_param: -1 } }),
      status.INVALID_ARGUMENT,
      /invalid value for 'priority', expected value >= 0\./,
    ],
    [
      "a timeout that passes",
      "writer",
      withParameters({ timeout: { int64_param: 1 } }, text("a")),
      status.DEADLINE_EXCEEDED,
      /./,
    ],
    [
      "a sequence that nobody started",
      "listener",
      withParameters({ sequence_id: { int64_param: 7 } }),
      status.INVALID_ARGUMENT,
      /^inference request for sequence 7 to model 'listener' must specify the START flag on the first request of the sequence$/,
    ],
  ];
  it.each(cases)("refuses %s", async (_, model, request, code, sentence) => {
    const error = await infer(model, request).then(
      () => undefined,
      (thrown: ServiceError) => thrown,
    );
    expect(error).toMatchObject({ code, details: expect.stringMatching(sentence) });
    expect(error!.details).not.toMatch(/\n|\.ts|node_modules/);
  });

  it("refuses to change the repository", async () => {
    for (const method of ["RepositoryModelLoad", "RepositoryModelUnload"]) {
      await expect(call(method, { model_name: "chain" })).rejects.toMatchObject({
        code: status.UNIMPLEMENTED,
      });
    }
  });

  it("refuses a message beyond its limit and serves on", async () => {
    await expect(infer("chain", raw(new Array(400_000).fill(0)))).rejects.toMatchObject({
      code: status.RESOURCE_EXHAUSTED,
    });
    expect((await infer("chain", one)).outputs).toHaveLength(1);
  });

  it("says when to try again where it is full", async () => {
    const sessions = Array.from({ length: 32 }, () => runtime.session("listener"));
    const error: ServiceError = await infer("chain", one).catch((thrown: ServiceError) => thrown);
    expect(error.code).toBe(status.RESOURCE_EXHAUSTED);
    expect(error.metadata.get("grpc-retry-pushback-ms")).toEqual(["500"]);
    for (const session of sessions) session.cancel();
    await expect.poll(() => runtime.stats().active).toBe(0);
  });

  it("of any shape gives an answer or a refusal, never an internal error", async () => {
    const parameter = fc.oneof(
      fc.record({ bool_param: fc.boolean() }),
      fc.record({ int64_param: fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }).map(String) }),
      fc.record({ string_param: fc.string() }),
      fc.record({ double_param: fc.double() }),
      fc.constant({}),
    );
    const names = fc.constantFrom(
      "sequence_id",
      "sequence_start",
      "sequence_end",
      "priority",
      "seed",
      "top_p",
      "x",
    );
    const input = fc.record({
      name: fc.constantFrom("x", "text", "token", "y"),
      datatype: fc.constantFrom("FP32", "INT64", "BYTES", "FP16", "BOOL", ""),
      shape: fc.array(fc.integer({ min: -1, max: 5 }), { maxLength: 3 }),
      contents: fc.option(
        fc.record(
          {
            fp32_contents: fc.array(fc.float(), { maxLength: 8 }),
            bytes_contents: fc.array(fc.uint8Array({ maxLength: 4 }).map((bytes) => Buffer.from(bytes))),
          },
          { requiredKeys: [] },
        ),
      ),
    });
    const request = fc.record(
      {
        model_name: fc.constantFrom("chain", "writer", "listener", ""),
        parameters: fc.dictionary(names, parameter, { maxKeys: 3 }),
        inputs: fc.array(input, { maxLength: 2 }),
        raw_input_contents: fc.array(
          fc.uint8Array({ maxLength: 40 }).map((bytes) => Buffer.from(bytes)),
          {
            maxLength: 2,
          },
        ),
      },
      { requiredKeys: ["model_name"] },
    );
    await fc.assert(
      fc.asyncProperty(request, async (message) => {
        const error = await call("ModelInfer", message).then(
          () => undefined,
          (thrown: ServiceError) => thrown,
        );
        expect(error?.code).not.toBe(status.INTERNAL);
        expect(error?.code).not.toBe(status.UNKNOWN);
      }),
      { numRuns: 300 },
    );
    expect(unexpected).toEqual([]);
    const other = await fetch(`http://127.0.0.1:${server.port}/v2/health/ready`);
    expect(other.status).toBe(200);
  });
});

describe("a sequence over gRPC", () => {
  const step = (parameters: object, from = 0) => infer("listener", { ...raw(ramp(1, from)), parameters });
  const data = (answer: Message) => fromRaw(answer.raw_output_contents[0]);

  it("keeps its state, and is the same sequence over HTTP", async () => {
    const id = { sequence_id: { int64_param: "9007199254740993" } };
    const first = await step({ ...id, sequence_start: { bool_param: true } });
    const reply = await fetch(`http://127.0.0.1:${server.port}/v2/models/listener/infer`, {
      method: "POST",
      body: `{"parameters":{"sequence_id":9007199254740993},"inputs":[${JSON.stringify({ name: "x", datatype: "FP32", shape: [1, 4], data: ramp(1, 1) })}]}`,
    });
    const second = ((await reply.json()) as Message).outputs[0].data;
    const third = await step({ ...id, sequence_end: { bool_param: true } }, 2);
    expect([...data(first), ...second, ...data(third)]).toEqual(await chain(ramp(3)));
    expect(runtime.stats().active).toBe(0);
  });

  it("takes a negative id as its 64 bits without a sign", async () => {
    await step({ sequence_id: { int64_param: "-1" }, sequence_start: { bool_param: true } });
    const reply = await fetch(`http://127.0.0.1:${server.port}/v2/models/listener/infer`, {
      method: "POST",
      body: `{"parameters":{"sequence_id":18446744073709551615,"sequence_end":true},"inputs":[${JSON.stringify({ name: "x", datatype: "FP32", shape: [1, 4], data: ramp(1) })}]}`,
    });
    expect(reply.status).toBe(200);
  });
});

describe("ModelStreamInfer", () => {
  /** Sends requests, ends the stream and gives what came and how it ended. */
  function stream(requests: readonly object[], metadata = new Metadata()): Promise<[Message[], number]> {
    const duplex: ClientDuplexStream<object, Message> = client.ModelStreamInfer(metadata);
    const messages: Message[] = [];
    duplex.on("data", (message) => messages.push(message));
    duplex.on("error", () => {});
    for (const request of requests) duplex.write(request);
    duplex.end();
    return new Promise((resolve) => duplex.on("status", ({ code }) => resolve([messages, code])));
  }
  const ids = (messages: readonly Message[]) => messages.map(({ infer_response }) => infer_response.id);
  const final = ({ infer_response }: Message) => infer_response.parameters.triton_final_response.bool_param;

  it("answers in order of the requests, each as final, and ends with OK", async () => {
    const requests = [
      { model_name: "chain", id: "long", ...raw(ramp(500)) },
      { model_name: "chain", id: "short", ...raw(ramp(1)) },
      { model_name: "writer", id: "other", ...text("a") },
    ];
    const [messages, code] = await stream(requests);
    expect(ids(messages)).toEqual(["long", "short", "other"]);
    expect(messages.map(final)).toEqual([true, true, true]);
    expect(messages.map(({ error_message }) => error_message)).toEqual(["", "", ""]);
    expect(code).toBe(status.OK);
  });

  it("tells of a failed request by its id and goes on", async () => {
    const [messages, code] = await stream([
      { model_name: "nope", id: "bad", ...raw(ramp(1)) },
      { model_name: "chain", id: "good", ...raw(ramp(1)) },
    ]);
    expect(ids(messages)).toEqual(["bad", "good"]);
    expect(messages[0].error_message).toMatch(/no model 'nope'/);
    expect(code).toBe(status.OK);
  });

  it("ends with the status of the first failure where its metadata asks for that", async () => {
    const metadata = new Metadata();
    metadata.set("triton_grpc_error", "true");
    const [messages, code] = await stream([{ model_name: "nope", ...raw(ramp(1)) }], metadata);
    expect([messages, code]).toEqual([[], status.NOT_FOUND]);
  });

  it("interleaves sequences, each in its order", async () => {
    const step = (id: number, from: number, flags: object) => ({
      model_name: "listener",
      id: `${id}.${from}`,
      ...raw(ramp(1, from)),
      parameters: { sequence_id: { int64_param: id }, ...flags },
    });
    const start = { sequence_start: { bool_param: true } };
    const end = { sequence_end: { bool_param: true } };
    const [messages] = await stream([
      step(1, 0, start),
      step(2, 0, start),
      step(1, 1, {}),
      step(2, 1, {}),
      step(2, 2, end),
      step(1, 2, end),
    ]);
    for (const id of [1, 2]) {
      const mine = messages.filter(({ infer_response }) => infer_response.id.startsWith(`${id}.`));
      const outputs = mine.flatMap(({ infer_response }) => fromRaw(infer_response.raw_output_contents[0]));
      expect(outputs).toEqual(await chain(ramp(3)));
    }
    expect(runtime.stats().active).toBe(0);
  });

  it("answers step by step where a request says so, and then with an empty final answer", async () => {
    const { outputs } = await runtime.run("writer", { text: "abc" });
    const parameters = {
      stream: { bool_param: true },
      triton_enable_empty_final_response: { bool_param: true },
    };
    const [messages] = await stream([{ model_name: "writer", ...text("abc"), parameters }]);
    const steps = messages.slice(0, -1).map(({ infer_response }) => infer_response);
    expect(steps.map(({ raw_output_contents: [bytes] }) => bytes.toString("utf8", 4)).join("")).toBe(
      outputs.text,
    );
    expect(messages.map(final)).toEqual([...steps.map(() => false), true]);
    expect(messages.at(-1).infer_response).toMatchObject({ outputs: [], model_version: "1" });
  });

  it("takes more requests than may wait, in order", async () => {
    const requests = Array.from({ length: 300 }, (_, i) => ({
      model_name: "chain",
      id: `${i}`,
      ...raw(ramp(2)),
    }));
    const [messages] = await stream(requests);
    expect(ids(messages)).toEqual(requests.map(({ id }) => id));
  });

  it("that is cancelled cancels what runs, and ends the sequence that waits for an answer", async () => {
    const duplex = client.ModelStreamInfer();
    duplex.on("error", () => {});
    const { cells } = runtime.stats();
    const zeros = raw(new Array(4 * 9000).fill(0));
    const parameters = { sequence_id: { int64_param: 1 }, sequence_start: { bool_param: true } };
    duplex.write({ model_name: "listener", ...zeros, parameters });
    duplex.write({ model_name: "chain", ...zeros });
    await expect.poll(() => runtime.stats().cells, { interval: 1 }).toBeGreaterThan(cells);
    duplex.cancel();
    await expect.poll(() => runtime.stats().active).toBe(0);
  });

  it("that is closed between requests leaves its sequences open", async () => {
    const of = (flags: object, from: number) => ({
      model_name: "listener",
      ...raw(ramp(1, from)),
      parameters: { sequence_id: { string_param: "stays" }, ...flags },
    });
    await stream([of({ sequence_start: { bool_param: true } }, 0)]);
    const [[last]] = await stream([of({ sequence_end: { bool_param: true } }, 1)]);
    expect(fromRaw(last.infer_response.raw_output_contents[0])).toEqual((await chain(ramp(2))).slice(8));
  });
});

describe("the wire", () => {
  const methods = loadServices().inference;
  const hex = (text: string) => Buffer.from(text.replaceAll(/\s/g, ""), "hex");

  it("reads and writes the vectors of Triton's proto", () => {
    const { requestDeserialize } = methods.ModelInfer as Message;
    const request = requestDeserialize(
      hex(`0a 04 6c 73 74 6d 1a 01 37 22 11 0a 0b 73 65 71 75 65 6e 63 65 5f 69 64 12 02 10 2a 22 14 0a 0e 73 65 71 75 65
      6e 63 65 5f 73 74 61 72 74 12 02 08 01 2a 0d 0a 01 78 12 04 46 50 33 32 1a 02 01 02 32 03 0a 01 68 3a 08 00 00 c0 3f
      00 00 00 c0`),
    );
    expect(request).toMatchObject({
      model_name: "lstm",
      id: "7",
      parameters: { sequence_id: { int64_param: "42" }, sequence_start: { bool_param: true } },
      inputs: [{ name: "x", datatype: "FP32", shape: ["1", "2"] }],
      outputs: [{ name: "h" }],
    });
    expect(fromRaw(request.raw_input_contents[0])).toEqual([1.5, -2]);
    const typedRequest = requestDeserialize(
      hex(`0a 04 6c 73 74 6d 1a 01 37 22 11 0a 0b 73 65 71 75 65 6e 63 65 5f 69 64 12 02 10 2a 2a 19 0a 01 78 12 04 46 50
      33 32 1a 02 01 02 2a 0a 32 08 00 00 c0 3f 00 00 00 c0`),
    );
    expect(typedRequest.inputs[0].contents.fp32_contents).toEqual([1.5, -2]);
    const streamed = (methods.ModelStreamInfer as Message).responseSerialize;
    const infer_response = {
      model_name: "lstm",
      model_version: "1",
      id: "7",
      parameters: { triton_final_response: { bool_param: true } },
      outputs: [{ name: "h", datatype: "FP32", shape: [1, 1] }],
      raw_output_contents: [floats([0.75])],
    };
    expect(streamed({ infer_response })).toEqual(
      hex(`12 3e 0a 04 6c 73 74 6d 12 01 31 1a 01 37 22 1b 0a 15 74 72 69 74 6f 6e 5f 66 69 6e 61 6c 5f 72 65 73 70 6f 6e
      73 65 12 02 08 01 2a 0d 0a 01 68 12 04 46 50 33 32 1a 02 01 01 32 04 00 00 40 3f`),
    );
    expect(streamed({ error_message: "boom", infer_response: { id: "7" } })).toEqual(
      hex("0a 04 62 6f 6f 6d 12 03 1a 01 37"),
    );
  });
});
