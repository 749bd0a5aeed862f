import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type LoadSettings, runLoad } from "../../src/load/run-load.ts";
import { createRuntime } from "../../src/runtime/create.ts";
import type { Runtime } from "../../src/runtime/types.ts";
import { type Server, startServer } from "../../src/server/server.ts";
import { chainModel, listenerModel, writerModel } from "../fixtures/models.ts";

let runtime: Runtime;
let server: Server;

beforeAll(async () => {
  runtime = await createRuntime({ models: [chainModel(), writerModel(), listenerModel()], inline: true });
  server = await startServer({ runtime, port: 0, grpcPort: 0 });
}, 60_000);

afterAll(async () => {
  await server.close(0);
  await runtime.close(0);
});

function load(url: string, changes: Partial<LoadSettings> = {}) {
  return runLoad({
    url: new URL(url),
    rates: [200],
    seconds: 0.4,
    warmSeconds: 0.1,
    arrivals: { kind: "poisson" },
    lengths: { least: 1, most: 9 },
    tokens: 2,
    headers: {},
    seed: 1,
    signal: new AbortController().signal,
    connections: 2,
    began: () => {},
    ended: () => {},
    ...changes,
  });
}

const doors = ["ws", "http", "grpc"] as const;
const addressOf = (door: (typeof doors)[number]) =>
  `${door}://127.0.0.1:${door === "grpc" ? server.grpcPort : server.port}`;

describe.each(doors)("load over %s", (door) => {
  it.each(["chain", "writer", "listener"])("gets every request of model '%s' answered", async (model) => {
    const before = runtime.stats().completed;
    let [promised, ended] = [0, 0];
    const { rates } = await load(addressOf(door), {
      model,
      maxSteps: 5,
      texts: ["ab"],
      began: (_rate, requests) => {
        promised = requests;
      },
      ended: () => ended++,
    });
    const [only] = rates;
    expect(only).toMatchObject({ rate: 200, failed: 0, failures: {} });
    expect(only!.sent).toBeGreaterThan(40);
    expect([only!.answered, ended]).toEqual([promised, promised]);
    expect(only!.p50!).toBeGreaterThan(0);
    expect(only!.most!).toBeGreaterThanOrEqual(only!.p99!);
    // Those of the warm-up too.
    expect(runtime.stats().completed - before).toBeGreaterThan(only!.answered);
  });

  it("says what the server says where it does not answer", async () => {
    await expect(load(addressOf(door), { model: "none" })).rejects.toThrow(/no model 'none'/);
    await expect(load(addressOf(door))).rejects.toThrow("say which --model to ask: chain, writer, listener");
    const { rates } = await load(addressOf(door), {
      model: "chain",
      lengths: { fixed: 10_001 },
      rates: [20],
    });
    expect(rates[0]!.answered).toBe(0);
    expect(rates[0]!.p50).toBeNull();
    expect(Object.keys(rates[0]!.failures)[0]).toMatch(/10001 steps/);
  });

  it("ends when it is told to", async () => {
    const stop = new AbortController();
    const began = () => setTimeout(() => stop.abort(), 150);
    const { signal } = stop;
    const report = await load(addressOf(door), {
      model: "chain",
      seconds: 3600,
      rates: [50, 50],
      signal,
      began,
    });
    expect(report.interrupted).toBe(true);
    expect(report.rates.length).toBe(1);
  });
});

describe("load", () => {
  it("refuses addresses that nobody serves, and those of no door", async () => {
    for (const door of ["ws", "http", "grpc"])
      await expect(load(`${door}://127.0.0.1:1`, { model: "chain" })).rejects.toThrow("127.0.0.1:1");
    await expect(load("ftp://127.0.0.1:1")).rejects.toThrow("is none of ws://");
  });

  it("tells queueing and computing where the server does", async () => {
    const { rates } = await load(addressOf("ws"), { model: "chain" });
    expect(rates[0]!.queueMs + rates[0]!.computeMs).toBeGreaterThan(0);
  });
});
