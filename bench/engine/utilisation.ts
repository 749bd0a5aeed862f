import { policies } from "../../scheduler/policy.ts";
import { chainOf, tokenCell } from "../../src/bench/synthetic.ts";
import { wallClock } from "../../src/core/clock.ts";
import { Engine } from "../../src/engine/engine.ts";
import { kernelsFor } from "../../src/engine/kernels.ts";
import { loadModel } from "../../src/engine/model.ts";
import { PacketWriter } from "../../src/engine/packet.ts";
import { submit } from "./submit.ts";

const ROWS = 64;
const WINDOW_MS = 2000;
/** V8 compiles the engine's code in its first seconds under load. */
const WARM_MS = 1500;

/**
 * Which part of a saturated engine's time its kernel has, with requests of 12 to 35 steps that come and go. On one thread and
 * within one run, so that what else the machine does hardly matters; the crossing between threads is in `saturation`.
 */
export async function measureUtilisation(): Promise<string[]> {
  const lines: string[] = [];
  const load = await kernelsFor({ device: "cpu", session: { threads: 1 } });
  for (const [hidden, goal] of [
    [128, 0.93],
    [256, 0.97],
    [1024, 0.97],
  ] as const) {
    const definition = chainOf("lstm", tokenCell(hidden));
    const kernel = await load(definition.cells);
    const model = await loadModel(definition, kernel, { maxBatch: ROWS });
    const engine = new Engine({ models: [model], policy: policies.cellular, clock: wallClock });
    const run = kernel.run.bind(kernel);
    let inside = 0;
    kernel.run = (task) => {
      const start = performance.now();
      run(task);
      inside += performance.now() - start;
    };
    const writer = new PacketWriter();
    let id = 0;
    /** Keeps the engine full; answers how long. */
    const serve = (ms: number) => {
      const start = performance.now();
      while (performance.now() - start < ms) {
        for (let missing = 2 * ROWS - engine.active; missing > 0; missing--) {
          submit(writer, id, 12 + ((id * 7) % 24));
          id++;
        }
        if (!writer.isEmpty) engine.receive(writer.take());
        engine.step();
        if (!engine.outbox.isEmpty) engine.outbox.take();
      }
      return performance.now() - start;
    };
    serve(WARM_MS);
    inside = 0;
    const { tasks, cells } = engine;
    const servedMs = serve(WINDOW_MS);
    const share = inside / servedMs;
    await engine.dispose();
    lines.push(
      `h=${String(hidden).padEnd(5)} rows=${ROWS}  ${kernel.name} kernel ${(100 * share).toFixed(1)} % of the time (goal ${100 * goal} %: ${share >= goal ? "reached" : "MISSED"}), ` +
        `${((1000 * inside) / (engine.tasks - tasks)).toFixed(0)} us per task, ${((engine.cells - cells) / (engine.tasks - tasks)).toFixed(1)} rows`,
    );
  }
  return lines;
}
