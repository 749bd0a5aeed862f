import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { createRuntime } from "../../src/runtime/create.ts";
import type { Runtime } from "../../src/runtime/types.ts";
import type { Eviction } from "../../src/server/evictions.ts";
import { type Server, startServer } from "../../src/server/server.ts";
import { listenerModel } from "../fixtures/models.ts";
import { type Message, TestClient } from "./client.ts";

let runtime: Runtime;
let server: Server;
const heard: Eviction[] = [];

beforeAll(async () => {
  runtime = await createRuntime({ models: [listenerModel()], inline: true, maxActive: 20 });
  const limits = { inputs: 8, sessions: 3, parked: 2, graceMs: 60_000, idleMs: 2000 };
  server = await startServer({ runtime, port: 0, limits, evicted: (eviction) => heard.push(eviction) });
});

afterAll(async () => {
  await server.close(0);
  await runtime.close(0);
});

beforeEach(async () => {
  await expect.poll(() => runtime.stats().active, { timeout: 10_000 }).toBe(0);
  heard.length = 0;
});

const value = (step: number) => new Array(4).fill(Math.sin(step));
const push = (client: TestClient, id: string, step: number) =>
  client.send({ type: "push", id, inputs: { x: value(step) } });
const outputsOf = (client: TestClient, id: string) =>
  client.messages.filter((one) => one.type === "output" && one.id === id);

interface Resume {
  readonly token: string;
  readonly received: number;
  readonly step: number;
}
const resumeOf = (opened: Message) => opened.resume as Resume;

async function open(client: TestClient, id: string, more: object = {}): Promise<Message> {
  client.send({ type: "open", id, model: "listener", ...more });
  return client.next({ type: "opened", id });
}

/** Ends a session, so that it does not wait for its client, and the socket. */
async function cancel(client: TestClient, id: string): Promise<void> {
  client.send({ type: "cancel", id });
  await client.next({ id, code: "CANCELLED" });
  client.close();
}

/** What the same inputs give without a break. */
async function unbroken(steps: number): Promise<unknown[]> {
  const client = await TestClient.open(server.port);
  await open(client, "whole");
  for (let step = 0; step < steps; step++) {
    push(client, "whole", step);
    await client.next({ type: "output", id: "whole", step });
  }
  client.close();
  return outputsOf(client, "whole").map(({ outputs }) => outputs);
}

async function evictionsCounted(reason: string): Promise<number> {
  const text = await (await fetch(`http://127.0.0.1:${server.port}/metrics`)).text();
  return Number(new RegExp(`cellbatch_evictions_total{reason="${reason}"} (\\d+)`).exec(text)?.[1] ?? 0);
}

describe("a session that asked for a grace", () => {
  it("goes on over another socket as if nothing had happened, with the outputs that were missed", async () => {
    const first = await TestClient.open(server.port);
    const opened = await open(first, "s", { grace_ms: 50_000 });
    expect(opened.limits).toEqual({ idle_ms: 2000, inputs: 8, grace_ms: 50_000 });
    for (let step = 0; step < 5; step++) push(first, "s", step);
    await first.next({ type: "output", id: "s", step: 1 });
    first.ws.terminate();
    // The slot is free while nobody listens.
    await expect.poll(() => runtime.stats().active).toBe(0);
    const second = await TestClient.open(server.port);
    const { token } = resumeOf(opened);
    // As a client that has only seen output 0.
    second.send({ type: "resume", id: "again", token, step: 1 });
    const { resume, limits } = await second.next({ type: "opened", id: "again" });
    const { received, step } = resume as Resume;
    expect(received).toBe(step);
    expect(limits).toMatchObject({ inputs: 8, grace_ms: 50_000 });
    for (let next = received; next < 8; next++) push(second, "again", next);
    second.send({ type: "end", id: "again" });
    expect(await second.next({ type: "done", id: "again" })).toMatchObject({ usage: { cells: 8 } });
    const outputs = outputsOf(second, "again");
    expect(outputs.map((one) => one.step)).toEqual([1, 2, 3, 4, 5, 6, 7]);
    expect(outputs.map((one) => one.outputs)).toEqual((await unbroken(8)).slice(1));
    second.send({ type: "resume", id: "late", token, step: 8 });
    expect(await second.next({ id: "late" })).toMatchObject({ code: "SESSION_NOT_FOUND" });
    second.close();
    expect(heard).toEqual([]);
  });

  it("keeps the result of a client that had sent all", async () => {
    const first = await TestClient.open(server.port);
    const { token } = resumeOf(await open(first, "s", { grace_ms: 50_000 }));
    push(first, "s", 0);
    first.send({ type: "end", id: "s" });
    // The first answer may be on its way; the socket is lost in any case.
    first.ws.terminate();
    await expect.poll(() => runtime.stats().active).toBe(0);
    const second = await TestClient.open(server.port);
    second.send({ type: "resume", id: "s", token, step: 0 });
    const answer = await second.next({ id: "s" });
    if (answer.type === "opened") {
      await second.next({ type: "output", id: "s", step: 0 });
      await second.next({ type: "done", id: "s" });
    } else expect(answer).toMatchObject({ code: "SESSION_NOT_FOUND" });
    second.close();
  });

  it("refuses a step that is not kept, and an owner of no token", async () => {
    const client = await TestClient.open(server.port);
    const { token } = resumeOf(await open(client, "s", { grace_ms: 50_000 }));
    client.send({ type: "resume", id: "a", token, step: 3 });
    expect(await client.next({ id: "a" })).toMatchObject({
      code: "INVALID_REQUEST",
      message: expect.stringMatching(/output 3 .* is not kept/),
    });
    client.send({ type: "resume", id: "b", token: "guess", step: 0 });
    expect(await client.next({ id: "b" })).toMatchObject({ code: "SESSION_NOT_FOUND" });
    push(client, "s", 0);
    await client.next({ type: "output", id: "s" });
    await cancel(client, "s");
  });
});

