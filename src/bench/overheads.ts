import { MessageChannel, type MessagePort, Worker } from "node:worker_threads";
import type { ModelDefinition } from "../../models/definition.ts";
import type { Profile, ProfileOverheads } from "../core/profile.ts";
import type { Tensor } from "../core/tensor.ts";
import { requestsFor } from "../load/requests.ts";
import { median } from "../load/statistics.ts";
import { createRuntime } from "../runtime/create.ts";
import { measureEngine, type SizedInputs } from "./engine-costs.ts";
import { measureLone } from "./lone-requests.ts";
import { inputShapes } from "./model-service.ts";

/**
 * Measures what a server adds to the calls of its kernels, in some seconds: the engine's own work on this thread, then the way to
 * an engine's thread and back. Undefined for programs that are neither chains nor whole graphs: their requests have no one size.
 */
export async function measureOverheads(
  definition: ModelDefinition,
  profile: Profile,
  threads: number,
): Promise<ProfileOverheads | undefined> {
  const { kind } = definition.program;
  if (kind !== "chain" && kind !== "graph") return undefined;
  const { text: _, ...tensorsOnly } = definition;
  const make = requestsFor(inputShapes(tensorsOnly));
  const inputs: SizedInputs = (number, size) => {
    const made = make(number, size);
    return definition.inputs.map(({ name }) => made[name] as Tensor);
  };
  const sizes = sizesOf(definition, profile);
  const costs = await measureEngine(definition, profile, { threads, inputs, sizes });
  const publishUs = await publishing();
  const runtime = await createRuntime({ models: [definition], engines: 1, threads, profiles: [profile] });
  try {
    const way = await measureLone(runtime, definition.name, (size) => make(size, size), sizes);
    return rounded({ threads, ...costs, publishUs, ...way });
  } finally {
    await runtime.close(0);
  }
}

/** Microseconds of handing a packet to a thread that sleeps in its event loop. */
async function publishing(): Promise<number> {
  const { port1, port2 } = new MessageChannel();
  const listener = new Worker("require('node:worker_threads').workerData.on('message', () => {})", {
    eval: true,
    workerData: port2,
    transferList: [port2 as MessagePort],
  });
  const seen: number[] = [];
  for (let i = 0; i < PUBLISHED; i++) {
    await new Promise((resolve) => setTimeout(resolve, 1));
    const packet = new ArrayBuffer(1024);
    const from = performance.now();
    port1.postMessage({ kind: "packet", packet }, [packet]);
    seen.push((performance.now() - from) * 1000);
  }
  await listener.terminate();
  return median(seen);
}

/** A graph is not profiled beyond its largest size, and where it is, it is known best. */
function sizesOf({ program, maxInputSteps = LARGEST }: ModelDefinition, { cells }: Profile): number[] {
  if (program.kind === "graph") {
    const profiled = [...new Set(cells[0]!.settings.flatMap(({ size }) => size ?? []))];
    const stride = Math.ceil(profiled.length / MOST_SIZES);
    return profiled
      .sort((a, b) => b - a)
      .filter((_, i) => i % stride === 0)
      .reverse();
  }
  const most = Math.min(maxInputSteps, LARGEST);
  const sizes = SIZES.filter((size) => size <= most);
  return sizes.length > 0 ? sizes : [most];
}

function rounded(overheads: ProfileOverheads): ProfileOverheads {
  const short = (value: number) => Number(value.toPrecision(3));
  const { threads, idle, ...costs } = overheads;
  const named = Object.fromEntries(Object.entries(costs).map(([name, us]) => [name, short(us)]));
  return {
    ...overheads,
    ...named,
    threads,
    idle: idle.map(({ afterMs, us }) => ({ afterMs, us: short(us) })),
  };
}

const SIZES = [4, 16, 24, 64];
const LARGEST = 64;
const MOST_SIZES = 5;
const PUBLISHED = 160;
