import type { Listener, Runtime, SessionHandle, Usage } from "../../runtime/types.ts";

/** How often something happened and how long it took in all. */
export interface Duration {
  readonly count: number;
  readonly ns: number;
}

/** How one request went; times in milliseconds. */
export interface Served {
  readonly isSuccess: boolean;
  readonly totalMs: number;
  readonly queueMs: number;
  readonly computeMs: number;
  readonly cells: number;
}

interface Sums {
  lastMs: number;
  inferences: number;
  cells: number;
  readonly success: Sum;
  readonly fail: Sum;
  readonly queue: Sum;
  readonly compute: Sum;
}

/** Counts requests of every door by model. `now` is the time since the epoch in milliseconds. */
export class Statistics {
  readonly #models = new Map<string, Sums>();
  readonly #now: () => number;

  constructor(now: () => number) {
    this.#now = now;
  }

  add(model: string, { isSuccess, totalMs, queueMs, computeMs, cells }: Served): void {
    const sums = this.#of(model);
    if (!isSuccess) {
      sums.fail.add(totalMs);
      return;
    }
    sums.lastMs = Math.round(this.#now());
    sums.inferences++;
    sums.cells += cells;
    sums.success.add(totalMs);
    sums.queue.add(queueMs);
    sums.compute.add(computeMs);
  }

  /** Triton's `ModelStatistics` with the names of its proto. An inference is a request, an execution is one cell of one. */
  of(name: string, version: string): Record<string, unknown> {
    const { lastMs, inferences, cells, success, fail, queue, compute } = this.#of(name);
    const none = { count: 0, ns: 0 };
    const instant = { count: success.value.count, ns: 0 };
    return {
      name,
      version,
      last_inference: lastMs,
      inference_count: inferences,
      execution_count: cells,
      inference_stats: {
        success: success.value,
        fail: fail.value,
        queue: queue.value,
        compute_input: instant,
        compute_infer: compute.value,
        compute_output: instant,
        cache_hit: none,
        cache_miss: none,
      },
      response_stats: {},
      batch_stats: [],
      memory_usage: [],
    };
  }

  #of(model: string): Sums {
    let sums = this.#models.get(model);
    if (!sums) {
      const [success, fail, queue, compute] = [new Sum(), new Sum(), new Sum(), new Sum()];
      sums = { lastMs: 0, inferences: 0, cells: 0, success, fail, queue, compute };
      this.#models.set(model, sums);
    }
    return sums;
  }
}

class Sum {
  #count = 0;
  #ms = 0;

  add(ms: number): void {
    this.#count++;
    this.#ms += ms;
  }

  get value(): Duration {
    return { count: this.#count, ns: Math.round(this.#ms * 1e6) };
  }
}

/** What a door needs of a runtime. */
export type Doorway = Pick<Runtime, "models" | "submit" | "open" | "stats">;

/** The runtime, with every request and session that is handed to it counted when it ends. */
export function counted(runtime: Runtime, statistics: Statistics): Doorway {
  const count = (model: string, listener: Listener): Listener => {
    const startMs = performance.now();
    const add = (isSuccess: boolean, { queueMs, computeMs, cells }: Usage) =>
      statistics.add(model, { isSuccess, totalMs: performance.now() - startMs, queueMs, computeMs, cells });
    return {
      ...listener,
      done: (result) => {
        add(true, result.usage);
        listener.done(result);
      },
      failed: (fault) => {
        add(false, NO_USAGE);
        listener.failed(fault);
      },
      suspended: (state) => {
        add(true, NO_USAGE);
        listener.suspended?.(state);
      },
    };
  };
  const countForks = (model: string, session: SessionHandle): SessionHandle => ({
    ...session,
    fork: (listener) => countForks(model, session.fork(count(model, listener))),
  });
  return {
    get models() {
      return runtime.models;
    },
    stats: () => runtime.stats(),
    submit: (model, inputs, options, listener) =>
      runtime.submit(model, inputs, options, count(model, listener)),
    open: (model, options, listener) =>
      countForks(model, runtime.open(model, options, count(model, listener))),
  };
}

const NO_USAGE: Usage = { cells: 0, queueMs: 0, computeMs: 0 };
