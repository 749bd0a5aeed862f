import { connect } from "node:net";
import { deflateSync, gunzipSync, gzipSync } from "node:zlib";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createRuntime } from "../../src/runtime/create.ts";
import type { Runtime } from "../../src/runtime/types.ts";
import { parseJson } from "../../src/server/oip/json.ts";
import { type Server, startServer } from "../../src/server/server.ts";
import { chainModel, listenerModel, writerModel } from "../fixtures/models.ts";
import { TestClient } from "./client.ts";

let runtime: Runtime;
let server: Server;
const unexpected: unknown[] = [];

beforeAll(async () => {
  runtime = await createRuntime({
    models: [chainModel("all"), writerModel(), listenerModel()],
    inline: true,
    maxActive: 32,
  });
  server = await startServer({
    runtime,
    port: 0,
    version: "1.2.3",
    limits: { bodyBytes: 65_536, sequences: 8, sequenceRequests: 4, slowMs: 500 },
    unexpected: (error) => unexpected.push(error),
  });
});

afterAll(async () => {
  await server.close(0);
  await runtime.close(0);
  expect(unexpected).toEqual([]);
});

interface Reply {
  readonly status: number;
  readonly headers: Headers;
  readonly bytes: Buffer;
  // biome-ignore lint/suspicious/noExplicitAny: the body of an answer, whose shape the test states.
  readonly json: any;
}

async function send(path: string, init?: RequestInit): Promise<Reply> {
  const reply = await fetch(`http://127.0.0.1:${server.port}${path}`, init);
  const bytes = Buffer.from(await reply.arrayBuffer());
  const length = Number(reply.headers.get("inference-header-content-length") ?? bytes.length);
  const text = bytes.toString("utf8", 0, length);
  const isJson = text.startsWith("{") || text.startsWith("[");
  return { status: reply.status, headers: reply.headers, bytes, json: isJson ? parseJson(text) : text };
}

const post = (path: string, body: unknown, headers: Record<string, string> = {}) =>
  send(path, {
    method: "POST",
    headers,
    body: typeof body === "string" || body instanceof Uint8Array ? body : JSON.stringify(body),
  });

const infer = (model: string, body: unknown, headers?: Record<string, string>) =>
  post(`/v2/models/${model}/infer`, body, headers);

const x = (values: readonly number[], shape = [values.length / 4, 4]) => ({
  name: "x",
  datatype: "FP32",
  shape,
  data: values,
});
const ramp = (steps: number, from = 0) =>
  Array.from({ length: steps * 4 }, (_, i) => ((from * 4 + i) % 7) / 8);

/** What the library answers for a chain over the same values. */
async function chain(values: readonly number[]): Promise<number[]> {
  const data = Float32Array.from(values);
  const { outputs } = await runtime.run("chain", {
    x: { dtype: "float32", shape: [values.length / 4, 4], data },
  });
  return [...(outputs.h as { data: Float32Array }).data];
}

/** A body with its tensors behind it, and its headers. */
function binary(json: object, ...tensors: Uint8Array[]): [Buffer, Record<string, string>] {
  const head = Buffer.from(JSON.stringify(json));
  return [Buffer.concat([head, ...tensors]), { "inference-header-content-length": `${head.length}` }];
}

const floats = (values: readonly number[]) => new Uint8Array(Float32Array.from(values).buffer);

/** Takes long enough to be left alone. */
const long = x(new Array(7000 * 4).fill(0));

/** Sends a request and goes away as soon as its cells run. */
async function leaveWhileRunning(model: string, body: object): Promise<void> {
  const gone = new AbortController();
  const { cells } = runtime.stats();
  const asked = fetch(`http://127.0.0.1:${server.port}/v2/models/${model}/infer`, {
    method: "POST",
    body: JSON.stringify(body),
    signal: gone.signal,
  });
  const ended = expect(asked).rejects.toThrow(/abort/);
  await expect.poll(() => runtime.stats().cells, { interval: 1 }).toBeGreaterThan(cells);
  gone.abort();
  await ended;
}

