import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createRuntime } from "../../src/runtime/create.ts";
import type { Runtime } from "../../src/runtime/types.ts";
import { type Server, startServer } from "../../src/server/server.ts";
import { listenerModel } from "../fixtures/models.ts";
import { TestClient } from "./client.ts";

let runtime: Runtime;
let server: Server;

beforeAll(async () => {
  runtime = await createRuntime({ models: [listenerModel()], inline: true });
  server = await startServer({ runtime, port: 0, limits: { idleMs: 600, pingMs: 400 } });
});

afterAll(async () => {
  await server.close(0);
  await runtime.close(0);
});

describe("silence", () => {
  it("evicts a session with its state, while one that says keepalive stays", async () => {
    const client = await TestClient.open(server.port);
    client.send({ type: "open", id: "quiet", model: "listener" });
    client.send({ type: "open", id: "alive", model: "listener" });
    const alive = setInterval(() => client.send({ type: "keepalive", id: "alive" }), 100);
    const evicted = await client.next({ type: "evicted" });
    clearInterval(alive);
    expect(evicted).toMatchObject({ id: "quiet", reason: "idle", state: expect.any(String) });
    client.send({ type: "open", id: "again", model: "listener", state: evicted.state });
    await client.next({ type: "opened", id: "again" });
    client.close();
    await expect.poll(() => runtime.stats().active).toBe(0);
  });

  it("of a peer that answers no ping ends its socket and frees its sessions", async () => {
    const client = await TestClient.open(server.port);
    client.send({ type: "open", id: "s", model: "listener" });
    await client.next({ type: "opened" });
    client.ws.pause();
    const metrics = async () => (await fetch(`http://127.0.0.1:${server.port}/metrics`)).text();
    await expect.poll(metrics, { timeout: 5000 }).toContain("cellbatch_connections 0");
    expect(runtime.stats().active).toBe(0);
    client.ws.terminate();
  });
});
