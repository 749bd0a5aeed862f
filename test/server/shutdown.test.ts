import { expect, it, onTestFinished } from "vitest";
import { WebSocket } from "ws";
import type { KernelTask } from "../../kernels/kernel.ts";
import { SimulatedKernel } from "../../kernels/simulated/simulated.ts";
import { createRuntime } from "../../src/runtime/create.ts";
import { startServer } from "../../src/server/server.ts";
import { chainModel, listenerModel } from "../fixtures/models.ts";
import { TestClient } from "./client.ts";

const x = { datatype: "FP32", shape: [1, 4], data: [0, 0, 0, 0] };

/** A server whose device stops for as long as the test wants. */
async function stuckServer() {
  let release = () => {};
  let gate: Promise<void> | undefined;
  class StuckKernel extends SimulatedKernel {
    override run(task: KernelTask): void | Promise<void> {
      super.run(task);
      return gate;
    }
  }
  const runtime = await createRuntime({
    models: [chainModel(), listenerModel()],
    inline: true,
    kernel: async (cells) => new StuckKernel(cells),
  });
  const server = await startServer({ runtime, port: 0 });
  onTestFinished(async () => {
    release();
    await server.close(0);
    await runtime.close(0);
  });
  const stick = () => {
    gate = new Promise((resolve) => {
      release = () => {
        gate = undefined;
        resolve();
      };
    });
  };
  /** Resolves once this many requests and sessions are there. */
  const accepted = (count: number) =>
    expect.poll(() => runtime.stats().active, { timeout: 20_000 }).toBe(count);
  return { server, stick, release: () => release(), accepted };
}

it("a server that closes is not ready first, and admits nothing while it waits for what runs", async () => {
  const { server, stick, release, accepted } = await stuckServer();
  const client = await TestClient.open(server.port);
  stick();
  client.send({ type: "infer", id: "stuck", model: "chain", inputs: { x } });
  await accepted(1);
  const closing = server.close(60_000);
  const health = async (which: string) => {
    const answer = await fetch(`http://127.0.0.1:${server.port}/v2/health/${which}`);
    return [answer.status, await answer.json()];
  };
  expect(await health("ready")).toEqual([503, { ready: false }]);
  expect(await health("live")).toEqual([200, { live: true }]);
  await client.next({ type: "goaway" });
  client.send({ type: "infer", id: "late", model: "chain", inputs: { x } });
  expect(await client.next({ id: "late" })).toMatchObject({ type: "error", code: "SHUTTING_DOWN" });
  const refused = new WebSocket(`ws://127.0.0.1:${server.port}/v1/stream`, "cellbatch.v1");
  const status = await new Promise((resolve) => {
    refused.once("unexpected-response", (_, response) => resolve(response.statusCode));
    refused.on("error", () => {});
  });
  expect(status).toBe(503);
  refused.terminate();
  release();
  expect(await client.next({ id: "stuck", type: "done" })).toBeDefined();
  await closing;
});

it("a server that closes ends what its drain leaves with SHUTTING_DOWN, each once", async () => {
  const { server, stick, accepted } = await stuckServer();
  const client = await TestClient.open(server.port);
  stick();
  client.send({ type: "infer", id: "stuck", model: "chain", inputs: { x } });
  client.send({ type: "open", id: "voice", model: "listener" });
  await client.next({ type: "opened" });
  await accepted(2);
  const isClosed = client.closed();
  await server.close(50);
  expect(await isClosed).toBe(1001);
  const ends = client.messages.filter(
    ({ type }) => type !== "opened" && type !== "goaway" && type !== "output",
  );
  expect(ends.map(({ id, type, code }) => [id, type, code]).sort()).toEqual([
    ["stuck", "error", "SHUTTING_DOWN"],
    ["voice", "error", "SHUTTING_DOWN"],
  ]);
});

it("a server that closes waits for what runs, and hands back the state of sessions", async () => {
  const { server, stick, release, accepted } = await stuckServer();
  const client = await TestClient.open(server.port);
  stick();
  client.send({ type: "infer", id: "slow", model: "chain", inputs: { x } });
  client.send({ type: "open", id: "voice", model: "listener" });
  client.send({ type: "push", id: "voice", inputs: { x } });
  await accepted(2);
  const closing = server.close(60_000);
  await client.next({ type: "goaway" });
  release();
  expect(await client.next({ id: "slow", type: "done" })).toBeDefined();
  expect(await client.next({ id: "voice", type: "evicted" })).toMatchObject({
    reason: "shutdown",
    state: expect.any(String),
  });
  await closing;
});