describe("questions about the server and its models", () => {
  it("are answered as the protocol says", async () => {
    expect((await send("/v2")).json).toMatchObject({
      name: "cellbatch",
      version: "1.2.3",
      extensions: expect.arrayContaining(["sequence", "sequence(string_id)", "binary_tensor_data"]),
    });
    expect((await send("/v2/health/live")).json).toEqual({ live: true });
    expect((await send("/v2/health/ready")).json).toEqual({ ready: true });
    for (const path of ["/v2/models/chain", "/v2/models/chain/versions/1"]) {
      expect((await send(path)).json).toEqual({
        name: "chain",
        versions: ["1"],
        platform: "cellbatch_cells",
        inputs: [{ name: "x", datatype: "FP32", shape: [-1, 4] }],
        outputs: [{ name: "h", datatype: "FP32", shape: [-1, 8] }],
      });
      expect((await send(`${path}/ready`)).json).toEqual({ name: "chain", ready: true });
    }
  });

  it("show text as BYTES, and a session's outputs with an axis of steps", async () => {
    expect((await send("/v2/models/writer")).json.inputs).toEqual([
      { name: "text", datatype: "BYTES", shape: [1] },
    ]);
    expect((await send("/v2/models/listener")).json.outputs).toEqual([
      { name: "h", datatype: "FP32", shape: [-1, 8] },
    ]);
  });

  it.each(["chain", "writer", "listener"])(
    "get a configuration of %s that agrees with its metadata",
    async (model) => {
      const metadata = (await send(`/v2/models/${model}`)).json;
      const config = (await send(`/v2/models/${model}/config`)).json;
      const agree = (tensors: { name: string; dims: number[]; data_type: string }[]) =>
        tensors.map(({ name, dims, data_type }) => ({
          name,
          datatype: data_type.replace("TYPE_", "").replace("STRING", "BYTES"),
          shape: dims,
        }));
      expect(agree(config.input)).toEqual(metadata.inputs);
      expect(agree(config.output)).toEqual(metadata.outputs);
      expect(config.max_batch_size).toBe(0);
      expect("sequence_batching" in config).toBe(model === "listener");
    },
  );

  it("say the idle limit of sequences in microseconds", async () => {
    const { sequence_batching } = (await send("/v2/models/listener/config")).json;
    expect(sequence_batching).toMatchObject({
      max_sequence_idle_microseconds: 60_000_000,
      oldest: { max_candidate_sequences: 8 },
    });
  });

  it("count requests of every door", async () => {
    const count = async () => (await send("/v2/models/chain/stats")).json.model_stats[0];
    const before = await count();
    await infer("chain", { inputs: [x(ramp(3))] });
    const client = await TestClient.open(server.port);
    const tensor = { datatype: "FP32", shape: [2, 4], data: ramp(2) };
    client.send({ type: "infer", id: "a", model: "chain", inputs: { x: tensor } });
    await client.next({ type: "done" });
    client.close();
    await infer("chain", { inputs: [x([0], [1, 1])] });
    const after = await count();
    expect(after.inference_count).toBe(before.inference_count + 2);
    expect(after.execution_count).toBe(before.execution_count + 5);
    expect(after.inference_stats.fail.count).toBe(before.inference_stats.fail.count);
    expect(after.inference_stats.success).toEqual({ count: after.inference_count, ns: expect.any(Number) });
    expect(Math.abs(after.last_inference - Date.now())).toBeLessThan(60_000);
    const all = (await send("/v2/models/stats")).json.model_stats;
    expect(all.map(({ name }: { name: string }) => name)).toEqual(["chain", "writer", "listener"]);
  });

  it("list the repository, and refuse to change it with 501", async () => {
    const ready = { version: "1", state: "READY", reason: "" };
    const models = ["chain", "writer", "listener"].map((name) => ({ name, ...ready }));
    expect((await post("/v2/repository/index", "")).json).toEqual(models);
    expect((await post("/v2/repository/index", { ready: true })).json).toEqual(models);
    for (const verb of ["load", "unload"]) {
      const { status, json } = await post(`/v2/repository/models/chain/${verb}`, {});
      expect([status, json.error]).toEqual([501, expect.stringContaining(`cannot ${verb} model 'chain'`)]);
    }
  });

  it("leave the other doors of the port open", async () => {
    expect((await send("/metrics")).json).toMatch(/cellbatch_sequences 0/);
    expect((await send("/docs/json")).json.paths).toHaveProperty("/v2/models/{model}/infer");
    expect((await send("/docs/")).status).toBe(200);
  });
});

