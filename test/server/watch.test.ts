import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { PacketReader, PacketWriter } from "../../src/engine/packet.ts";
import { StepWatch } from "../../src/engine/step-watch.ts";
import { createRuntime } from "../../src/runtime/create.ts";
import type { Runtime, WatchedStep } from "../../src/runtime/types.ts";
import { type Server, startServer } from "../../src/server/server.ts";
import type { WatchReport } from "../../src/server/watch-protocol.ts";
import { chainModel, listenerModel, writerModel } from "../fixtures/models.ts";

let runtime: Runtime;
let server: Server;

beforeAll(async () => {
  runtime = await createRuntime({ models: [chainModel(), writerModel(), listenerModel()], inline: true });
  server = await startServer({ runtime, port: 0 });
});

afterAll(async () => {
  await server.close(0);
  await runtime.close(0);
});

const url = (path: string) => `http://127.0.0.1:${server.port}${path}`;

describe("watching a runtime", () => {
  it("tells of every step who was in it, of every end how long it took, and of nothing once it has stopped", async () => {
    const steps: WatchedStep[] = [];
    const ended: [number, string, number | undefined][] = [];
    const stop = runtime.watch({
      step: (step) => steps.push(step),
      ended: (...end) => ended.push(end),
    });
    const { accepted, cells } = runtime.stats();
    const before = performance.now();
    const ask = (text: string, maxSteps: number) => runtime.run("writer", { text }, { maxSteps });
    await Promise.all([ask("a", 3), ask("abc", 9)]);
    const session = runtime.session("listener");
    session.cancel();
    await expect(session.flush()).rejects.toThrow();
    const of = (request: number) => steps.filter(({ requests }) => requests.includes(request));
    const ran = (request: number) => of(request).reduce((sum, one) => sum + one.steps, 0);
    expect(ran(accepted + 1) + ran(accepted + 2)).toBe(runtime.stats().cells - cells);
    expect(ran(accepted + 2)).toBeGreaterThan(ran(accepted + 1));
    expect(steps.some(({ rows, requests }) => rows === 2 && requests.length === 2)).toBe(true);
    for (const { startMs, ms, model, cell, leftOut } of steps) {
      expect(startMs).toBeGreaterThan(before - 100);
      expect(startMs + ms).toBeLessThan(performance.now() + 100);
      expect([model, cell, leftOut]).toEqual(["writer", "cell", { tasks: 0, cells: 0 }]);
    }
    expect(ended.map(([request, model]) => [request, model])).toEqual([
      [accepted + 1, "writer"],
      [accepted + 2, "writer"],
      [accepted + 3, "listener"],
    ]);
    expect(ended.map(([, , ms]) => typeof ms)).toEqual(["number", "number", "undefined"]);
    stop();
    const told = steps.length;
    await ask("ab", 5);
    expect(steps).toHaveLength(told);
  });

  it("tells a busy engine's steps in part, and counts the others", () => {
    const outbox = new PacketWriter();
    const watch = new StepWatch(outbox, 1000, 5000);
    const task = { model: 0, cell: 0, rows: 100, steps: 2, requestOf: (row: number) => row };
    const total = 20_000;
    for (let i = 0; i < total; i++) {
      const startedMs = 1000 + i / 10;
      watch.tell({ ...task, startedMs, endedMs: startedMs + 0.1 });
    }
    const reader = new PacketReader(outbox.take());
    const starts: number[] = [];
    const lengths = new Set<string>();
    let leftOut = 0;
    let leftOutCells = 0;
    while (!reader.isDone) {
      for (let field = 0; field < 4; field++) reader.int();
      starts.push(reader.double());
      const ms = reader.double();
      const [rows, steps] = [reader.int(), reader.int()];
      leftOut += reader.int();
      leftOutCells += reader.double();
      const requests = Array.from({ length: reader.int() }, () => reader.int());
      lengths.add(`${rows} ${steps} ${ms.toFixed(3)} ${requests.length} ${requests.at(-1)}`);
    }
    expect([...lengths]).toEqual(["100 2 0.100 64 63"]);
    expect(starts[0]).toBe(5000);
    expect(starts).toEqual([...starts].sort((a, b) => a - b));
    const told = starts.length;
    // Two seconds: a burst of 400, then 400 a second.
    expect(told).toBeGreaterThan(1100);
    expect(told).toBeLessThan(1300);
    expect(leftOut).toBeGreaterThan(total - told - 30);
    expect(leftOutCells).toBe(leftOut * 200);
  });
});

describe("GET /v1/watch", () => {
  it("reports as server-sent events what runs, and lets the engines be once nobody listens", async () => {
    const leave = new AbortController();
    const reply = await fetch(url("/v1/watch"), { signal: leave.signal });
    expect(reply.headers.get("content-type")).toContain("text/event-stream");
    const reports: WatchReport[] = [];
    const listening = (async () => {
      let text = "";
      for await (const chunk of reply.body!.pipeThrough(new TextDecoderStream())) {
        text += chunk;
        const events = text.split("\n\n");
        text = events.pop()!;
        for (const event of events) reports.push(JSON.parse(event.slice("data: ".length)) as WatchReport);
      }
    })();
    const { accepted } = runtime.stats();
    await runtime.run("writer", { text: "abc" }, { maxSteps: 4 });
    await expect.poll(() => reports.flatMap(({ ended }) => ended).length).toBe(1);
    const [request, model, ms] = reports.flatMap(({ ended }) => ended)[0]!;
    expect([request, model]).toEqual([accepted + 1, "writer"]);
    expect(ms).toBeGreaterThan(0);
    const steps = reports.flatMap((report) => report.steps);
    expect(steps.map((step) => step.requests)).toEqual(steps.map(() => [accepted + 1]));
    expect(reports.at(-1)!.stats).toMatchObject({ engines: 1, active: 0 });
    leave.abort();
    await expect(listening).rejects.toThrow();
  });

  it("refuses more listeners than it has room for, and has room again once they left", async () => {
    const leave = new AbortController();
    const listen = () => fetch(url("/v1/watch"), { signal: leave.signal });
    const replies = await Promise.all(Array.from({ length: 17 }, listen));
    expect(replies.filter(({ status }) => status === 503)).toHaveLength(1);
    leave.abort();
    const again = async () => {
      const reply = await fetch(url("/v1/watch"));
      await reply.body!.cancel();
      return reply.status;
    };
    await expect.poll(again, { timeout: 10_000 }).toBe(200);
  });

  it("ends when the server closes", async () => {
    const own = await createRuntime({ models: [chainModel()], inline: true });
    const short = await startServer({ runtime: own, port: 0 });
    const reply = await fetch(`http://127.0.0.1:${short.port}/v1/watch`);
    const read = reply.text();
    await short.close(0);
    await expect(read).rejects.toThrow();
    await own.close(0);
  });
});

describe("GET /v1/models", () => {
  it("lists what the pages need to know of every model", async () => {
    const models = (await (await fetch(url("/v1/models"))).json()) as unknown[];
    expect(models).toEqual(JSON.parse(JSON.stringify(runtime.models)));
    expect(models).toContainEqual(
      expect.objectContaining({ name: "listener", streaming: true, inputs: expect.any(Array) }),
    );
  });
});
