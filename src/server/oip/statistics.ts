import type { Fault, FaultCode } from "../../core/faults.ts";
import type { Listener, RequestOptions, Runtime, SessionHandle, Usage, Values } from "../../runtime/types.ts";

/** How often something happened and how long it took in all. */
export interface Duration {
  readonly count: number;
  readonly ns: number;
}

/** How one request went; times in milliseconds. */
export interface Served {
  readonly code: "OK" | FaultCode;
  readonly totalMs: number;
  readonly queueMs: number;
  readonly computeMs: number;
  readonly cells: number;
  /** Of a streamed request: until its first output; and the mean between its outputs, where it had more than one. */
  readonly firstMs?: number;
  readonly perOutputMs?: number;
  /** What `trace` made of it when it was accepted. */
  readonly parent?: unknown;
  /** Why it failed. */
  readonly fault?: Fault;
  /** What a request was asked with, where `keepsInputs`; not of sessions, which may be long. */
  readonly inputs?: Values;
}

/** Which version of which model. */
export interface Counted {
  readonly name: string;
  readonly version: string;
}

interface Sums {
  lastMs: number;
  inferences: number;
  cells: number;
  readonly success: Sum;
  readonly fail: Sum;
  readonly queue: Sum;
  readonly compute: Sum;
  readonly reasons: Record<string, number>;
}

/** What Triton calls the reasons of failures; others are OTHER. */
const TRITON_REASONS: Partial<Record<FaultCode, string>> = {
  CANCELLED: "CANCELED",
  OVERLOADED: "REJECTED",
  DEADLINE_EXCEEDED: "REJECTED",
  SHUTTING_DOWN: "REJECTED",
  RATE_LIMITED: "REJECTED",
  INTERNAL: "BACKEND",
};

interface Totals {
  readonly count: number;
  readonly ms: number;
}

/** Counts requests of every door by version of a model. `now` is the time since the epoch in milliseconds. */
export class Statistics {
  readonly #models = new Map<string, Sums>();
  /** Whether observers want to see the inputs of requests, which are then kept until they have ended. */
  readonly keepsInputs: boolean;
  readonly #now: () => number;
  readonly #observers: ((model: string, served: Served) => void)[] = [];

  constructor(now: () => number, keepsInputs = false) {
    this.keepsInputs = keepsInputs;
    this.#now = now;
  }

  /** What is around the request that is accepted now, for those who trace; nothing where nobody does. */
  parentOf: (traceparent: string | undefined) => unknown = () => undefined;

  /** `parentOf` is asked for the parent of every request from here on. */
  trace(parentOf: (traceparent: string | undefined) => unknown): void {
    this.parentOf = parentOf;
  }

  /** `observer` is told of every request from here on, by the name of its model. */
  observe(observer: (model: string, served: Served) => void): void {
    this.#observers.push(observer);
  }

