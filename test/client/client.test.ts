import { createServer } from "node:net";
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from "vitest";
import { WebSocket, WebSocketServer } from "ws";
import type { Client, ConnectOptions } from "../../src/client/client.ts";
import { connect as connectGlobal } from "../../src/client/index.ts";
import { connect } from "../../src/client/node.ts";
import type { TensorData } from "../../src/client/values.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import { createRuntime } from "../../src/runtime/create.ts";
import type { Runtime } from "../../src/runtime/types.ts";
import { type Server, startServer } from "../../src/server/server.ts";
import { chainModel, listenerModel, writerModel } from "../fixtures/models.ts";
import { Wire } from "./wire.ts";

let runtime: Runtime;
let server: Server;

beforeAll(async () => {
  const models = [chainModel("all"), writerModel(200_000), listenerModel()];
  runtime = await createRuntime({ models, inline: true, maxActive: 4 });
  server = await startServer({ runtime, port: 0, limits: { inputs: 8 } });
});

afterAll(async () => {
  await server.close(0);
  await runtime.close(0);
});

async function open(url = `ws://127.0.0.1:${server.port}`, options: ConnectOptions = {}): Promise<Client> {
  const client = await connect(url, options);
  onTestFinished(async () => {
    client.close();
    await expect.poll(() => runtime.stats().active).toBe(0);
  });
  return client;
}

async function openThroughWire(options: ConnectOptions = {}) {
  const wire = await Wire.open(server.port);
  onTestFinished(() => wire.close());
  return { wire, client: await open(wire.url, options) };
}

describe("a request of the client", () => {
  it("gives what the library gives, for text and for tensors", async () => {
    const client = await open();
    const text = await client.run("writer", { text: "abc" }, { maxSteps: 20, temperature: 0.9, seed: 7 });
    const same = await runtime.run("writer", { text: "abc" }, { maxSteps: 20, temperature: 0.9, seed: 7 });
    expect(text.outputs).toEqual(same.outputs);
    expect(text.usage).toMatchObject({ cells: same.usage.cells, queueMs: expect.any(Number) });
    const data = Float32Array.from({ length: 12 }, (_, i) => i / 12);
    const { outputs } = await client.run("chain", { x: { shape: [3, 4], data } });
    const { outputs: expected } = await runtime.run("chain", {
      x: { dtype: "float32", shape: [3, 4], data },
    });
    const { shape, data: h } = expected.h as Tensor;
    expect(outputs.h).toEqual({ shape, data: h });
  });

  it("is streamed step by step, and cancelled when its reader leaves", async () => {
    const client = await open();
    const texts: string[] = [];
    for await (const { step, outputs } of client.stream("writer", { text: "a" })) {
      expect(step).toBe(texts.length);
      texts.push(outputs.text as string);
      if (step === 9) break;
    }
    const { outputs } = await runtime.run("writer", { text: "a" }, { maxSteps: 10 });
    expect(texts.join("")).toBe(outputs.text);
    await expect.poll(() => runtime.stats().active).toBe(0);
  });

  it("fails with the code of the protocol and says whether to try again", async () => {
    const client = await open();
    await expect(client.run("nope", {})).rejects.toMatchObject({
      name: "ClientError",
      code: "MODEL_NOT_FOUND",
      isRetryable: false,
      message: expect.stringContaining("'nope'"),
    });
    const stop = new AbortController();
    const busy = Array.from({ length: 4 }, () =>
      client.run("writer", { text: "a" }, { signal: stop.signal }),
    );
    await expect(client.run("writer", { text: "a" })).rejects.toMatchObject({
      code: "OVERLOADED",
      isRetryable: true,
      retryAfterMs: expect.any(Number),
    });
    stop.abort(new Error("enough"));
    for (const one of busy) {
      await expect(one).rejects.toMatchObject({ code: "CANCELLED", cause: { message: "enough" } });
    }
  });

  it("that is no tensor or of a wrong size fails before it is sent", async () => {
    const client = await open();
    const run = (shape: number[], data: unknown) =>
      client.run("chain", { x: { shape, data: data as TensorData } });
    await expect(run([1, 4], new Float32Array(3))).rejects.toThrow(
      /'x' has 3 values, its shape \[1, 4\] needs 4/,
    );
    await expect(run([1], [1])).rejects.toMatchObject({ code: "INVALID_INPUT" });
  });

  it("ends when its time is up, at a server that has gone silent too, and the next one finds a new connection", async () => {
    const { client, wire } = await openThroughWire();
    await expect(client.run("writer", { text: "a" }, { timeoutMs: 50 })).rejects.toMatchObject({
      code: "DEADLINE_EXCEEDED",
      isRetryable: false,
    });
    wire.hush();
    await expect(client.run("writer", { text: "a" }, { timeoutMs: 50 })).rejects.toMatchObject({
      code: "DEADLINE_EXCEEDED",
    });
    wire.cut();
    expect((await client.run("writer", { text: "a" }, { maxSteps: 3 })).outputs.text).toHaveLength(3);
  });

  it("does not begin where its signal is aborted already", async () => {
    const client = await open();
    const { accepted } = runtime.stats();
    await expect(client.run("writer", { text: "a" }, { signal: AbortSignal.abort() })).rejects.toMatchObject({
      code: "CANCELLED",
    });
    expect(runtime.stats().accepted).toBe(accepted);
  });
});

