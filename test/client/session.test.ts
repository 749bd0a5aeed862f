import { afterAll, beforeAll, describe, expect, it, onTestFinished } from "vitest";
import { WebSocketServer } from "ws";
import type { Client, ConnectOptions } from "../../src/client/client.ts";
import { connect } from "../../src/client/node.ts";
import type { Session, SessionOptions } from "../../src/client/session.ts";
import type { StepOutput } from "../../src/client/steps.ts";
import { createRuntime } from "../../src/runtime/create.ts";
import type { Runtime } from "../../src/runtime/types.ts";
import { type Server, startServer } from "../../src/server/server.ts";
import { listenerModel } from "../fixtures/models.ts";
import { Wire } from "./wire.ts";

const STEPS = 60;
const LIMITS = { inputs: 8 };

let runtime: Runtime;
let server: Server;
/** What a session that nothing disturbs answers to inputs 0 to STEPS. */
let expected: number[][];

beforeAll(async () => {
  runtime = await createRuntime({ models: [listenerModel()], inline: true });
  server = await startServer({ runtime, port: 0, limits: LIMITS });
  const session = runtime.session("listener");
  for (let i = 0; i < STEPS; i++) session.push({ x: { dtype: "float32", shape: [4], data: input(i) } });
  const ended = session.end();
  expected = [];
  for await (const { outputs } of session) expected.push([...(outputs.h as { data: Float32Array }).data]);
  await ended;
});

afterAll(async () => {
  await server.close(0);
  await runtime.close(0);
});

const input = (i: number) => Float32Array.from({ length: 4 }, (_, j) => Math.sin(i * 4 + j));
const x = (i: number) => ({ x: { shape: [4], data: input(i) } });
const h = ({ outputs }: StepOutput) => [...(outputs.h as { data: Float32Array }).data];

async function open(url = `ws://127.0.0.1:${server.port}`, options: ConnectOptions = {}): Promise<Client> {
  const client = await connect(url, options);
  onTestFinished(() => client.close());
  return client;
}

/** Reads a session to its end, in the background; steps must come in order, each once. */
function read(session: Session, first = 0): { readonly steps: number[][]; readonly ended: Promise<void> } {
  const steps: number[][] = [];
  const ended = (async () => {
    for await (const step of session) {
      expect(step.step).toBe(steps.length);
      steps.push(h(step));
      expect(steps.at(-1)).toEqual(expected[first + steps.length - 1]);
    }
  })();
  return { steps, ended };
}

/** Pushes inputs `from` to `to`, and does something once an input was pushed. */
async function push(session: Session, from: number, to: number, act: (pushed: number) => unknown = () => {}) {
  for (let i = from; i < to; i++) {
    await session.push(x(i));
    await act(i);
  }
}