  add({ name, version }: Counted, served: Served): void {
    for (const observer of this.#observers) observer(name, served);
    const { code, totalMs, queueMs, computeMs, cells } = served;
    const sums = this.#of(name, version);
    if (code !== "OK") {
      sums.fail.add(totalMs);
      const reason = TRITON_REASONS[code] ?? "OTHER";
      sums.reasons[reason] = (sums.reasons[reason] ?? 0) + 1;
      return;
    }
    sums.lastMs = Math.round(this.#now());
    sums.inferences++;
    sums.cells += cells;
    sums.success.add(totalMs);
    sums.queue.add(queueMs);
    sums.compute.add(computeMs);
  }

  /** The sums that Triton's metrics have; failures by Triton's reasons. */
  sums({ name, version }: Counted): {
    readonly success: Totals;
    readonly queue: Totals;
    readonly compute: Totals;
    readonly fail: Readonly<Record<string, number>>;
  } {
    const { success, queue, compute, reasons } = this.#of(name, version);
    return { success: success.totals, queue: queue.totals, compute: compute.totals, fail: reasons };
  }

  /** Triton's `ModelStatistics` with the names of its proto. An inference is a request, an execution is one cell of one. */
  of(name: string, version: string): Record<string, unknown> {
    const { lastMs, inferences, cells, success, fail, queue, compute } = this.#of(name, version);
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

  #of(name: string, version: string): Sums {
    const model = `${name}\0${version}`;
    let sums = this.#models.get(model);
    if (!sums) {
      const [success, fail, queue, compute] = [new Sum(), new Sum(), new Sum(), new Sum()];
      sums = { lastMs: 0, inferences: 0, cells: 0, success, fail, queue, compute, reasons: {} };
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

  get totals(): Totals {
    return { count: this.#count, ms: this.#ms };
  }

  get value(): Duration {
    return { count: this.#count, ns: Math.round(this.#ms * 1e6) };
  }
}

/** What a door needs of a runtime. Its options may hold a `traceparent`; see `DoorOptions`. */
export type Doorway = Pick<Runtime, "models" | "submit" | "open" | "stats">;

/** Options of a request that came through a door. */
export interface DoorOptions extends RequestOptions {
  /** Of W3C Trace Context: the client's span. */
  readonly traceparent?: string | undefined;
}

/** The runtime, with every request and session that is handed to it counted when it ends. */
export function counted(runtime: Runtime, statistics: Statistics): Doorway {
  const count = (
    model: Counted,
    listener: Listener,
    isSession: boolean,
    { traceparent }: DoorOptions,
    inputs?: Values,
  ): Listener => {
    const asked = inputs && statistics.keepsInputs ? { inputs } : {};
    const parent = statistics.parentOf(traceparent);
    const startMs = performance.now();
    let firstMs = 0;
    let outputs = 0;
    const add = (code: Served["code"], { queueMs, computeMs, cells }: Usage, fault?: Fault) => {
      const nowMs = performance.now();
      const totalMs = nowMs - startMs;
      const first = outputs > 0 ? { firstMs: firstMs - startMs } : {};
      const each = outputs > 1 ? { perOutputMs: (nowMs - firstMs) / (outputs - 1) } : {};
      statistics.add(model, {
        code,
        totalMs,
        queueMs,
        computeMs,
        cells,
        parent,
        ...first,
        ...each,
        ...asked,
        ...(fault ? { fault } : {}),
      });
    };
    const { output } = listener;
    const timed: Listener["output"] = (step) => {
      // The last one comes with the result, so the clock is read twice per request and not at every output.
      if (outputs++ === 0) firstMs = performance.now();
      output!(step);
    };
    return {
      ...listener,
      // A session's outputs follow its inputs, so their times say how fast the client is.
      ...(output && !isSession ? { output: timed } : {}),
      done: (result) => {
        add("OK", result.usage);
        listener.done(result);
      },
      failed: (fault) => {
        add(fault.code, NO_USAGE, fault);
        listener.failed(fault);
      },
      suspended: (state, evicted) => {
        add(evicted === undefined ? "OK" : "MODEL_NOT_READY", NO_USAGE);
        listener.suspended?.(state, evicted);
      },
    };
  };
  /** The version that the runtime will choose. */
  const versionOf = (name: string, { version }: RequestOptions): Counted => ({
    name,
    version: version ?? runtime.models.find((model) => model.name === name)?.version ?? "",
  });
  const countForks = (model: Counted, session: SessionHandle, options: DoorOptions): SessionHandle => ({
    ...session,
    fork: (listener) => countForks(model, session.fork(count(model, listener, true, options)), options),
  });
  return {
    get models() {
      return runtime.models;
    },
    stats: () => runtime.stats(),
    submit: (name, inputs, options, listener) =>
      runtime.submit(
        name,
        inputs,
        options,
        count(versionOf(name, options), listener, false, options, inputs),
      ),
    open: (name, options, listener) => {
      const model = versionOf(name, options);
      return countForks(model, runtime.open(name, options, count(model, listener, true, options)), options);
    },
  };
}

const NO_USAGE: Usage = { cells: 0, queueMs: 0, computeMs: 0 };
