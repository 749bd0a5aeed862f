import { deflateSync, gunzipSync, gzipSync } from "node:zlib";
import { describe, expect, it } from "vitest";
import { binary, long, openHttpDoor, x } from "./http-door.ts";
import { floats, ramp } from "./served.ts";

const { chain, infer, leaveWhileRunning, rawPost, served } = openHttpDoor();

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
    const { outputs } = await served.runtime.run("writer", { text: "abc" });
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
    const { outputs } = await served.runtime.run(
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
    const { failed } = served.runtime.stats();
    await leaveWhileRunning("chain", { inputs: [long] });
    await expect.poll(() => served.runtime.stats().active).toBe(0);
    expect(served.runtime.stats().failed).toBe(failed + 1);
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
