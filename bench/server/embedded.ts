import { float32 } from "../../src/core/tensor.ts";
import { createRuntime } from "../../src/runtime/create.ts";
import { INPUT, MODEL, modelFolder, SAMPLES, samples } from "./model.ts";

export interface FromEmbedded {
  readonly cellsPerSecond: number;
  /** Of all threads. */
  readonly cpuUsPerCell: number;
}

/** Inputs that a session keeps in flight, as the clients of the server do. */
const WINDOW = 1;
const WARM_MS = 1000;

/** Cells per second of the same engine without a server: as many sessions that push again as soon as they are answered. */
process.on("message", async ({ active, seconds }: { active: number; seconds: number }) => {
  let running = true;
  const input = { [INPUT]: float32([SAMPLES], samples()) };
  const ended = Array.from({ length: active }, () => {
    return new Promise<void>((resolve, reject) => {
      const session = runtime.open(
        MODEL,
        {},
        {
          output: () => {
            if (running) session.push(input);
            else session.end();
          },
          done: () => resolve(),
          failed: reject,
        },
      );
      for (let i = 0; i < WINDOW; i++) session.push(input);
    });
  });
  await sleep(WARM_MS);
  const from = { cells: runtime.stats().cells, atMs: performance.now(), cpu: process.cpuUsage() };
  await sleep(seconds * 1000);
  const cells = runtime.stats().cells - from.cells;
  const { user, system } = process.cpuUsage(from.cpu);
  const cellsPerSecond = (cells * 1000) / (performance.now() - from.atMs);
  process.send!({ cellsPerSecond, cpuUsPerCell: (user + system) / cells } satisfies FromEmbedded);
  running = false;
  await Promise.all(ended);
});

const runtime = await createRuntime({ models: [modelFolder()], engines: 1, maxActive: 100_000 });
process.send!("ready");

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