describe("an infer request", () => {
  it("answers what the library answers, with its id and flat data", async () => {
    const { status, json, headers } = await infer("chain", { id: "7", inputs: [x(ramp(3))] });
    expect(status).toBe(200);
    expect(headers.get("content-type")).toMatch("application/json");
    const h = { name: "h", datatype: "FP32", shape: [3, 8], data: await chain(ramp(3)) };
    expect(json).toEqual({ id: "7", model_name: "chain", model_version: "1", outputs: [h] });
    expect(Object.keys(json)).toEqual(["id", "model_name", "model_version", "outputs"]);
  });

  it("takes nested data, other number types, and no content type", async () => {
    const nested = { name: "x", datatype: "FP64", shape: [2, 4], data: [ramp(1), ramp(1, 1)] };
    const { json } = await infer("chain", { inputs: [nested] });
    expect(json.outputs[0].data).toEqual(await chain(ramp(2)));
    expect("id" in json).toBe(false);
  });

  it("takes and gives text as BYTES", async () => {
    const { outputs } = await runtime.run("writer", { text: "abc" });
    const text = { name: "text", datatype: "BYTES", shape: [1], data: ["abc"] };
    const { json } = await infer("writer", { inputs: [text] });
    expect(json.outputs).toEqual([{ name: "text", datatype: "BYTES", shape: [1], data: [outputs.text] }]);
    const bytes = Buffer.from("03000000616263", "hex");
    const head = { name: "text", datatype: "BYTES", shape: [1], parameters: { binary_data_size: 7 } };
    const reply = await infer(
      "writer",
      ...binary({ inputs: [head], parameters: { binary_data_output: true } }, bytes),
    );
    const size = reply.json.outputs[0].parameters.binary_data_size;
    const tail = reply.bytes.subarray(reply.bytes.length - size);
    expect([tail.readUInt32LE(0), tail.toString("utf8", 4)]).toEqual([size - 4, outputs.text]);
  });

  it("obeys parameters of generating models", async () => {
    const text = { name: "text", datatype: "BYTES", shape: [1], data: ["abc"] };
    const { json } = await infer("writer", {
      inputs: [text],
      parameters: { max_steps: 7, temperature: 1, seed: 3, priority: 1, content_type: "np" },
    });
    const { outputs } = await runtime.run(
      "writer",
      { text: "abc" },
      { maxSteps: 7, temperature: 1, seed: 3 },
    );
    expect(json.outputs[0].data).toEqual([outputs.text]);
  });

  it("with a batch axis of 1 gets one back, and of 2 is refused", async () => {
    const { json } = await infer("chain", { inputs: [x(ramp(3), [1, 3, 4])] });
    expect(json.outputs[0]).toMatchObject({ shape: [1, 3, 8], data: await chain(ramp(3)) });
    const text = { name: "text", datatype: "BYTES", shape: [1, 1], data: [["a"]] };
    expect((await infer("writer", { inputs: [text] })).json.outputs[0].shape).toEqual([1, 1]);
    const { status, json: refusal } = await infer("chain", { inputs: [x(ramp(4), [2, 2, 4])] });
    expect([status, refusal.error]).toEqual([400, expect.stringContaining("must specify batch-size 1")]);
  });

  it("fails with 504 where its timeout in microseconds passes", async () => {
    const text = { name: "text", datatype: "BYTES", shape: [1], data: ["abc"] };
    const { status, json } = await infer("writer", { inputs: [text], parameters: { timeout: 1 } });
    expect([status, json.error]).toEqual([504, expect.any(String)]);
  });

  it("whose client is gone is cancelled", async () => {
    const { failed } = runtime.stats();
    await leaveWhileRunning("chain", { inputs: [long] });
    await expect.poll(() => runtime.stats().active).toBe(0);
    expect(runtime.stats().failed).toBe(failed + 1);
  });
});

describe("the binary tensor extension", () => {
  const head = (steps: number, name = "x") => ({
    name,
    datatype: "FP32",
    shape: [steps, 4],
    parameters: { binary_data_size: steps * 16 },
  });

  it.each([0, 1, 2, 3])("takes tensors that stand %i bytes off a multiple of 4", async (off) => {
    const json = { id: "i".repeat(4), inputs: [head(2)], parameters: { binary_data_output: true } };
    const length = Buffer.byteLength(JSON.stringify(json));
    json.id = "i".repeat(4 + ((off - (length % 4) + 4) % 4));
    const [body, headers] = binary(json, floats(ramp(2)));
    expect(Number(headers["inference-header-content-length"]) % 4).toBe(off);
    const reply = await infer("chain", body, headers);
    expect(reply.headers.get("content-type")).toBe("application/octet-stream");
    expect(reply.json.outputs).toEqual([
      { name: "h", datatype: "FP32", shape: [2, 8], parameters: { binary_data_size: 64 } },
    ]);
    const tail = Uint8Array.from(reply.bytes.subarray(reply.bytes.length - 64));
    expect([...new Float32Array(tail.buffer)]).toEqual(await chain(ramp(2)));
  });

  it("lets an output decide against the request's default", async () => {
    const outputs = [{ name: "h", parameters: { binary_data: false } }];
    const json = { inputs: [head(1)], outputs, parameters: { binary_data_output: true } };
    const reply = await infer("chain", ...binary(json, floats(ramp(1))));
    expect(reply.json.outputs[0].data).toEqual(await chain(ramp(1)));
    expect(reply.headers.get("inference-header-content-length")).toBeNull();
  });

  it("counts its header in bytes, not in characters", async () => {
    const reply = await infer("chain", ...binary({ id: "größer", inputs: [head(1)] }, floats(ramp(1))));
    expect([reply.status, reply.json.id]).toEqual([200, "größer"]);
  });

  it.each([
    ["FP16", "003c00b801000040", [1, -0.5, 2 ** -24, 2]],
    ["BF16", "803f00bf40400040", [1, -0.5, 3, 2]],
    ["FP64", "000000000000f03f000000000000e0bf00000000000000000000000000000040", [1, -0.5, 0, 2]],
  ] as const)("converts %s", async (datatype, hex, values) => {
    const tail = Buffer.from(hex, "hex");
    const tensor = { name: "x", datatype, shape: [1, 4], parameters: { binary_data_size: tail.length } };
    const reply = await infer("chain", ...binary({ inputs: [tensor] }, tail));
    expect(reply.json.outputs[0].data).toEqual(await chain(values));
  });

  it("takes one tensor's bytes alone where the header is 0, and answers in bytes", async () => {
    const reply = await infer("chain", floats(ramp(2)), { "inference-header-content-length": "0" });
    expect(reply.json.outputs[0]).toMatchObject({ shape: [2, 8], parameters: { binary_data_size: 64 } });
    const short = await infer("chain", floats(ramp(2)).subarray(1), {
      "inference-header-content-length": "0",
    });
    expect([short.status, short.json.error]).toEqual([400, expect.stringContaining("multiple of 16 bytes")]);
  });

  it.each([
    ["gzip", gzipSync],
    ["deflate", deflateSync],
  ] as const)("works under %s, whose header counts the plain JSON", async (coding, code) => {
    const [body, headers] = binary(
      { inputs: [head(40)], parameters: { binary_data_output: true } },
      floats(ramp(40)),
    );
    const reply = await infer("chain", code(body), {
      ...headers,
      "content-encoding": coding,
      "accept-encoding": "identity",
    });
    expect(reply.json.outputs[0].shape).toEqual([40, 8]);
  });

  it("codes a long answer for a client that asks, with the length of its plain JSON", async () => {
    const raw = await rawPost("/v2/models/chain/infer", JSON.stringify({ inputs: [x(ramp(40))] }), {
      "Accept-Encoding": "gzip",
    });
    expect(raw.head).toMatch(/content-encoding: gzip/i);
    expect(JSON.parse(gunzipSync(raw.body).toString()).outputs[0].shape).toEqual([40, 8]);
  });
});

