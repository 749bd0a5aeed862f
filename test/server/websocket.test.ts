import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { WebSocket } from "ws";
import { createRuntime } from "../../src/runtime/create.ts";
import type { Runtime } from "../../src/runtime/types.ts";
import { type Server, startServer } from "../../src/server/server.ts";
import { chainModel, listenerModel, writerModel } from "../fixtures/models.ts";
import { TestClient } from "./client.ts";

let runtime: Runtime;
let server: Server;

beforeAll(async () => {
  runtime = await createRuntime({
    models: [chainModel(), writerModel(), listenerModel()],
    inline: true,
    maxActive: 8,
  });
  server = await startServer({ runtime, port: 0, limits: { inputs: 8, openIds: 16, frameBytes: 65_536 } });
});

afterAll(async () => {
  await server.close(0);
  await runtime.close(0);
});

const x = (steps: number) => ({ datatype: "FP32", shape: [steps, 4], data: new Array(steps * 4).fill(0.5) });

async function with1<T>(act: (client: TestClient) => Promise<T>): Promise<T> {
  const client = await TestClient.open(server.port);
  try {
    return await act(client);
  } finally {
    client.close();
    await expect.poll(() => runtime.stats().active).toBe(0);
  }
}

describe("a request over WebSocket", () => {
  it("answers every step and then the result, which the library gives too", () =>
    with1(async (client) => {
      client.send({ type: "infer", id: "a", model: "writer", inputs: { text: "abc" } });
      const done = await client.next({ type: "done", id: "a" });
      const { outputs } = await runtime.run("writer", { text: "abc" });
      expect(done.outputs).toEqual(outputs);
      const steps = client.messages.filter(({ type }) => type === "output");
      expect(steps.map(({ step }) => step)).toEqual([...steps.keys()]);
      expect(steps.map((one) => (one.outputs as { text: string }).text).join("")).toBe(outputs.text);
    }));

  it("gives only the result where stream is false", () =>
    with1(async (client) => {
      client.send({
        type: "infer",
        id: "a",
        model: "writer",
        inputs: { text: "a" },
        parameters: { stream: false },
      });
      await client.next({ type: "done", id: "a" });
      expect(client.messages.map(({ type }) => type)).toEqual(["done"]);
    }));

  it("takes and gives tensors in binary frames", () =>
    with1(async (client) => {
      const values = Float32Array.from({ length: 8 }, (_, i) => i / 8);
      const tensor = { datatype: "FP32", shape: [2, 4], parameters: { binary_data_size: 32 } };
      const json = Buffer.from(
        JSON.stringify({
          type: "infer",
          id: "b",
          model: "chain",
          inputs: { x: tensor },
          parameters: { stream: false },
        }),
      );
      const length = Buffer.alloc(4);
      length.writeUInt32LE(json.length);
      const answer = new Promise<Buffer>((resolve) =>
        client.ws.once("message", (data: Buffer) => resolve(data)),
      );
      client.ws.send(Buffer.concat([length, json, Buffer.from(values.buffer)]));
      const frame = await answer;
      const h = new Float32Array(
        frame
          .subarray(frame.length - 32)
          .buffer.slice(frame.byteOffset + frame.length - 32, frame.byteOffset + frame.length),
      );
      const { outputs } = await runtime.run("chain", {
        x: { dtype: "float32", shape: [2, 4], data: values },
      });
      expect([...h]).toEqual([...(outputs.h as { data: Float32Array }).data]);
    }));
});