describe("a connection that breaks", () => {
  it("is restored, and its requests are answered as if nothing had been", async () => {
    const states: string[] = [];
    const { client, wire } = await openThroughWire({ onState: (state) => states.push(state) });
    const run = client.run("writer", { text: "ab" }, { maxSteps: 400 });
    const texts: string[] = [];
    for await (const { step, outputs } of client.stream("writer", { text: "abc" }, { maxSteps: 400 })) {
      expect(step).toBe(texts.length);
      texts.push(outputs.text as string);
      if (step === 5) wire.cut();
    }
    const expected = async (text: string) =>
      (await runtime.run("writer", { text }, { maxSteps: 400 })).outputs.text;
    expect((await run).outputs.text).toBe(await expected("ab"));
    expect(texts.join("")).toBe(await expected("abc"));
    expect(wire.made).toBe(2);
    expect(states).toEqual(["connecting", "open", "connecting", "open"]);
  });

  it("fails what waits for it once that has taken too long, and is tried again for the next request", async () => {
    const { client, wire } = await openThroughWire({ reconnectMs: 300 });
    const { target } = wire;
    wire.target = undefined;
    wire.cut();
    await expect(client.run("writer", { text: "a" })).rejects.toMatchObject({
      code: "CONNECTION_LOST",
      isRetryable: true,
    });
    expect(client.state).toBe("lost");
    wire.target = target;
    expect((await client.run("writer", { text: "a" }, { maxSteps: 3 })).outputs.text).toHaveLength(3);
  });

  it("is not restored after close, which cancels what is under way", async () => {
    const client = await open();
    const run = client.run("writer", { text: "a" });
    const session = client.session("listener");
    client.close();
    await expect(run).rejects.toMatchObject({ code: "CANCELLED", message: "the client was closed" });
    await expect(session.flush()).rejects.toMatchObject({ code: "CANCELLED" });
    await expect(client.run("writer", { text: "a" })).rejects.toMatchObject({ code: "CANCELLED" });
    expect(client.state).toBe("closed");
  });
});

