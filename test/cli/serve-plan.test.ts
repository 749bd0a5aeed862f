import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it, onTestFinished } from "vitest";
import { cellsDigest } from "../../models/digest.ts";
import type { Plan } from "../../planner/plan.ts";
import type { Decision } from "../../src/adapt/adapter.ts";
import { lstmCell } from "../../src/bench/synthetic.ts";
import { wholeSequenceModel } from "../../src/bench/whole-sequence.ts";
import type { Profile } from "../../src/core/profile.ts";
import { thisMachine } from "../../src/engine/machine.ts";
import { serve } from "../repository/process.ts";
import { TestClient } from "../server/client.ts";

const WIDTH = 4;
const model = fileURLToPath(new URL("../fixtures/whole-graph.mjs", import.meta.url));
/** The model of that module. */
const definition = wholeSequenceModel("whole", lstmCell(WIDTH), {
  maxBatch: 64,
  timeoutMs: 0,
  order: "oldest",
  bucketWidth: Number.POSITIVE_INFINITY,
});

function planOf(changes: Partial<Plan>): Plan {
  return {
    format: 1,
    kind: "cellbatch.plan",
    model: "whole",
    target: "server",
    method: "batch",
    lane: "graph",
    goal: { percentile: 95, ms: 500, perSize: false },
    arrivals: { d0: [[-1]], d1: [[1]], reason: "made up" },
    engines: 1,
    eager: false,
    buffers: [],
    predicted: { latencyMs: 1, usdPerMillion: 1, meanBatch: 1, paddingShare: 0 },
    ...changes,
  };
}

/** Calls of any size that take 0.2 ms and 0.01 more for each row. */
const profile: Profile = {
  format: 1,
  kind: "cellbatch.profile",
  model: { name: "whole", version: "1", digest: cellsDigest(definition) },
  machine: thisMachine(),
  measuredAt: new Date(0).toISOString(),
  cells: [
    {
      cell: "graph",
      lane: "graph",
      settings: [1, 64].map((size) => ({
        threads: 1,
        stepsPerCall: 1,
        size,
        points: [1, 64].map((rows) => ({ rows, us: 200 + 10 * rows, spreadUs: 0 })),
      })),
    },
  ],
};

async function fileOf(name: string, content: object): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "cellbatch-plan-"));
  onTestFinished(() => rm(folder, { recursive: true }));
  const file = join(folder, name);
  await writeFile(file, JSON.stringify(content));
  return file;
}

function ask(client: TestClient, id: string, steps: number): void {
  const x = {
    datatype: "FP32",
    shape: [steps, WIDTH],
    data: Array.from({ length: steps * WIDTH }, (_, i) => Math.sin(i)),
  };
  client.send({ type: "infer", id, model: "whole", inputs: { x }, parameters: { stream: false } });
}

describe("cellbatch serve --plan", () => {
  it("obeys the plan's buffers: batches of their own, by size, that go when they are full", async () => {
    const timeoutMs = 60_000;
    const buffers = [
      { upTo: 8, maxBatch: 2, timeoutMs },
      { maxBatch: 3, timeoutMs },
    ];
    const plan = await fileOf("plan.json", planOf({ buffers }));
    const { port } = await serve("--model", model, "--plan", plan);
    const client = await TestClient.open(port);
    const ended = () => client.messages.filter(({ type }) => type === "done").map(({ id }) => id);
    for (const id of ["long 1", "long 2"]) ask(client, id, 9);
    ask(client, "short 1", 8);
    ask(client, "short 2", 1);
    await Promise.all(["short 1", "short 2"].map((id) => client.next({ id, type: "done" })));
    expect(ended().sort()).toEqual(["short 1", "short 2"]);
    ask(client, "long 3", 20);
    await Promise.all(["long 1", "long 2", "long 3"].map((id) => client.next({ id, type: "done" })));
    const metrics = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text();
    const batches = /^cellbatch_batch_rows_(sum|count)\{[^}]*\} (\d+)$/gm;
    expect(
      Object.fromEntries([...metrics.matchAll(batches)].map(([, name, value]) => [name, value])),
    ).toEqual({
      sum: "5",
      count: "2",
    });
    client.ws.terminate();
  });

  it("with --adapt plans again when other requests come than were planned for, and loses none of them", async () => {
    const before = { buffers: [{ maxBatch: 2, timeoutMs: 20 }], eager: false };
    const plan = await fileOf("plan.json", planOf(before));
    const { port, errors, stop, ended } = await serve(
      ...["--model", model, "--plan", plan, "--adapt", "--profile", await fileOf("profile.json", profile)],
    );
    const client = await TestClient.open(port);
    const decisions = async () =>
      ((await (await fetch(`http://127.0.0.1:${port}/v2/decisions`)).json()) as { decisions: Decision[] })
        .decisions;
    expect(await decisions()).toEqual([]);
    const waves: Promise<unknown>[] = [];
    let asked = 0;
    // Some always wait in a buffer, so that a swap meets them; there is no end before a decision.
    while ((await decisions()).length === 0) {
      for (let i = 0; i < 20; i++) {
        const id = `${asked++}`;
        ask(client, id, 1 + (asked % 60));
        waves.push(client.next({ id, type: "done" }));
      }
      await waves[waves.length - 10];
    }
    await Promise.all(waves);
    expect(client.messages.filter(({ type }) => type === "done")).toHaveLength(asked);
    expect(client.messages.filter(({ type }) => type === "error")).toEqual([]);
    const [decision] = await decisions();
    expect(decision).toMatchObject({ model: "whole", action: "swapped", before });
    expect(decision!.reason).toMatch(/requests a second came, more than the 1\.0 that were planned for/);
    expect({ buffers: decision!.buffers, eager: decision!.eager }).not.toEqual(before);
    expect(decision!.perSecond.seen).toBeGreaterThan(1);
    expect(errors()).toContain(decision!.reason);
    stop();
    expect(await ended).toBe(0);
    client.ws.terminate();
  }, 60_000);
});