describe("an eviction", () => {
  /** Client, hook and counter must tell the same. */
  async function agreed(reason: string, before: number, told: number): Promise<void> {
    expect(heard.map((one) => one.reason)).toEqual(new Array(told).fill(reason));
    expect(heard.every(({ model }) => model === "listener")).toBe(true);
    expect((await evictionsCounted(reason)) - before).toBe(told);
  }

  it("of a silent session is told alike to client, hook and counter", async () => {
    const before = await evictionsCounted("idle");
    const client = await TestClient.open(server.port);
    await open(client, "s");
    expect(await client.next({ type: "evicted", id: "s" })).toMatchObject({
      reason: "idle",
      state: expect.any(String),
    });
    await agreed("idle", before, 1);
    client.close();
  });

  it("for one of a higher class takes the lowest that was silent longest, and none takes one of its own", async () => {
    const before = await evictionsCounted("capacity");
    const client = await TestClient.open(server.port);
    await open(client, "low", { parameters: { priority: 7 } });
    await open(client, "lowest", { parameters: { priority: 9 } });
    await open(client, "lowest too", { parameters: { priority: 9 } });
    client.send({ type: "keepalive", id: "lowest" });
    await open(client, "high", { parameters: { priority: 2 } });
    expect(await client.next({ type: "evicted" })).toMatchObject({
      id: "lowest too",
      reason: "capacity",
      state: expect.any(String),
    });
    await agreed("capacity", before, 1);
    client.send({ type: "open", id: "equal", model: "listener", parameters: { priority: 9 } });
    expect(await client.next({ id: "equal" })).toMatchObject({
      code: "OVERLOADED",
      retry_after_ms: expect.any(Number),
    });
    client.close();
  });

  it("by another socket that takes the session up is told to the one that had it", async () => {
    const before = await evictionsCounted("replaced");
    const first = await TestClient.open(server.port);
    const second = await TestClient.open(server.port);
    const { token } = resumeOf(await open(first, "s", { grace_ms: 1000 }));
    push(first, "s", 0);
    await first.next({ type: "output", id: "s" });
    second.send({ type: "resume", id: "t", token, step: 1 });
    const { resume } = await second.next({ type: "opened", id: "t" });
    expect(resume).toMatchObject({ received: 1, step: 1 });
    expect(await first.next({ type: "evicted" })).toEqual({ type: "evicted", id: "s", reason: "replaced" });
    push(second, "t", 1);
    expect((await second.next({ type: "output", id: "t", step: 1 })).outputs).toEqual((await unbroken(2))[1]);
    await agreed("replaced", before, 1);
    first.close();
    await cancel(second, "t");
  });

  it("of sessions whose clients are away is told to those that come back", async () => {
    const before = await evictionsCounted("capacity");
    const away = await TestClient.open(server.port);
    const tokens: string[] = [];
    for (const id of ["a", "b", "c"]) tokens.push(resumeOf(await open(away, id, { grace_ms: 50_000 })).token);
    away.ws.terminate();
    await expect.poll(() => heard.length).toBe(1);
    await agreed("capacity", before, 1);
    const back = await TestClient.open(server.port);
    for (const token of tokens) back.send({ type: "resume", id: token, token, step: 0 });
    await back.next({ type: "opened", id: tokens[1]! });
    await back.next({ type: "opened", id: tokens[2]! });
    expect(await back.next({ id: tokens[0]! })).toMatchObject({ type: "evicted", reason: "capacity" });
    back.send({ type: "cancel", id: tokens[1]! });
    await cancel(back, tokens[2]!);
  });

  it("ends the grace, after which nothing is kept", async () => {
    const before = await evictionsCounted("idle");
    const client = await TestClient.open(server.port);
    const { token } = resumeOf(await open(client, "s", { grace_ms: 1 }));
    client.ws.terminate();
    // Those that the last test left wait for longer.
    await expect
      .poll(() => heard.filter(({ reason }) => reason === "idle").length, { timeout: 10_000 })
      .toBe(1);
    const back = await TestClient.open(server.port);
    back.send({ type: "resume", id: "s", token, step: 0 });
    expect(await back.next({ id: "s" })).toEqual({ type: "evicted", id: "s", reason: "idle" });
    expect((await evictionsCounted("idle")) - before).toBe(1);
    back.close();
  });
});
