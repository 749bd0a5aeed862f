import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads";
import { WebSocket } from "ws";
import { chainOf, tokenCell } from "../../src/bench/synthetic.ts";
import { int32 } from "../../src/core/tensor.ts";
import { median } from "../../src/load/statistics.ts";
import { createRuntime } from "../../src/runtime/create.ts";
import type { Runtime } from "../../src/runtime/types.ts";
import { startServer } from "../../src/server/server.ts";

const CLIENTS = 200;
const HIDDEN = 256;
const STEPS = 24;
const WINDOW_MS = 1500;
const ROUNDS = 5;

/**
 * Cells per second of one engine with 200 WebSocket clients against the same engine called as a library. The clients run
 * on a third thread, which takes its part of the machine: the ratio is that of a server whose clients live beside it.
 */
export async function measureWebSocket(): Promise<string[]> {
  const runtime = await createRuntime({ models: [chainOf("lstm", tokenCell(HIDDEN))], engines: 1 });
  const server = await startServer({ runtime, port: 0 });
  const ratios: number[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    const library = await withLibrary(runtime);
    const clients = new Worker(new URL(import.meta.url), { workerData: { port: server.port } });
    await new Promise((resolve) => clients.once("message", resolve));
    ratios.push((await rateOf(runtime)) / library);
    await clients.terminate();
    while (runtime.stats().active > 0) await sleep(10);
  }
  await server.close(0);
  await runtime.close(0);
  const ratio = median(ratios);
  return [
    `h=${HIDDEN}, ${CLIENTS} clients: ${ratio.toFixed(3)} of the engine's cells per second (goal 0.9: ${ratio >= 0.9 ? "reached" : "MISSED"}; rounds ${ratios.map((one) => one.toFixed(3)).join(" ")})`,
  ];
}

async function withLibrary(runtime: Runtime): Promise<number> {
  let running = true;
  const client = async () => {
    while (running) await runtime.run("lstm", { token: int32([STEPS], new Int32Array(STEPS)) });
  };
  const clients = Array.from({ length: CLIENTS }, client);
  const rate = await rateOf(runtime);
  running = false;
  await Promise.all(clients);
  return rate;
}

async function rateOf(runtime: Runtime): Promise<number> {
  await sleep(300);
  const from = runtime.stats().cells;
  const start = performance.now();
  await sleep(WINDOW_MS);
  return (runtime.stats().cells - from) / (performance.now() - start);
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** Clients that ask again as soon as they are answered. */
async function ask(port: number): Promise<void> {
  const inputs = { token: { datatype: "INT32", shape: [STEPS], data: new Array(STEPS).fill(0) } };
  const question = JSON.stringify({
    type: "infer",
    id: "1",
    model: "lstm",
    inputs,
    parameters: { stream: false },
  });
  const sockets = Array.from(
    { length: CLIENTS },
    () => new WebSocket(`ws://127.0.0.1:${port}/v1/stream`, "cellbatch.v1"),
  );
  await Promise.all(sockets.map((ws) => new Promise((resolve) => ws.once("open", resolve))));
  for (const ws of sockets) {
    ws.on("message", () => ws.send(question));
    ws.send(question);
  }
  parentPort!.postMessage("asking");
}

if (!isMainThread && workerData?.port) void ask(workerData.port);
