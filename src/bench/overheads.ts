import { MessageChannel, type MessagePort, Worker } from "node:worker_threads";
import type { ModelDefinition } from "../../models/definition.ts";
import { Fault } from "../core/faults.ts";
import type { Profile, ProfileOverheads } from "../core/profile.ts";
import { requestsFor } from "../load/requests.ts";
import { median } from "../load/statistics.ts";
import { createRuntime } from "../runtime/create.ts";
import { ENGINE_ROUNDS, measureEngine } from "./engine-costs.ts";
import { LONE_ROUNDS, measureLone } from "./lone-requests.ts";
import { inputShapes } from "./model-service.ts";
import type { SizedRequest } from "./sized-requests.ts";

/** Whether the size of a request is its number of steps, all of one cell. */
export function hasOneSize({ program: { kind } }: ModelDefinition): boolean {
  return kind === "chain" || kind === "generate" || kind === "graph";
}

/** How many rounds measuring takes at most. */
export const OVERHEAD_ROUNDS = ENGINE_ROUNDS + LONE_ROUNDS;

/**
 * Measures what a server adds to the calls of its kernels, in some seconds: the engine's own work on this thread, then the way to
 * an engine's thread and back; `round` is called for every round of it. A request of a size has as many steps; one that generates
 * is given half of them. Throws INVALID_REQUEST for a model that `hasOneSize` says no of.
 */
export async function measureOverheads(
  definition: ModelDefinition,
  profile: Profile,
  threads: number,
  round = () => {},
): Promise<ProfileOverheads> {
  if (!hasOneSize(definition)) {
    const message = `requests to '${definition.name}' have no one size, for its program is '${definition.program.kind}'`;
    throw new Fault("INVALID_REQUEST", message);
  }
  const { text: _, ...tensorsOnly } = definition;
  const make = requestsFor(inputShapes(tensorsOnly));
  const request = (number: number, size: number): SizedRequest => {
    const given = definition.program.kind === "generate" ? Math.ceil(size / 2) : size;
    return { inputs: make(number, given) as SizedRequest["inputs"], maxSteps: Math.max(1, size - given) };
  };
  const sizes = sizesOf(definition, profile);
  const options = { request, sizes, round };
  const costs = await measureEngine(definition, profile, threads, options);
  const publishUs = await publishing();
  const runtime = await createRuntime({ models: [definition], engines: 1, threads, profiles: [profile] });
  try {
    return rounded({
      threads,
      ...costs,
      publishUs,
      ...(await measureLone(runtime, definition.name, options)),
    });
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