/** Sends headers that `fetch` does not let through. */
function rawPost(
  path: string,
  body: string,
  headers: Record<string, string>,
): Promise<{ head: string; body: Buffer }> {
  return new Promise((resolve, reject) => {
    const socket = connect(server.port, "127.0.0.1");
    const chunks: Buffer[] = [];
    socket.on("data", (chunk) => chunks.push(chunk));
    socket.on("error", reject);
    socket.on("close", () => {
      const all = Buffer.concat(chunks);
      const end = all.indexOf("\r\n\r\n");
      resolve({ head: all.toString("latin1", 0, end), body: all.subarray(end + 4) });
    });
    const lines = Object.entries({ ...headers, "Content-Length": `${Buffer.byteLength(body)}` });
    socket.write(
      `POST ${path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n${lines.map(([name, value]) => `${name}: ${value}\r\n`).join("")}\r\n${body}`,
    );
  });
}

describe("what clients of other servers send", () => {
  it("is taken: an empty Expect header, as Triton's C++ client has it", async () => {
    const { head } = await rawPost("/v2/models/chain/infer", JSON.stringify({ inputs: [x(ramp(1))] }), {
      Expect: "",
    });
    expect(head).toMatch(/^HTTP\/1.1 200/);
  });

  it("is taken: any content type", async () => {
    for (const type of ["application/json", "text/plain", "what is this"]) {
      expect((await infer("chain", { inputs: [x(ramp(1))] }, { "content-type": type })).status).toBe(200);
    }
  });
});