describe("a session of the client", () => {
  it("gives the library's outputs, within the credit, however many steps a push holds", async () => {
    const client = await open();
    const session = client.session("listener");
    const { steps, ended } = read(session);
    const data = Float32Array.from({ length: 40 * 4 }, (_, i) => Math.sin(i));
    await session.push({ x: { shape: [40, 4], data } }, { steps: 40 });
    data.fill(0);
    await push(session, 40, STEPS);
    await session.flush();
    await expect.poll(() => steps.length).toBe(STEPS);
    expect((await session.end()).usage.cells).toBe(STEPS);
    await ended;
  });

  it("flushes what was pushed before, awaited or not", async () => {
    const client = await open();
    const session = client.session("listener");
    const { steps, ended } = read(session);
    const pushes = [0, 1, 2].map((i) => session.push(x(i)));
    await session.flush();
    // All were given; the reader may be about to take the last.
    await new Promise((resolve) => setImmediate(resolve));
    expect(steps).toHaveLength(3);
    await Promise.all(pushes);
    await session.end();
    await ended;
  });

  it("goes on from a suspended state on another server, and from a fork", async () => {
    const client = await open();
    const first = client.session("listener");
    await push(first, 0, 10);
    const fork = first.fork();
    const forked = read(fork, 10);
    const state = await first.suspend();
    const other = await createRuntime({ models: [listenerModel()], inline: true });
    const elsewhere = await startServer({ runtime: other, port: 0 });
    onTestFinished(async () => {
      await elsewhere.close(0);
      await other.close(0);
    });
    const second = (await open(`ws://127.0.0.1:${elsewhere.port}`)).session("listener", { state });
    const resumed = read(second, 10);
    for (const session of [second, fork]) {
      await push(session, 10, 20);
      await session.end();
    }
    await Promise.all([resumed.ended, forked.ended]);
    expect(resumed.steps).toHaveLength(10);
    expect(forked.steps).toHaveLength(10);
  });

  it("says what is wrong with a push, and goes on", async () => {
    const client = await open();
    const session = client.session("listener");
    await expect(session.push(x(0), { steps: 3 })).rejects.toThrow(
      /'x' of shape \[4\] has no leading axis of 3/,
    );
    await expect(session.push(x(0), { steps: 0 })).rejects.toThrow(/'steps' is 0/);
    await expect(session.push({ x: { shape: [5], data: input(0) } })).rejects.toThrow(/4 values/);
    await session.push(x(0));
    expect((await session.end()).usage.cells).toBe(1);
  });

  it("ends with the server's error, which reader, pushes and waits all meet", async () => {
    const client = await open();
    const session = client.session("nope");
    await expect(session.push(x(0))).rejects.toMatchObject({ code: "MODEL_NOT_FOUND" });
    await expect(session.flush()).rejects.toMatchObject({ code: "MODEL_NOT_FOUND" });
    await expect(session.end()).rejects.toMatchObject({ code: "MODEL_NOT_FOUND" });
    await expect(read(session).ended).rejects.toMatchObject({ code: "MODEL_NOT_FOUND" });
    expect(() => session.fork()).toThrow(/has ended/);
  });

  it("makes pushes wait while nobody reads, and says so when that takes too long", async () => {
    const client = await open();
    const session = client.session("listener");
    const flood = { x: { shape: [2000, 4], data: new Float32Array(8000) } };
    await expect(session.push(flood, { steps: 2000, timeoutMs: 1500 })).rejects.toMatchObject({
      code: "DEADLINE_EXCEEDED",
      message: expect.stringContaining("is somebody reading"),
    });
    const stop = new AbortController();
    const pushed = session.push(x(0), { signal: stop.signal });
    stop.abort();
    await expect(pushed).rejects.toMatchObject({ code: "CANCELLED" });
    session.cancel();
    await expect.poll(() => runtime.stats().active).toBe(0);
  });

  it("is cancelled by its signal and by a reader who leaves", async () => {
    const client = await open();
    const stop = new AbortController();
    const signalled = client.session("listener", { signal: stop.signal });
    await signalled.flush();
    stop.abort();
    await expect(signalled.end()).rejects.toMatchObject({ code: "CANCELLED" });
    const left = client.session("listener");
    await left.push(x(0));
    for await (const _ of left) break;
    await expect(left.flush()).rejects.toMatchObject({ code: "CANCELLED" });
    await expect.poll(() => runtime.stats().active).toBe(0);
  });
});

describe("a session whose connection breaks", () => {
  const survive = async (options: SessionOptions, everyPushes: number) => {
    const wire = await Wire.open(server.port);
    onTestFinished(() => wire.close());
    const session = (await open(wire.url)).session("listener", options);
    const { steps, ended } = read(session);
    await push(session, 0, STEPS, (i) => i % everyPushes === everyPushes - 1 && wire.cut());
    await session.end();
    await ended;
    expect(steps).toHaveLength(STEPS);
    return wire.made;
  };

  it("goes on from its last checkpoint: every output comes once, the same to the bit", async () => {
    expect(await survive({ checkpointInputs: 5 }, 13)).toBeGreaterThan(3);
  });

  it("goes on from the beginning where no checkpoint is due yet", async () => {
    expect(await survive({}, 25)).toBeGreaterThan(2);
  });

  it("is suspended and forked as if nothing had been", async () => {
    const wire = await Wire.open(server.port);
    onTestFinished(() => wire.close());
    const client = await open(wire.url);
    const session = client.session("listener", { checkpointInputs: 4 });
    await push(session, 0, 10);
    wire.cut();
    const fork = session.fork();
    const forked = read(fork, 10);
    const resumed = client.session("listener", { state: await session.suspend() });
    const rest = read(resumed, 10);
    for (const one of [fork, resumed]) {
      await push(one, 10, 15);
      await one.end();
    }
    await Promise.all([forked.ended, rest.ended]);
    expect([forked.steps.length, rest.steps.length]).toEqual([5, 5]);
  });

  it("ends with CONNECTION_LOST where it makes no checkpoints", async () => {
    const wire = await Wire.open(server.port);
    onTestFinished(() => wire.close());
    const session = (await open(wire.url)).session("listener", { checkpointInputs: 0 });
    await push(session, 0, 3);
    await session.flush();
    wire.cut();
    await expect(session.end()).rejects.toMatchObject({ code: "CONNECTION_LOST", isRetryable: true });
  });
});

