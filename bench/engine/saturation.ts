import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads";
import { OnnxKernel } from "../../kernels/onnx/onnx.ts";
import { chainOf, tokenCell } from "../../src/bench/synthetic.ts";
import { int32 } from "../../src/core/tensor.ts";
import { median } from "../../src/load/statistics.ts";
import { createRuntime } from "../../src/runtime/create.ts";

interface Setting {
  readonly hidden: number;
  readonly rows: number;
  readonly goal: number;
}

const SETTINGS: readonly Setting[] = [
  { hidden: 128, rows: 64, goal: 0.93 },
  { hidden: 256, rows: 64, goal: 0.97 },
  { hidden: 1024, rows: 64, goal: 0.97 },
];
const STEPS = 24;
const ROUNDS = 5;

/**
 * Cells per second of one engine at saturation against the bare kernel back to back, on a thread of its own too, with the
 * same rows. Requests of mixed lengths keep coming, so rows join and leave all the time.
 */
export async function measureSaturation(): Promise<string[]> {
  const lines: string[] = [];
  for (const { hidden, rows, goal } of SETTINGS) {
    const ratios: number[] = [];
    const rates: number[] = [];
    const runtime = await createRuntime({
      models: [chainOf("lstm", tokenCell(hidden))],
      engines: 1,
      maxBatch: rows,
    });
    const kernel = new Worker(new URL(import.meta.url), { workerData: { hidden, rows } });
    const bare = () =>
      new Promise<number>((resolve) => {
        kernel.once("message", resolve);
        kernel.postMessage("run");
      });
    await bare();
    for (let round = 0; round < ROUNDS; round++) {
      const kernelRate = await bare();
      const engineRate = await saturate(runtime, rows);
      rates.push(engineRate);
      ratios.push(engineRate / kernelRate);
    }
    await kernel.terminate();
    await runtime.close(0);
    const ratio = median(ratios);
    const verdict = ratio >= goal ? "reached" : "MISSED";
    lines.push(
      `h=${String(hidden).padEnd(5)} rows=${rows}  engine ${(median(rates) / 1000).toFixed(1).padStart(7)} thousand cells/s, ` +
        `${ratio.toFixed(3)} of the bare kernel (goal ${goal}: ${verdict}; rounds ${ratios.map((one) => one.toFixed(3)).join(" ")})`,
    );
  }
  return lines;
}

async function saturate(runtime: Awaited<ReturnType<typeof createRuntime>>, rows: number): Promise<number> {
  let running = true;
  let seed = 1;
  const client = async () => {
    while (running) {
      seed = (Math.imul(seed, 1_664_525) + 1_013_904_223) | 0;
      const steps = STEPS / 2 + ((seed >>> 16) % STEPS);
      const first = seed & 255;
      const tokens = Int32Array.from({ length: steps }, (_, step) => (first + step * 11) & 255);
      await runtime.run("lstm", { token: int32([steps], tokens) });
    }
  };
  const clients = Array.from({ length: rows * 2 }, client);
  await sleep(100);
  const from = runtime.stats().cells;
  const start = performance.now();
  await sleep(WINDOW_MS);
  const rate = ((runtime.stats().cells - from) / (performance.now() - start)) * 1000;
  running = false;
  await Promise.all(clients);
  return rate;
}

const WINDOW_MS = 1000;

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** The limit: tasks of the same rows back to back, with other tokens each time, as requests bring them. */
async function bareKernel({ hidden, rows }: { hidden: number; rows: number }): Promise<void> {
  const kernel = await OnnxKernel.load([tokenCell(hidden)]);
  kernel.reserve(rows);
  const slots = Int32Array.from({ length: rows }, (_, row) => row);
  const task = { cell: 0, rows, steps: 1, reads: slots, writes: slots };
  parentPort!.on("message", () => {
    let tasks = 0;
    const start = performance.now();
    while (performance.now() - start < WINDOW_MS) {
      const tokens = kernel.stage(0, rows, 1)[0]!;
      for (let row = 0; row < rows; row++) tokens[row] = (row * 37 + tasks * 11) & 255;
      kernel.run(task);
      tasks++;
    }
    parentPort!.postMessage((tasks * rows * 1000) / (performance.now() - start));
  });
}

if (!isMainThread && workerData?.hidden) void bareKernel(workerData);