describe("bad input over WebSocket", () => {
  const cases: [string, object | string, string, RegExp][] = [
    [
      "an unknown model",
      { type: "infer", id: "1", model: "nope", inputs: {} },
      "MODEL_NOT_FOUND",
      /'nope'.*chain, writer, listener/,
    ],
    [
      "a wrong shape",
      {
        type: "infer",
        id: "1",
        model: "chain",
        inputs: { x: { datatype: "FP32", shape: [1, 3], data: [1, 2, 3] } },
      },
      "INVALID_INPUT",
      /'x' has shape \[1, 3\]/,
    ],
    [
      "a shape that its data does not fill",
      {
        type: "infer",
        id: "1",
        model: "chain",
        inputs: { x: { datatype: "FP32", shape: [1, 4], data: [1] } },
      },
      "INVALID_INPUT",
      /1 values.*needs 4/,
    ],
    [
      "a wrong type",
      {
        type: "infer",
        id: "1",
        model: "chain",
        inputs: { x: { datatype: "INT32", shape: [1, 4], data: [1, 2, 3, 4] } },
      },
      "INVALID_INPUT",
      /'x' is int32, expected float32/,
    ],
    [
      "an unknown datatype",
      {
        type: "infer",
        id: "1",
        model: "chain",
        inputs: { x: { datatype: "FP13", shape: [1, 4], data: [1, 2, 3, 4] } },
      },
      "INVALID_INPUT",
      /'FP13'/,
    ],
    [
      "a number that float32 cannot hold",
      {
        type: "infer",
        id: "1",
        model: "chain",
        inputs: { x: { datatype: "FP32", shape: [1, 4], data: [1, 1e300, 3, 4] } },
      },
      "INVALID_INPUT",
      /1e\+300 at 1/,
    ],
    [
      "a missing input",
      { type: "infer", id: "1", model: "chain", inputs: {} },
      "INVALID_INPUT",
      /'x'.*missing/,
    ],
    [
      "an unknown input",
      { type: "infer", id: "1", model: "chain", inputs: { y: x(1) } },
      "INVALID_INPUT",
      /no input 'y'/,
    ],
    [
      "an input of no steps",
      { type: "infer", id: "1", model: "chain", inputs: { x: x(0) } },
      "INVALID_INPUT",
      /0 steps/,
    ],
    [
      "a symbol that the model does not know",
      { type: "infer", id: "1", model: "writer", inputs: { text: "a?" } },
      "INVALID_INPUT",
      /"\?"/,
    ],
    [
      "a parameter out of bounds",
      { type: "infer", id: "1", model: "writer", inputs: { text: "a" }, parameters: { top_p: 2 } },
      "INVALID_REQUEST",
      /'topP' is 2/,
    ],
    [
      "an unknown parameter",
      { type: "infer", id: "1", model: "writer", inputs: { text: "a" }, parameters: { top: 2 } },
      "INVALID_REQUEST",
      /parameters.*top/,
    ],
    [
      "a session asked of a model for requests",
      { type: "open", id: "1", model: "chain" },
      "INVALID_REQUEST",
      /'chain' takes single requests/,
    ],
    [
      "a request asked of a model for sessions",
      { type: "infer", id: "1", model: "listener", inputs: { x: x(1) } },
      "INVALID_REQUEST",
      /'listener' takes sessions/,
    ],
    ["an unknown id", { type: "push", id: "ghost", inputs: { x: x(1) } }, "SESSION_NOT_FOUND", /'ghost'/],
    ["an unknown type", { type: "dance", id: "1" }, "INVALID_REQUEST", /type/],
    ["a frame that is no JSON", "{", "INVALID_REQUEST", /no JSON/],
    [
      "a damaged state",
      { type: "open", id: "1", model: "listener", state: "AAAA" },
      "INVALID_REQUEST",
      /state/,
    ],
    [
      "a time limit that cannot be met",
      { type: "infer", id: "1", model: "writer", inputs: { text: "a" }, parameters: { timeout_ms: 1e-9 } },
      "DEADLINE_EXCEEDED",
      /1e-9|took longer/,
    ],
  ];
  it.each(cases)("refuses %s and serves on", (_, message, code, sentence) =>
    with1(async (client) => {
      client.send(message);
      const error = await client.next({ type: "error" });
      expect(error.code).toBe(code);
      expect(error.message).toMatch(sentence);
      client.send({ type: "infer", id: "1", model: "chain", inputs: { x: x(2) } });
      await client.next({ type: "done", id: "1" });
    }),
  );

  it("refuses an input that is too long", () =>
    with1(async (client) => {
      client.send({ type: "infer", id: "1", model: "writer", inputs: { text: "a".repeat(10_001) } });
      expect(await client.next({ type: "error", id: "1" })).toMatchObject({
        code: "TOO_LARGE",
        message: expect.stringContaining("10001"),
      });
    }));

  it("refuses an id that is in use and leaves its first owner alone", () =>
    with1(async (client) => {
      client.send({ type: "open", id: "s", model: "listener" });
      client.send({ type: "open", id: "s", model: "listener" });
      const error = await client.next({ type: "error", id: "s" });
      expect(error.message).toMatch(/'s' is in use/);
      client.send({ type: "push", id: "s", inputs: { x: x(1) } });
      await client.next({ type: "output", id: "s" });
    }));

  it("refuses more than its runtime may have active, and says when to try again", () =>
    with1(async (client) => {
      for (let i = 0; i < 9; i++) client.send({ type: "open", id: `s${i}`, model: "listener" });
      const error = await client.next({ type: "error" });
      expect(error).toMatchObject({ id: "s8", code: "OVERLOADED", retry_after_ms: expect.any(Number) });
    }));

  it("ends a session that ignores its credit, and only that", () =>
    with1(async (client) => {
      client.send({ type: "open", id: "greedy", model: "listener" });
      client.send({ type: "open", id: "modest", model: "listener" });
      client.send({ type: "push", id: "greedy", inputs: { x: x(9) } });
      expect(await client.next({ type: "error" })).toMatchObject({ id: "greedy", code: "OVERLOADED" });
      client.send({ type: "push", id: "modest", inputs: { x: x(8) } });
      client.send({ type: "end", id: "modest" });
      await client.next({ type: "done", id: "modest" });
    }));

  it("closes a socket whose frame is over the limit", async () => {
    const client = await TestClient.open(server.port);
    const closed = client.closed();
    client.send("x".repeat(65_537));
    expect(await closed).toBe(1009);
  });

  it("refuses a client that does not speak the subprotocol", async () => {
    const ws = new WebSocket(`ws://127.0.0.1:${server.port}/v1/stream`);
    const error = await new Promise<Error>((resolve) => ws.once("error", resolve));
    expect(error.message).toContain("400");
  });
});

