import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { SimulatedKernel } from "../../kernels/simulated/simulated.ts";
import { policies } from "../../scheduler/policy.ts";
import { chainOf, tokenCell } from "../../src/bench/synthetic.ts";
import { wallClock } from "../../src/core/clock.ts";
import { Engine } from "../../src/engine/engine.ts";
import { loadModel } from "../../src/engine/model.ts";
import { PacketWriter } from "../../src/engine/packet.ts";
import { median } from "../../src/load/statistics.ts";
import { submit } from "./submit.ts";

const ROWS = 256;

setFlagsFromString("--expose-gc");
const collectGarbage = runInNewContext("gc") as () => void;

/** What scheduler and engine cost per row and step, and per queued request, on a kernel that computes nothing. */
export async function measureBookkeeping(): Promise<string[]> {
  const steady: number[] = [];
  const churning: number[] = [];
  for (let round = 0; round < 5; round++) {
    steady.push(await rowCost(4000, 4000));
    churning.push(await rowCost(24, 2000));
  }
  const queued = await queueCost(1_000_000);
  return [
    `steady state, ${ROWS} rows: ${median(steady).toFixed(0)} ns per row and step (goal 150)`,
    `requests of 24 steps that come and go, ${ROWS} rows: ${median(churning).toFixed(0)} ns per row and step`,
    `${queued.requests} queued requests of 24 tokens: ${(queued.bytes / 1e6).toFixed(0)} MB in all (goal 1000), ` +
      `${queued.admitUs.toFixed(1)} us to queue one; served afterwards: ${queued.served}`,
  ];
}

async function makeEngine(): Promise<Engine> {
  const definition = chainOf("lstm", tokenCell(4));
  const kernel = new SimulatedKernel(definition.cells, { maxBatch: ROWS });
  const model = await loadModel(definition, kernel, { maxBatch: ROWS });
  return new Engine({ models: [model], policy: policies.cellular, clock: wallClock });
}

async function rowCost(length: number, tasks: number): Promise<number> {
  const engine = await makeEngine();
  const writer = new PacketWriter();
  let next = 0;
  const fill = () => {
    while (engine.active < ROWS + 16) {
      for (let i = 0; i < 16; i++) submit(writer, next++, length);
      engine.receive(writer.take());
    }
  };
  fill();
  for (let task = 0; task < 100; task++) engine.step();
  const from = engine.cells;
  let ms = 0;
  for (let task = 0; task < tasks; task++) {
    fill();
    const start = performance.now();
    engine.step();
    if (!engine.outbox.isEmpty) engine.outbox.take();
    ms += performance.now() - start;
  }
  return (ms * 1e6) / (engine.cells - from);
}

async function queueCost(requests: number) {
  const engine = await makeEngine();
  const writer = new PacketWriter();
  const memory = () => {
    collectGarbage();
    const { heapUsed, arrayBuffers, external } = process.memoryUsage();
    return heapUsed + Math.max(arrayBuffers, external);
  };
  const before = memory();
  const start = performance.now();
  for (let id = 0; id < requests; ) {
    for (let i = 0; i < 100; i++) submit(writer, id++, 24);
    engine.receive(writer.take());
  }
  const admitUs = ((performance.now() - start) * 1000) / requests;
  const bytes = memory() - before;
  while (engine.step()) if (!engine.outbox.isEmpty) engine.outbox.take();
  return { requests, bytes, admitUs, served: requests - engine.active };
}