describe("bad input over HTTP", () => {
  const one = x(ramp(1));
  const bytes = (over: object = {}) => ({
    inputs: [{ name: "x", datatype: "FP32", shape: [1, 4], parameters: { binary_data_size: 16 }, ...over }],
  });
  const short = Buffer.alloc(15);
  const cases: [string, string, unknown, number, RegExp, Record<string, string>?][] = [
    ["an unknown model", "nope", { inputs: [one] }, 404, /'nope'.*chain, writer, listener/],
    ["no JSON", "chain", "{", 400, /failed to parse the request JSON/],
    ["an empty body", "chain", "", 400, /Unable to parse the request/],
    ["no inputs", "chain", {}, 400, /^Unable to parse 'inputs'/],
    ["a missing input", "chain", { inputs: [] }, 400, /'x'.*missing/],
    ["an unknown input", "chain", { inputs: [{ ...one, name: "y" }] }, 400, /no input 'y'/],
    ["an input twice", "chain", { inputs: [one, one] }, 400, /'x' is there twice/],
    ["a tensor without a name", "chain", { inputs: [{ ...one, name: 7 }] }, 400, /^Unable to parse 'name'/],
    ["a tensor without a datatype", "chain", { inputs: [{ ...one, datatype: 7 }] }, 400, /'datatype'/],
    ["a negative axis", "chain", { inputs: [{ ...one, shape: [-1, 4] }] }, 400, /^Unable to parse 'shape'/],
    ["an id that is a number", "chain", { id: 7, inputs: [one] }, 400, /^Unable to parse 'id'/],
    ["an unknown datatype", "chain", { inputs: [{ ...one, datatype: "FP13" }] }, 400, /'FP13'/],
    [
      "a wrong datatype",
      "chain",
      { inputs: [{ ...one, datatype: "INT8", data: [1, 2, 3, 4] }] },
      400,
      /int32/,
    ],
    [
      "text for a tensor",
      "chain",
      { inputs: [{ ...one, datatype: "BYTES", shape: [1], data: ["a"] }] },
      400,
      /text/,
    ],
    [
      "too little data",
      "chain",
      { inputs: [{ ...one, data: [1] }] },
      400,
      /^Shape does not match true shape of 'data' field/,
    ],
    [
      "too much data",
      "chain",
      { inputs: [{ ...one, data: ramp(2) }] },
      400,
      /^Shape does not match true shape of 'data' field/,
    ],
    ["data nested too deep", "chain", { inputs: [{ ...one, data: [[[1, 2, 3, 4]]] }] }, 400, /nested deeper/],
    ["data of no numbers", "chain", { inputs: [{ ...one, data: [1, 2, null, 4] }] }, 400, /null at 2/],
    ["no steps", "chain", { inputs: [x([], [0, 4])] }, 400, /0 steps/],
    [
      "NaN",
      "chain",
      '{"inputs":[{"name":"x","datatype":"FP32","shape":[1,4],"data":[1,NaN,3,4]}]}',
      400,
      /NaN at 1/,
    ],
    [
      "-Infinity",
      "chain",
      '{"inputs":[{"name":"x","datatype":"FP32","shape":[1,4],"data":[1,2,-Infinity,4]}]}',
      400,
      /-Infinity at 2/,
    ],
    ["a number float32 cannot hold", "chain", { inputs: [x([1, 1e300, 3, 4])] }, 400, /1e\+300 at 1/],
    [
      "300 as UINT8",
      "writer",
      { inputs: [{ name: "token", datatype: "UINT8", shape: [1], data: [300] }] },
      400,
      /300 at 0.*from 0 to 255/,
    ],
    [
      "2^53+1 as INT64",
      "writer",
      '{"inputs":[{"name":"token","datatype":"INT64","shape":[1],"data":[9007199254740993]}]}',
      400,
      /9007199254740993 at 0/,
    ],
    [
      "2^64 as UINT64",
      "writer",
      '{"inputs":[{"name":"token","datatype":"UINT64","shape":[1],"data":[18446744073709551616]}]}',
      400,
      /18446744073709551616.*from 0 to 18446744073709551615/,
    ],
    [
      "1.5 as INT32",
      "writer",
      { inputs: [{ name: "token", datatype: "INT32", shape: [1], data: [1.5] }] },
      400,
      /1.5 at 0.*no integer/,
    ],
    [
      "7 as BOOL",
      "writer",
      { inputs: [{ name: "token", datatype: "BOOL", shape: [1], data: [7] }] },
      400,
      /neither true nor false/,
    ],
    [
      "FP16 in JSON",
      "chain",
      { inputs: [{ ...one, datatype: "FP16" }] },
      400,
      /^receiving FP16 data via JSON is not supported\. Please use the binary data format for input x/,
    ],
    [
      "BF16 in JSON",
      "chain",
      { inputs: [{ ...one, datatype: "BF16" }] },
      400,
      /^receiving BF16 data via JSON/,
    ],
    [
      "JSON 101 deep",
      "chain",
      `{"inputs":${"[".repeat(100)}`,
      400,
      /JSON nesting depth exceeds maximum allowed limit \(100\)/,
    ],
    [
      "neither data nor bytes",
      "chain",
      { inputs: [{ name: "x", datatype: "FP32", shape: [1, 4] }] },
      400,
      /^Input must set only one of the following fields.*But no field is set/,
    ],
    [
      "both data and bytes",
      "chain",
      { inputs: [{ ...one, parameters: { binary_data_size: 16 } }] },
      400,
      /But set 'data' and 'binary_data_size'/,
    ],
    [
      "shared memory",
      "chain",
      { inputs: [{ ...one, parameters: { shared_memory_region: "r" } }] },
      501,
      /shared memory/,
    ],
    [
      "an unknown output",
      "chain",
      { inputs: [one], outputs: [{ name: "z" }] },
      400,
      /unexpected inference output 'z'/,
    ],
    [
      "classification",
      "chain",
      { inputs: [one], outputs: [{ name: "h", parameters: { classification: 3 } }] },
      501,
      /classification/,
    ],
    [
      "a symbol the model does not know",
      "writer",
      { inputs: [{ name: "text", datatype: "BYTES", shape: [1], data: ["?"] }] },
      400,
      /"\?"/,
    ],
    [
      "a reserved parameter",
      "chain",
      { inputs: [one], parameters: { triton_x: 1 } },
      400,
      /reserved for Triton usage and should not be specified/,
    ],
    [
      "a parameter that is an object",
      "chain",
      { inputs: [one], parameters: { a: {} } },
      400,
      /^Unable to parse 'a'/,
    ],
    [
      "a priority below 0",
      "chain",
      { inputs: [one], parameters: { priority: -1 } },
      400,
      /expected value >= 0/,
    ],
    [
      "a timeout that is text",
      "chain",
      { inputs: [one], parameters: { timeout: "1" } },
      400,
      /^Unable to parse 'timeout'/,
    ],
    [
      "a parameter out of bounds",
      "writer",
      { inputs: [{ name: "text", datatype: "BYTES", shape: [1], data: ["a"] }], parameters: { top_p: 2 } },
      400,
      /'topP' is 2/,
    ],
    [
      "binary_data_output of no boolean",
      "chain",
      { inputs: [one], parameters: { binary_data_output: 1 } },
      400,
      /^Unable to parse 'binary_data_output'/,
    ],
    ["bytes without a header", "chain", bytes(), 400, /^must specify valid 'Infer-Header-Content-Length'/],
    [
      "a header of no number",
      "chain",
      bytes(),
      400,
      /^Unable to parse Inference-Header-Content-Length, got: abc/,
      { "inference-header-content-length": "abc" },
    ],
    [
      "a negative header",
      "chain",
      "{}",
      400,
      /^inference header size should be in range \(0, 2\), got: -1/,
      { "inference-header-content-length": "-1" },
    ],
    [
      "a header beyond the body",
      "chain",
      "{}",
      400,
      /^inference header size should be in range \(0, 2\), got: 3/,
      { "inference-header-content-length": "3" },
    ],
    [
      "bytes one short",
      "chain",
      binary(bytes(), short)[0],
      400,
      /^unexpected size for input 'x', expecting 1 additional bytes for model 'chain'/,
      binary(bytes(), short)[1],
    ],
    [
      "bytes one long",
      "chain",
      binary(bytes(), Buffer.alloc(17))[0],
      400,
      /^unexpected additional input data for model 'chain'/,
      binary(bytes(), short)[1],
    ],
    [
      "a size that its shape does not have",
      "chain",
      binary(bytes({ shape: [2, 4] }), Buffer.alloc(16))[0],
      400,
      /expecting 16 additional bytes/,
      binary(bytes({ shape: [2, 4] }))[1],
    ],
    ["an unknown coding", "chain", "{}", 501, /'br'/, { "content-encoding": "br" }],
    ["a broken coding", "chain", "{}", 400, /no gzip/, { "content-encoding": "gzip" }],
    [
      "a coding that unfolds beyond the limit",
      "chain",
      gzipSync(Buffer.alloc(65_537)),
      413,
      /65536/,
      { "content-encoding": "gzip" },
    ],
    ["a body beyond the limit", "chain", Buffer.alloc(65_537), 413, /./],
    [
      "a sequence of a model for requests",
      "chain",
      { inputs: [one], parameters: { sequence_id: 1, sequence_start: true } },
      400,
      /'chain' takes single requests/,
    ],
  ];
  it.each(cases)("refuses %s", async (_, model, body, status, sentence, headers) => {
    const reply = await infer(model, body, headers);
    expect([reply.status, reply.json]).toEqual([status, { error: expect.stringMatching(sentence) }]);
    expect(reply.json.error).not.toMatch(/\n|\.ts|node_modules/);
  });

  it("refuses BYTES whose lengths do not add up", async () => {
    const tensor = { name: "text", datatype: "BYTES", shape: [1], parameters: { binary_data_size: 7 } };
    for (const [hex, sentence] of [
      ["04000000616263", /ends inside element 0/],
      ["02000000616263", /unexpected additional input data/],
      ["03000000ff6263", /not UTF-8/],
    ] as const) {
      const reply = await infer("writer", ...binary({ inputs: [tensor] }, Buffer.from(hex, "hex")));
      expect([reply.status, reply.json.error]).toEqual([400, expect.stringMatching(sentence)]);
    }
  });

  it("refuses unknown versions, paths and methods as the protocol's clients expect", async () => {
    expect(await post("/v2/models/chain/versions/2/infer", { inputs: [one] })).toMatchObject({
      status: 404,
      json: { error: expect.stringContaining("no version '2'") },
    });
    expect(await send("/v2/nowhere")).toMatchObject({ status: 404, json: { error: "Not Found" } });
    const wrong = await post("/v2/models/chain", "{");
    expect(wrong).toMatchObject({ status: 405, json: { error: "Method Not Allowed" } });
    expect((await send("/v2/models/chain/infer")).status).toBe(405);
    expect((await send("/v2/models/%zz")).status).toBe(400);
  });

  it("says when to try again where it is full", async () => {
    const sessions = Array.from({ length: 32 }, () => runtime.session("listener"));
    const reply = await infer("chain", { inputs: [one] });
    expect([reply.status, reply.headers.get("retry-after")]).toEqual([503, "1"]);
    for (const session of sessions) session.cancel();
    await expect.poll(() => runtime.stats().active).toBe(0);
  });
});

