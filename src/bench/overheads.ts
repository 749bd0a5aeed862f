import { MessageChannel, type MessagePort, Worker } from "node:worker_threads";
import type { ModelDefinition } from "../../models/definition.ts";
import type { Profile, ProfileOverheads } from "../core/profile.ts";
import type { Tensor } from "../core/tensor.ts";
import { requestsFor } from "../load/requests.ts";
import { createRuntime } from "../runtime/create.ts";
import type { Runtime } from "../runtime/types.ts";
import { measureEngine, type SizedInputs } from "./engine-costs.ts";
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
  const sizes = sizesOf(definition);
  const costs = await measureEngine(definition, profile, { threads, inputs, sizes });
  const publishUs = await publishing();
  const runtime = await createRuntime({ models: [definition], engines: 1, threads, profiles: [profile] });
  try {
    const ask = (size: number) => lone(runtime, definition.name, make(size, size));
    return rounded({ threads, ...costs, publishUs, ...(await measureWay(ask, sizes)) });
  } finally {
    await runtime.close(0);
  }
}

/** The whole of a lone request, and what of it was not the engine's, in microseconds. */
interface Lone {
  readonly totalUs: number;
  readonly wayUs: number;
}

async function measureWay(
  ask: (size: number) => Promise<Lone>,
  sizes: readonly number[],
): Promise<Pick<ProfileOverheads, "hopUs" | "sizeUs" | "idle">> {
  const [small, middle, large] = [sizes[0]!, sizes[Math.floor(sizes.length / 2)]!, sizes.at(-1)!];
  const goes = [
    ...[small, middle, large].map((size) => ({ size, afterMs: 0, seen: [] as Lone[] })),
    ...IDLE_MS.map((afterMs) => ({ size: middle, afterMs, seen: [] as Lone[] })),
  ];
  for (const { size } of goes) for (let i = 0; i < LONE; i++) await ask(size);
  for (let round = 0; round < ROUNDS; round++) {
    for (const { size, afterMs, seen } of goes) {
      for (let i = 0; i < LONE; i++) {
        if (afterMs > 0) await new Promise((resolve) => setTimeout(resolve, afterMs));
        seen.push(await ask(size));
      }
    }
  }
  const [few, busy, many, ...later] = goes.map(({ afterMs, seen }) => ({
    afterMs,
    wayUs: undisturbed(seen.map(({ wayUs }) => wayUs)),
    totalUs: undisturbed(seen.map(({ totalUs }) => totalUs)),
  }));
  const sizeUs = large > small ? Math.max(0, (many!.wayUs - few!.wayUs) / (large - small)) : 0;
  return {
    hopUs: Math.max(0, few!.wayUs - small * sizeUs),
    sizeUs,
    idle: later.map(({ afterMs, totalUs }) => ({ afterMs, us: Math.max(0, totalUs - busy!.totalUs) })),
  };
}

/** Below the median, since others on the machine only ever add to it. */
function undisturbed(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(UNDISTURBED * values.length)]!;
}

function lone(runtime: Runtime, model: string, inputs: Parameters<Runtime["submit"]>[1]): Promise<Lone> {
  return new Promise((resolve, reject) => {
    const from = performance.now();
    runtime.submit(
      model,
      inputs,
      {},
      {
        done: ({ usage }) => {
          const ms = performance.now() - from;
          resolve({ totalUs: ms * 1000, wayUs: (ms - usage.queueMs - usage.computeMs) * 1000 });
        },
        failed: reject,
      },
    );
  });
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
  for (let i = 0; i < 4 * LONE; i++) {
    await new Promise((resolve) => setTimeout(resolve, 1));
    const packet = new ArrayBuffer(1024);
    const from = performance.now();
    port1.postMessage({ kind: "packet", packet }, [packet]);
    seen.push((performance.now() - from) * 1000);
  }
  await listener.terminate();
  return undisturbed(seen);
}

function sizesOf({ program, maxInputSteps = LARGEST }: ModelDefinition): number[] {
  const bounds = program.kind === "graph" ? program.buffers.flatMap(({ upTo }) => upTo ?? []) : [];
  const most = Math.min(maxInputSteps, ...bounds, LARGEST);
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
/** Requests of each kind in a round. */
const LONE = 40;
const ROUNDS = 3;
const UNDISTURBED = 0.4;
const IDLE_MS = [1, 3, 10];
