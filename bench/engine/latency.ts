import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads";
import { OnnxKernel } from "../../kernels/onnx/onnx.ts";
import { chainOf, lstmCell } from "../../src/bench/synthetic.ts";
import { float32 } from "../../src/core/tensor.ts";
import { median } from "../../src/load/statistics.ts";
import { createRuntime } from "../../src/runtime/create.ts";

const STEPS = 24;
const REQUESTS = 300;

/**
 * One request at a time, 24 steps that are all known, against one call of ONNX Runtime's LSTM operator over the whole
 * sequence, both on a thread of their own and both timed there: `compute_ms` and the call. The way to the engine and back
 * is given beside it.
 */
export async function measureLatency(): Promise<string[]> {
  const lines: string[] = [];
  for (const hidden of [128, 256, 512]) {
    const runtime = await createRuntime({ models: [chainOf("lstm", lstmCell(hidden))], engines: 1 });
    const whole = new Worker(new URL(import.meta.url), { workerData: { whole: hidden } });
    const call = () =>
      new Promise<number>((resolve) => {
        whole.once("message", resolve);
        whole.postMessage("run");
      });
    const x = float32([STEPS, hidden], new Float32Array(STEPS * hidden).fill(0.1));
    const engine: number[] = [];
    const roundTrips: number[] = [];
    const calls: number[] = [];
    for (let i = 0; i < REQUESTS; i++) {
      calls.push(await call());
      const start = performance.now();
      const { usage } = await runtime.run("lstm", { x });
      roundTrips.push(performance.now() - start);
      engine.push(usage.computeMs);
    }
    await whole.terminate();
    await runtime.close(0);
    const ratio = median(engine) / median(calls);
    lines.push(
      `h=${String(hidden).padEnd(4)} whole-sequence call ${us(median(calls))}, engine ${us(median(engine))} = ${ratio.toFixed(2)}x ` +
        `(goal 1.25: ${ratio <= 1.25 ? "reached" : "MISSED"}); from run() to its result ${us(median(roundTrips))}`,
    );
  }
  return lines;
}

function us(ms: number): string {
  return `${(ms * 1000).toFixed(0)} us`;
}

async function wholeSequence(hidden: number): Promise<void> {
  const kernel = await OnnxKernel.load([lstmCell(hidden)], { maxBatch: STEPS, stepSizes: [1, STEPS] });
  kernel.reserve(1);
  const slots = Int32Array.of(0);
  parentPort!.on("message", async () => {
    kernel.clear(0);
    kernel.stage(0, 1, STEPS)[0]!.fill(0.1);
    const start = performance.now();
    await kernel.run({ cell: 0, rows: 1, steps: STEPS, reads: slots, writes: slots });
    parentPort!.postMessage(performance.now() - start);
  });
}

if (!isMainThread && workerData?.whole) void wholeSequence(workerData.whole);