describe("generate", () => {
  it("answers with outputs as keys", async () => {
    const { outputs } = await runtime.run("writer", { text: "abc" }, { maxSteps: 5 });
    const about = { model_name: "writer", model_version: "1" };
    const { json } = await post("/v2/models/writer/generate", { id: "1", text: "abc", max_steps: 5 });
    expect(json).toEqual({ id: "1", ...about, text: outputs.text });
    const body = { text_input: "abc", parameters: { max_steps: 5 } };
    expect((await post("/v2/models/writer/versions/1/generate", body)).json).toEqual({
      ...about,
      text_output: outputs.text,
    });
    expect((await post("/v2/models/chain/generate", { x: [ramp(1), ramp(1, 1)] })).json.h).toEqual(
      await chain(ramp(2)),
    );
  });

  it("refuses keys that are neither input nor parameter", async () => {
    const { status, json } = await post("/v2/models/chain/generate", { y: [1] });
    expect([status, json.error]).toEqual([400, expect.stringMatching(/'y' is neither an input.*takes x/)]);
  });

  it("streams every step as an event", async () => {
    const { outputs } = await runtime.run("writer", { text: "abc" });
    const reply = await post("/v2/models/writer/generate_stream", { text: "abc" });
    expect(reply.headers.get("content-type")).toBe("text/event-stream; charset=utf-8");
    const events = reply.bytes
      .toString()
      .split("\n\n")
      .filter((event) => event !== "")
      .map((event) => JSON.parse(event.replace(/^data: /, "")) as { text: string });
    expect(events.map(({ text }) => text).join("")).toBe(outputs.text);
    expect(events.length).toBeGreaterThan(10);
  });

  it("streams a whole sequence of a model for sessions", async () => {
    const reply = await post("/v2/models/listener/generate_stream", { x: [ramp(1), ramp(1, 1), ramp(1, 2)] });
    expect(reply.bytes.toString().match(/data: /g)).toHaveLength(3);
  });

  it("answers what fails before the first event with an ordinary error", async () => {
    const reply = await post("/v2/models/writer/generate_stream", { text: "?" });
    expect([reply.status, reply.json.error]).toEqual([400, expect.stringContaining('"?"')]);
  });

  it("cancels a stream whose reader is gone", async () => {
    const reader = (
      await fetch(`http://127.0.0.1:${server.port}/v2/models/listener/generate_stream`, {
        method: "POST",
        body: JSON.stringify({ x: Array.from({ length: 3000 }, () => [0, 0, 0, 1]) }),
      })
    ).body!.getReader();
    await reader.read();
    await reader.cancel();
    await expect.poll(() => runtime.stats().active).toBe(0);
  });
});

