import { readFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createRuntime } from "../../src/runtime/create.ts";
import type { Runtime } from "../../src/runtime/types.ts";
import { type Server, startServer } from "../../src/server/server.ts";
import { chainModel, listenerModel, writerModel } from "../fixtures/models.ts";
import { TestClient } from "./client.ts";

let runtime: Runtime;
let server: Server;
beforeAll(async () => {
  runtime = await createRuntime({ models: [chainModel(), writerModel(), listenerModel()], inline: true });
  server = await startServer({ runtime, port: 0 });
}, 180_000);
afterAll(async () => {
  await server.close(0);
  await runtime.close(0);
});

interface Sample {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

async function scrape(): Promise<Sample[]> {
  const text = await (await fetch(`http://127.0.0.1:${server.port}/metrics`)).text();
  return text.split("\n").flatMap((line): Sample[] => {
    const found = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)$/.exec(line);
    if (!found) return [];
    const labels = [...(found[2] ?? "").matchAll(/(\w+)="([^"]*)"/g)].map(([, key, value]) => [key, value]);
    return [{ name: found[1]!, labels: Object.fromEntries(labels), value: Number(found[3]) }];
  });
}

function sumOf(samples: readonly Sample[], name: string, labels: Readonly<Record<string, string>>): number {
  const found = samples.filter(
    (sample) =>
      sample.name === name && Object.entries(labels).every(([key, value]) => sample.labels[key] === value),
  );
  return found.reduce((sum, { value }) => sum + value, 0);
}

async function infer(client: TestClient, id: string, message: object): Promise<void> {
  client.send({ type: "infer", id, ...message });
  await Promise.race([client.next({ type: "done", id }), client.next({ type: "error", id })]);
}

describe("the metrics of a server", () => {
  it("count requests by model and code, with their times, and Triton's names agree", async () => {
    const client = await TestClient.open(server.port);
    for (let i = 0; i < 5; i++) await infer(client, `w${i}`, { model: "writer", inputs: { text: "ab" } });
    await infer(client, "late", {
      model: "writer",
      inputs: { text: "ab" },
      parameters: { timeout_ms: 0.001 },
    });
    client.close();
    const samples = await scrape();
    const writer = { model: "writer" };
    expect(sumOf(samples, "cellbatch_requests_total", { ...writer, code: "OK" })).toBe(5);
    expect(sumOf(samples, "cellbatch_requests_total", { ...writer, code: "DEADLINE_EXCEEDED" })).toBe(1);
    for (const name of [
      "request_duration",
      "request_queue",
      "request_compute",
      "time_to_first_output",
      "time_per_output",
    ]) {
      expect([name, sumOf(samples, `cellbatch_${name}_seconds_count`, writer)]).toEqual([name, 5]);
    }
    const seconds = (name: string) => sumOf(samples, `cellbatch_${name}_seconds_sum`, writer);
    expect(seconds("request_compute")).toBeGreaterThan(0);
    expect(seconds("request_duration")).toBeGreaterThan(seconds("request_compute"));
    expect(seconds("time_to_first_output")).toBeLessThan(seconds("request_duration"));
    expect(sumOf(samples, "nv_inference_request_success", writer)).toBe(5);
    expect(sumOf(samples, "nv_inference_request_failure", { ...writer, reason: "REJECTED" })).toBe(1);
    const us = sumOf(samples, "nv_inference_compute_infer_duration_us", writer);
    expect(us / 1e6).toBeCloseTo(seconds("request_compute"), 4);
  });

  it("count rows by the size of their batches", async () => {
    const before = await scrape();
    const x = { dtype: "float32" as const, shape: [6, 4], data: new Float32Array(24) };
    const results = await Promise.all(Array.from({ length: 20 }, () => runtime.run("chain", { x })));
    const after = await scrape();
    const added = (name: string, labels: Readonly<Record<string, string>> = {}) =>
      sumOf(after, name, { model: "chain", cell: "cell", ...labels }) -
      sumOf(before, name, { model: "chain", cell: "cell", ...labels });
    expect(results).toHaveLength(20);
    const tasks = added("cellbatch_batch_rows_count");
    expect(tasks).toBeGreaterThan(0);
    expect(added("cellbatch_batch_rows_sum")).toBeLessThanOrEqual(120);
    expect(added("cellbatch_batch_rows_bucket", { le: "+Inf" })).toBe(tasks);
    // Some ran together, and no more than there were.
    expect(added("cellbatch_batch_rows_bucket", { le: "1" })).toBeLessThan(tasks);
    expect(added("cellbatch_batch_rows_bucket", { le: "32" })).toBe(tasks);
    expect(added("cellbatch_cell_seconds_total")).toBeGreaterThan(0);
    expect(sumOf(after, "cellbatch_scheduler_decisions_total", {})).toBeGreaterThanOrEqual(tasks);
  });

  it("see slots that sessions hold, and rows that are paused", async () => {
    const slots = (samples: readonly Sample[]) =>
      sumOf(samples, "cellbatch_slots_used", { model: "listener" });
    const before = slots(await scrape());
    const session = runtime.session("listener");
    session.push({ x: { dtype: "float32", shape: [4], data: new Float32Array(4) } });
    await session.flush();
    const handle = runtime.submit("writer", { text: "a" }, {}, { done: () => {}, failed: () => {} });
    handle.pause();
    const held = await scrape();
    expect(slots(held)).toBe(before + 1);
    expect(sumOf(held, "cellbatch_requests_paused", {})).toBe(1);
    handle.cancel();
    session.cancel();
    await expect.poll(() => runtime.stats().active).toBe(0);
    const free = await scrape();
    expect(slots(free)).toBe(before);
    expect(sumOf(free, "cellbatch_requests_paused", {})).toBe(0);
  });

  const text = (path: string) => readFileSync(new URL(`../../${path}`, import.meta.url), "utf8");

  it("have every name that the dashboard asks for", async () => {
    const names = new Set((await scrape()).map(({ name }) => name));
    const { panels } = JSON.parse(text("deploy/grafana/cellbatch.json")) as {
      panels: { title: string; targets: { expr: string }[] }[];
    };
    const asked = panels.flatMap(({ targets }) =>
      targets.flatMap(({ expr }) => expr.match(/\b(?:cellbatch|nodejs|process|nv)_\w+/g) ?? []),
    );
    expect(asked.length).toBeGreaterThan(20);
    // A counter by reason has no sample until something ended.
    const absent = asked.filter((name) => !names.has(name) && name !== "cellbatch_sequences_ended_total");
    expect(absent).toEqual([]);
  });

  it("are those of the table in the documentation", async () => {
    const documentation = text("docs/operations.md");
    const documented = new Set(
      [...documentation.matchAll(/`((?:cellbatch|nv_inference)_\w+)`/g)].map(([, name]) => name!),
    );
    const page = await (await fetch(`http://127.0.0.1:${server.port}/metrics`)).text();
    const exported = [...page.matchAll(/^# TYPE ((?:cellbatch|nv_inference)_\w+) /gm)].map(
      ([, name]) => name!,
    );
    expect(exported.filter((name) => !documented.has(name))).toEqual([]);
    expect([...documented].filter((name) => !exported.includes(name))).toEqual([]);
  });
});