describe("a session whose server goes away", () => {
  it("moves to the server that comes after it, with its state and without a gap", async () => {
    const wire = await Wire.open(0);
    onTestFinished(() => wire.close());
    const start = async () => {
      const own = await createRuntime({ models: [listenerModel()], inline: true });
      const started = await startServer({ runtime: own, port: 0, limits: LIMITS });
      wire.target = started.port;
      return {
        stop: async () => {
          await started.close(1000);
          await own.close(1000);
          return own.stats();
        },
      };
    };
    const first = await start();
    const client = await open(wire.url);
    const sessions = [5, 0].map((checkpointInputs) => client.session("listener", { checkpointInputs }));
    const readers = sessions.map((session) => read(session));
    for (const session of sessions) await push(session, 0, 20);
    const stopped = first.stop();
    const second = await start();
    for (const session of sessions) await push(session, 20, 40);
    expect(await stopped).toMatchObject({ failed: 0, active: 0 });
    await Promise.all([second.stop(), start()]);
    for (const session of sessions) await push(session, 40, STEPS);
    for (const session of sessions) await session.end();
    for (const { steps, ended } of readers) {
      await ended;
      expect(steps).toHaveLength(STEPS);
    }
  });

  it("sleeps when it was evicted for its silence, and goes on with the next input", async () => {
    const own = await createRuntime({ models: [listenerModel()], inline: true });
    const strict = await startServer({ runtime: own, port: 0, limits: { idleMs: 100 } });
    onTestFinished(async () => {
      await strict.close(0);
      await own.close(0);
    });
    const session = (await open(`ws://127.0.0.1:${strict.port}`)).session("listener");
    const { steps, ended } = read(session);
    for (let i = 0; i < 3; i++) {
      await push(session, i * 5, i * 5 + 5);
      await session.flush();
      await expect.poll(() => own.stats().active, { timeout: 10_000 }).toBe(0);
    }
    await session.end();
    await ended;
    expect(steps).toHaveLength(15);
  });

  it("is suspended by the client where the server only says that it drains", async () => {
    const door = new WebSocketServer({ port: 0, host: "127.0.0.1", handleProtocols: () => "cellbatch.v1" });
    onTestFinished(() => door.close());
    await new Promise((resolve) => door.once("listening", resolve));
    const opened: unknown[] = [];
    door.on("connection", (ws) =>
      ws.on("message", (data: Buffer, isBinary) => {
        const json = isBinary ? data.toString("utf8", 4, 4 + data.readUInt32LE(0)) : data.toString();
        const { type, id, state } = JSON.parse(json) as { type: string; id: string; state?: string };
        const say = (message: object) => ws.send(JSON.stringify(message));
        if (type === "open") {
          opened.push(state);
          say({ type: "opened", id, limits: { idle_ms: 60_000, inputs: 8 } });
          if (opened.length === 1) say({ type: "goaway" });
        } else if (type === "suspend") say({ type: "state", id, state: "kept" });
        else if (type === "end")
          say({ type: "done", id, outputs: {}, usage: { cells: 0, queue_ms: 0, compute_ms: 0 } });
      }),
    );
    const client = await open(`ws://127.0.0.1:${(door.address() as { port: number }).port}`);
    const session = client.session("any");
    await expect.poll(() => opened.length).toBe(2);
    await session.end();
    expect(opened).toEqual([undefined, "kept"]);
  });
});