describe("connect", () => {
  it("says at once that nobody listens, or that the address is none", async () => {
    const wire = await Wire.open(1);
    await wire.close();
    await expect(connect("ws://127.0.0.1:1")).rejects.toMatchObject({
      code: "CONNECTION_LOST",
      message: expect.stringContaining("ECONNREFUSED"),
    });
    await expect(connect("nonsense")).rejects.toThrow(/'nonsense' is no URL/);
    await expect(connect("ftp://host")).rejects.toMatchObject({ code: "INVALID_REQUEST" });
  });

  it("gives up when its signal is aborted, and when a server does not answer", async () => {
    const stop = new AbortController();
    const mute = createServer(() => {}).listen(0, "127.0.0.1");
    onTestFinished(() => void mute.close());
    await new Promise((resolve) => mute.once("listening", resolve));
    const url = `ws://127.0.0.1:${(mute.address() as { port: number }).port}`;
    const connecting = connect(url, { signal: stop.signal });
    stop.abort();
    await expect(connecting).rejects.toMatchObject({ code: "CANCELLED" });
    await expect(connect(url, { connectTimeoutMs: 50 })).rejects.toMatchObject({
      code: "CONNECTION_LOST",
      message: expect.stringContaining("50 ms"),
    });
  });

  it("shows the key in a header from Node and as a subprotocol from elsewhere", async () => {
    const { door, url } = await bareServer();
    const seen: unknown[] = [];
    door.on("connection", (_, { headers }) =>
      seen.push([headers.authorization, headers["sec-websocket-protocol"]]),
    );
    (await connect(url, { key: "k1" })).close();
    Object.assign(globalThis, { WebSocket });
    onTestFinished(() => {
      delete (globalThis as { WebSocket?: unknown }).WebSocket;
    });
    (await connectGlobal(url, { key: "k2" })).close();
    (await connectGlobal(url)).close();
    expect(seen).toEqual([
      ["Bearer k1", "cellbatch.v1"],
      [undefined, "cellbatch.v1,cellbatch.key.k2"],
      [undefined, "cellbatch.v1"],
    ]);
    await expect(connectGlobal(url, { key: "not a token" })).rejects.toMatchObject({
      code: "INVALID_REQUEST",
    });
  });

  it("tells a key that is refused from a server that is away", async () => {
    const { door, url } = await bareServer((done) => done(false, 401, "Unauthorized"));
    await expect(connect(url, { key: "wrong" })).rejects.toMatchObject({
      code: "UNAUTHORIZED",
      isRetryable: false,
    });
    door.close();
  });
});

describe("a server of a later version", () => {
  it("may send types, fields, codes and datatypes that the client does not know", async () => {
    const { door, url } = await bareServer();
    door.on("connection", (ws) =>
      ws.on("message", (data) => {
        const { id, model } = JSON.parse(data.toString()) as { id: string; model: string };
        const say = (message: object) => ws.send(JSON.stringify(message));
        say({ type: "news", about: "everything" });
        say({ type: "hint", id, better: true });
        if (model === "odd") {
          say({
            type: "error",
            id,
            code: "TIRED",
            message: "the server is tired",
            retry_after_ms: 5,
            mood: "bad",
          });
          return;
        }
        const value = { datatype: "INT64", shape: [2], data: [1, 2], unit: "s" };
        say({ type: "output", id, step: 0, outputs: { value }, extra: 1 });
        say({
          type: "done",
          id,
          outputs: { value },
          usage: { cells: 1, queue_ms: 2, compute_ms: 3, joules: 4 },
        });
      }),
    );
    const client = await connect(url);
    onTestFinished(() => client.close());
    const { outputs, usage } = await client.run("even", { text: "a" });
    expect(outputs.value).toEqual({ shape: [2], data: BigInt64Array.of(1n, 2n) });
    expect(usage).toEqual({ cells: 1, queueMs: 2, computeMs: 3 });
    await expect(client.run("odd", { text: "a" })).rejects.toMatchObject({
      code: "TIRED",
      isRetryable: true,
      retryAfterMs: 5,
    });
  });
});

/** A WebSocket server that says nothing by itself. */
async function bareServer(
  decide: (done: (ok: boolean, code?: number, message?: string) => void) => void = (done) => done(true),
) {
  const door = new WebSocketServer({
    port: 0,
    host: "127.0.0.1",
    verifyClient: (_info, done) => decide(done),
    handleProtocols: () => "cellbatch.v1",
  });
  await new Promise((resolve) => door.once("listening", resolve));
  onTestFinished(() => door.close());
  return { door, url: `ws://127.0.0.1:${(door.address() as { port: number }).port}` };
}
