import { once } from "node:events";
import { createWriteStream, statSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { type Plan, parsePlan } from "../../planner/plan.ts";
import { Adapter, type Decision } from "../adapt/adapter.ts";
import { planInThread } from "../adapt/plan-thread.ts";
import { wallClock } from "../core/clock.ts";
import { Fault } from "../core/faults.ts";
import { parseProfile } from "../core/profile.ts";
import { tooLarge } from "../core/recording.ts";
import type { BufferChange, Runtime } from "../runtime/types.ts";

/** Reads the plan of a server. Throws INVALID_REQUEST where it is one for functions. */
export async function serverPlan(file: string): Promise<Plan> {
  const text = await readFile(file, "utf8").catch((cause: Error) => {
    throw new Fault("INVALID_REQUEST", `plan ${file} cannot be read: ${cause.message}`, { cause });
  });
  const plan = parsePlan(text, file);
  if (plan.target !== "server")
    throw new Fault("INVALID_REQUEST", `plan ${file} is for functions: use it with 'cellbatch gateway'`);
  return plan;
}

/** Lets a runtime obey a plan. Throws INVALID_REQUEST where the plan's model is not served, or is of another lane. */
export function obey(runtime: Runtime, plan: Plan): void {
  const model = runtime.models.find(({ name }) => name === plan.model);
  if (!model) {
    const served = runtime.models.map(({ name }) => name).join(", ");
    throw new Fault(
      "INVALID_REQUEST",
      `the plan is for model '${plan.model}', which is not served; there are ${served}`,
    );
  }
  if (plan.lane === "graph") runtime.setBuffers(plan.model, changeOf(plan));
}

function changeOf({ buffers, eager = true }: Plan): BufferChange {
  return {
    eager,
    buffers: buffers.map(({ upTo, maxBatch, timeoutMs }) => ({
      maxBatch,
      timeoutMs,
      ...(upTo === undefined ? {} : { upTo }),
    })),
  };
}

/** What plans again for a model that is served when its arrivals change. */
export async function adapterFor(
  runtime: Runtime,
  plan: Plan,
  profiles: readonly string[],
  options: { readonly threads: number; readonly decided: (decision: Decision) => void },
): Promise<Adapter> {
  if (plan.lane !== "graph")
    throw new Fault(
      "INVALID_REQUEST",
      `model '${plan.model}' has no buffers to adapt: it is served in the cellular lane`,
    );
  const read = await Promise.all(
    profiles.map(async (file) => parseProfile(await readFile(file, "utf8"), file)),
  );
  const profile = read.find(({ model }) => model.name === plan.model);
  if (!profile)
    throw new Fault(
      "INVALID_REQUEST",
      `--adapt needs a --profile of model '${plan.model}': 'cellbatch profile' writes one`,
    );
  const cell = profile.cells[0]!.cell;
  return new Adapter({
    model: plan.model,
    planned: plan.arrivals,
    running: changeOf(plan),
    clock: wallClock,
    plan: (trace, signal) =>
      planInThread(
        {
          profile,
          cell,
          threads: options.threads,
          trace,
          goal: plan.goal,
          engines: runtime.stats().engines,
          buffers: plan.method === "batch" ? [1] : [1, 2, 4, 8],
        },
        signal,
      ),
    swap: (change) => runtime.setBuffers(plan.model, change),
    decided: options.decided,
  });
}

export interface RecorderSettings {
  readonly path: string;
  /** Bytes that the file may have, with what others write to it. */
  readonly limit: number;
  /** Called once where the file would be larger; nothing is recorded from then on. */
  readonly full: (message: string) => void;
}

/** Writes when each request came, and how large it was, to the end of a file. */
export class Recorder {
  readonly #settings: RecorderSettings;
  readonly #file: ReturnType<typeof createWriteStream>;
  #isFull = false;
  readonly #failed: Promise<never>;
  /** Lines that are not written yet: a write for each would cost more than the request's own bookkeeping. */
  #lines = "";
  #timer: NodeJS.Timeout | undefined;

  private constructor(settings: RecorderSettings, file: ReturnType<typeof createWriteStream>) {
    this.#settings = settings;
    this.#file = file;
    this.#failed = once(file, "error").then(([error]) => Promise.reject(error));
    this.#failed.catch(() => {});
  }

  static async open(settings: RecorderSettings): Promise<Recorder> {
    const { path } = settings;
    const file = createWriteStream(path, { flags: "a" });
    await once(file, "open").catch((cause: Error) => {
      throw new Fault("INVALID_REQUEST", `trace ${path} cannot be written: ${cause.message}`, { cause });
    });
    return new Recorder(settings, file);
  }

  /** Times are of the machine's clock, so that a trace goes on where a server was started again. */
  arrived(size: number): void {
    if (this.#isFull) return;
    this.#lines += `${(performance.timeOrigin + performance.now()).toFixed(3)},${size}\n`;
    this.#timer ??= setTimeout(() => this.#flush(), LONGEST_GATHERING_MS);
  }

  async close(): Promise<void> {
    clearTimeout(this.#timer);
    this.#flush();
    this.#file.end();
    await Promise.race([once(this.#file, "close"), this.#failed]);
  }

  #flush(): void {
    this.#timer = undefined;
    const lines = this.#lines;
    this.#lines = "";
    const { path, limit, full } = this.#settings;
    if ((statSync(path, { throwIfNoEntry: false })?.size ?? 0) + lines.length > limit) {
      this.#isFull = true;
      full(tooLarge(path, limit));
    } else {
      this.#file.write(lines);
    }
  }
}

/** A server that dies loses at most the arrivals of this time. */
const LONGEST_GATHERING_MS = 500;