describe("a sequence", () => {
  const step = (parameters: object | string, from = 0, steps = 1) => {
    const inputs = JSON.stringify([x(ramp(steps, from))]);
    const text = typeof parameters === "string" ? parameters : JSON.stringify(parameters);
    return infer("listener", `{"parameters":${text},"inputs":${inputs}}`);
  };
  const data = (reply: Reply) => reply.json.outputs[0].data as number[];
  const whole = async (steps: number) => data(await step({}, 0, steps));

  it("in one request without an id gives an output for every step and keeps nothing", async () => {
    const reply = await infer("listener", { inputs: [x(ramp(3))] });
    expect(reply.json.outputs[0]).toMatchObject({ name: "h", shape: [3, 8] });
    expect(data(reply)).toEqual(await chain(ramp(3)));
    await expect.poll(() => runtime.stats().active).toBe(0);
  });

  it("keeps its state between requests and starts at zero", async () => {
    for (let round = 0; round < 2; round++) {
      const parts = [
        await step({ sequence_id: 42, sequence_start: true, sequence_end: false }, 0, 2),
        await step({ sequence_id: 42, sequence_start: false, sequence_end: false }, 2),
        await step({ sequence_id: 42, sequence_end: true }, 3),
      ];
      expect(parts.map(({ json }) => json.outputs[0].shape)).toEqual([
        [2, 8],
        [1, 8],
        [1, 8],
      ]);
      expect(parts.flatMap(data)).toEqual(await whole(4));
      expect(runtime.stats().active).toBe(0);
    }
  });

  it("may start and end in one request", async () => {
    expect(data(await step({ sequence_id: 1, sequence_start: true, sequence_end: true }))).toEqual(
      await whole(1),
    );
    expect(runtime.stats().active).toBe(0);
  });

  it("takes a step as [4], and a batch axis of 1", async () => {
    const first = await infer("listener", {
      parameters: { sequence_id: 1, sequence_start: true },
      inputs: [x(ramp(1), [4])],
    });
    const second = await infer("listener", {
      parameters: { sequence_id: 1, sequence_end: true },
      inputs: [x(ramp(1, 1), [1, 1, 4])],
    });
    expect(second.json.outputs[0].shape).toEqual([1, 1, 8]);
    expect([...data(first), ...data(second)]).toEqual(await whole(2));
  });

  it.each([
    ["9007199254740993", "9007199254740992"],
    ["18446744073709551615", "18446744073709551614"],
    ["9223372036854775808", "9223372036854775807"],
    ["42", '"42"'],
    ['"größer"', '"groesser"'],
    [JSON.stringify("i".repeat(1024)), JSON.stringify("i".repeat(1023))],
  ])("with id %s is another than with id %s", async (one, other) => {
    const of = (id: string, rest: string) => `{"sequence_id":${id},${rest}}`;
    await step(of(one, '"sequence_start":true'));
    expect((await step(of(other, '"sequence_end":true'))).status).toBe(400);
    await step(of(other, '"sequence_start":true'), 5);
    expect(data(await step(of(one, '"sequence_end":true'), 1))).toEqual((await whole(2)).slice(8));
    await step(of(other, '"sequence_end":true'));
    expect(runtime.stats().active).toBe(0);
  });

  it.each(["18446744073709551616", "-1", "1.5", "true", JSON.stringify("i".repeat(1025))])(
    "with id %s is refused",
    async (id) => {
      const { status, json } = await step(`{"sequence_id":${id},"sequence_start":true}`);
      expect([status, json.error]).toEqual([400, expect.stringMatching(/^Unable to parse 'sequence_id'/)]);
    },
  );

  it("that nobody started is refused with Triton's words", async () => {
    const { status, json } = await step({ sequence_id: 7 });
    expect([status, json.error]).toEqual([
      400,
      "inference request for sequence 7 to model 'listener' must specify the START flag on the first request of the sequence",
    ]);
    for (const id of [0, ""]) {
      expect((await step({ sequence_id: id, sequence_end: true })).json.error).toBe(
        "inference request to model 'listener' must specify a non-zero or non-empty correlation ID",
      );
    }
  });

  it("without an id gets one from the server", async () => {
    const first = await step({ sequence_start: true });
    const { sequence_id } = first.json.parameters;
    const second = await step({ sequence_id, sequence_end: true }, 1);
    expect([...data(first), ...data(second)]).toEqual(await whole(2));
  });

  it("that is started again begins anew, and is counted as replaced", async () => {
    await step({ sequence_id: 5, sequence_start: true }, 3);
    const first = await step({ sequence_id: 5, sequence_start: true });
    const second = await step({ sequence_id: 5, sequence_end: true }, 1);
    expect([...data(first), ...data(second)]).toEqual(await whole(2));
    expect((await send("/metrics")).json).toMatch(/cellbatch_sequences_ended_total\{reason="replaced"\} 1/);
  });

  it("processes requests that come while one runs in their order", async () => {
    const body = (from: number, parameters: object) =>
      JSON.stringify({ parameters: { sequence_id: 6, ...parameters }, inputs: [x(ramp(500, from))] });
    // One socket keeps the order in which they are sent; a chunk of 500 steps is still running when the next comes.
    await step({ sequence_id: 6, sequence_start: true }, 0);
    const path = "/v2/models/listener/infer";
    const two = [rawPost(path, body(1, {}), {}), rawPost(path, body(501, {}), {})];
    const heads = (await Promise.all(two)).map(({ head }) => head.split("\r\n")[0]);
    expect(heads).toEqual(["HTTP/1.1 200 OK", "HTTP/1.1 200 OK"]);
    await step({ sequence_id: 6, sequence_end: true });
  });

  it("survives a refused request, but not one whose time passes", async () => {
    await step({ sequence_id: 8, sequence_start: true });
    const bad = { parameters: { sequence_id: 8 }, inputs: [{ ...x(ramp(1)), data: [1] }] };
    expect((await infer("listener", bad)).status).toBe(400);
    expect(data(await step({ sequence_id: 8 }, 1))).toEqual((await whole(2)).slice(8));
    expect((await step({ sequence_id: 8, timeout: 1000 }, 0, 1000)).status).toBe(504);
    expect((await step({ sequence_id: 8 })).json.error).toMatch(/START flag/);
    await expect.poll(() => runtime.stats().active).toBe(0);
  });

  it("beyond the most that may be open is refused, and an ended one makes room", async () => {
    for (let id = 1; id <= 8; id++) await step({ sequence_id: id, sequence_start: true });
    const full = await step({ sequence_id: 9, sequence_start: true });
    expect([full.status, full.json.error]).toEqual([503, "8 sequences are open, which is the most"]);
    await step({ sequence_id: 1, sequence_end: true });
    expect((await step({ sequence_id: 9, sequence_start: true })).status).toBe(200);
    for (let id = 2; id <= 9; id++) await step({ sequence_id: id, sequence_end: true });
    expect(runtime.stats().active).toBe(0);
  });

  it("ends when its client goes away while a request is being processed", async () => {
    await step({ sequence_id: 3, sequence_start: true });
    await leaveWhileRunning("listener", { parameters: { sequence_id: 3 }, inputs: [long] });
    await expect.poll(async () => (await step({ sequence_id: 3 })).status).toBe(400);
    await expect.poll(() => runtime.stats().active).toBe(0);
  });
});