describe("a session over WebSocket", () => {
  it("gives an output for every input, credit, markers in order, and ends with done", () =>
    with1(async (client) => {
      client.send({ type: "open", id: "s", model: "listener" });
      expect(await client.next({ type: "opened" })).toMatchObject({ limits: { inputs: 8 } });
      client.send({ type: "push", id: "s", inputs: { x: x(3) } });
      client.send({ type: "marker", id: "s", marker: 7 });
      client.send({
        type: "push",
        id: "s",
        inputs: { x: { datatype: "FP32", shape: [4], data: [1, 2, 3, 4] } },
      });
      client.send({ type: "keepalive", id: "s" });
      client.send({ type: "end", id: "s" });
      const done = await client.next({ type: "done" });
      expect(done.usage).toMatchObject({ cells: 4 });
      const order = client.messages.map(({ type, step }) => (type === "output" ? step : type));
      expect(order.filter((one) => typeof one === "number")).toEqual([0, 1, 2, 3]);
      expect(order.indexOf("marker")).toBeGreaterThan(order.indexOf(2));
      expect(order.at(-1)).toBe("done");
      expect(client.messages).toContainEqual({ type: "credit", id: "s", inputs: 4 });
    }));

  it("goes on from a suspended state and from a fork as if it had never stopped", () =>
    with1(async (client) => {
      const push = (id: string, value: number) =>
        client.send({
          type: "push",
          id,
          inputs: { x: { datatype: "FP32", shape: [4], data: new Array(4).fill(value) } },
        });
      client.send({ type: "open", id: "whole", model: "listener" });
      client.send({ type: "open", id: "cut", model: "listener" });
      for (const id of ["whole", "cut"]) push(id, 0.3);
      client.send({ type: "fork", id: "whole", as: "fork" });
      client.send({ type: "suspend", id: "cut" });
      const { state } = await client.next({ type: "state", id: "cut" });
      client.send({ type: "open", id: "resumed", model: "listener", state });
      for (const id of ["whole", "fork", "resumed"]) push(id, -0.2);
      const second = await client.next({ type: "output", id: "whole", step: 1 });
      expect((await client.next({ type: "output", id: "fork", step: 0 })).outputs).toEqual(second.outputs);
      expect((await client.next({ type: "output", id: "resumed", step: 0 })).outputs).toEqual(second.outputs);
    }));

  it("ends with CANCELLED when it is cancelled, and its id is free again", () =>
    with1(async (client) => {
      client.send({ type: "open", id: "s", model: "listener" });
      client.send({ type: "cancel", id: "s" });
      expect(await client.next({ type: "error", id: "s" })).toMatchObject({ code: "CANCELLED" });
      client.send({ type: "infer", id: "s", model: "chain", inputs: { x: x(1) } });
      await client.next({ type: "done", id: "s" });
    }));

  it("is over when its client is gone, and frees its place", async () => {
    const before = runtime.stats().active;
    const client = await TestClient.open(server.port);
    client.send({ type: "open", id: "s", model: "listener" });
    await client.next({ type: "opened" });
    expect(runtime.stats().active).toBe(before + 1);
    client.ws.terminate();
    await expect.poll(() => runtime.stats().active).toBe(before);
  });
});

describe("the HTTP side", () => {
  it("answers health and metrics", async () => {
    const get = (path: string) => fetch(`http://127.0.0.1:${server.port}${path}`);
    expect((await get("/v2/health/ready")).status).toBe(200);
    expect((await get("/nowhere")).status).toBe(404);
    const text = await (await get("/metrics")).text();
    expect(text).toMatch(/cellbatch_accepted_total [1-9]/);
  });
});
