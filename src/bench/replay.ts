import type { Kernel } from "../../kernels/kernel.ts";
import type { ModelDefinition } from "../../models/definition.ts";
import type { CellSpec } from "../core/cell.ts";
import { cellRuns, withSlots } from "../engine/cell-runs.ts";
import { kernelsFor } from "../engine/kernels.ts";
import { type Lengths, lengthsOf } from "../load/lengths.ts";
import { requestsFor } from "../load/requests.ts";
import { saturate } from "../load/saturate.ts";
import { createRuntime } from "../runtime/create.ts";
import { inputShapes, serviceOf } from "./model-service.ts";

interface Task {
  readonly cell: number;
  readonly rows: number;
  readonly steps: number;
}

export interface ReplaySettings {
  readonly definition: ModelDefinition;
  readonly lengths: Lengths;
  readonly inFlight: number;
  readonly texts?: readonly string[];
  readonly maxSteps?: number;
}

export interface Replay {
  /** Tasks by their rows, of those that were recorded. */
  readonly rows: ReadonlyMap<number, number>;
  /** Runs the recorded tasks back to back, over and over, and answers cells per second. */
  readonly measure: (seconds: number) => Promise<number>;
  readonly close: () => Promise<void>;
}

/**
 * The limit: the very tasks that a saturated engine ran, in their order, on the bare kernel: no scheduler, no requests, no state that
 * joins or leaves. They are recorded on this thread, by the same engine.
 */
export async function recordTasks(settings: ReplaySettings): Promise<Replay> {
  const { definition, lengths, inFlight, texts, maxSteps } = settings;
  const tasks: Task[] = [];
  const served = await kernelsFor({ device: "cpu", session: { threads: 1 } });
  const load = async (cells: readonly CellSpec[]) => {
    const kernel = await served(cells);
    const run = kernel.run.bind(kernel);
    kernel.run = (task) => {
      if (tasks.length < MOST_TASKS) tasks.push({ cell: task.cell, rows: task.rows, steps: task.steps });
      return run(task);
    };
    return kernel;
  };
  const runtime = await createRuntime({
    models: [definition],
    inline: true,
    maxActive: 2 * inFlight,
    kernel: load,
  });
  tasks.length = 0;
  const service = serviceOf(runtime, {
    model: definition.name,
    requests: requestsFor(inputShapes(definition), texts),
    ...(maxSteps === undefined ? {} : { maxSteps }),
  });
  await saturate(service, { lengths: lengthsOf(lengths, 20_000, 1), inFlight, warmSeconds: 0.5, seconds: 1 });
  await runtime.close(0);
  const recorded = tasks.slice(Math.floor(tasks.length / 3));
  const rows = new Map<number, number>();
  for (const task of recorded) rows.set(task.rows, (rows.get(task.rows) ?? 0) + 1);
  const kernel = await served(definition.cells);
  return {
    rows,
    measure: (seconds) => withSlots(kernel, () => replay(kernel, recorded, seconds)),
    close: async () => kernel.dispose(),
  };
}

const MOST_TASKS = 30_000;

async function replay(kernel: Kernel, tasks: readonly Task[], seconds: number): Promise<number> {
  const runs = kernel.cells.map((_, cell) => cellRuns(kernel, cell));
  let cells = 0;
  const start = performance.now();
  for (let at = 0; performance.now() - start < seconds * 1000; at = (at + 1) % tasks.length) {
    const { cell, rows, steps } = tasks[at]!;
    await runs[cell]!(rows, steps);
    cells += rows * steps;
  }
  return (cells * 1000) / (performance.now() - start);
}
