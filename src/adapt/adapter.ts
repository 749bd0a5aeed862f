import { type ArrivalProcess, statisticsOf } from "../../planner/arrival-process.ts";
import { type Drift, DriftTest } from "../../planner/drift.ts";
import { fitArrivals } from "../../planner/fit.ts";
import type { Trace } from "../../planner/trace.ts";
import type { Clock } from "../core/clock.ts";
import { Fault } from "../core/faults.ts";
import type { BufferChange } from "../runtime/types.ts";
import type { Replanned } from "./plan-thread.ts";

/** What was decided about the buffers of a model, and why. */
export interface Decision {
  readonly model: string;
  /** On the wall clock, as ISO 8601. */
  readonly at: string;
  readonly action: "swapped" | "kept" | "infeasible" | "failed";
  /** A sentence. */
  readonly reason: string;
  readonly perSecond: { readonly planned: number; readonly seen: number };
  /** What ran until now. */
  readonly before: BufferChange;
  /** The buffers from now on. */
  readonly buffers: BufferChange["buffers"];
  readonly eager: boolean;
  /** At the goal's percentile, where there is a plan. */
  readonly predictedMs?: number;
}

export interface AdapterSettings {
  readonly model: string;
  /** What the buffers that run were planned for. */
  readonly planned: ArrivalProcess;
  readonly running: BufferChange;
  readonly clock: Clock;
  /** Plans for a trace; may take seconds. */
  readonly plan: (trace: Trace, signal: AbortSignal) => Promise<Replanned>;
  readonly swap: (change: BufferChange) => void;
  readonly decided: (decision: Decision) => void;
}

/**
 * Keeps the buffers of one model such as its arrivals ask for: it watches when requests come, and when they come at another
 * rate than was planned for, fits the recent ones, plans again and swaps the buffers. One plan at a time; requests that wait
 * are not concerned.
 */
export class Adapter {
  readonly #settings: AdapterSettings;
  readonly #timesMs: number[] = [];
  readonly #sizes: number[] = [];
  readonly #abort = new AbortController();
  #running: BufferChange;
  #planned: ArrivalProcess;
  #test: DriftTest;
  #drift: { readonly direction: Drift["direction"]; left: number; arrivals: number } | undefined;
  #planning: Promise<void> | undefined;

  constructor(settings: AdapterSettings) {
    this.#settings = settings;
    this.#running = settings.running;
    this.#planned = settings.planned;
    this.#test = new DriftTest(settings.planned);
  }

  /** Notes a request; costs well under a microsecond unless it is the one that makes a plan due. */
  arrived(size: number): void {
    const now = this.#settings.clock.now();
    const before = this.#timesMs.at(-1);
    this.#timesMs.push(now);
    this.#sizes.push(size);
    if (this.#timesMs.length > 2 * WINDOW) {
      this.#timesMs.splice(0, WINDOW);
      this.#sizes.splice(0, WINDOW);
    }
    if (before === undefined || this.#planning) return;
    if (this.#drift) {
      this.#drift.arrivals++;
      if (--this.#drift.left <= 0) this.#replan(this.#drift);
      return;
    }
    const drift = this.#test.arrived(now - before);
    if (!drift) return;
    // The first arrivals after a change are few; a fit and a plan want some more of the new kind.
    const left = Math.max(0, FEWEST - drift.since);
    this.#drift = { direction: drift.direction, left, arrivals: Math.max(2, drift.since) };
    if (left === 0) this.#replan(this.#drift);
  }

  /** Resolves when no plan is under way. */
  async settled(): Promise<void> {
    await this.#planning;
  }

  /** Ends a plan that is under way, without a decision. */
  async close(): Promise<void> {
    this.#abort.abort();
    await this.#planning;
  }

  #replan(drift: { readonly direction: Drift["direction"]; readonly arrivals: number }): void {
    const from = Math.max(0, this.#timesMs.length - Math.min(WINDOW, drift.arrivals));
    const origin = this.#timesMs[from]!;
    const trace: Trace = {
      timesMs: Float64Array.from(this.#timesMs.slice(from), (time) => time - origin),
      sizes: Float64Array.from(this.#sizes.slice(from)),
    };
    this.#planning = this.#decide(trace, drift.direction).finally(() => {
      this.#planning = undefined;
      this.#drift = undefined;
    });
  }

  async #decide(trace: Trace, direction: Drift["direction"]): Promise<void> {
    const { plan, swap, model } = this.#settings;
    const planned = statisticsOf(this.#planned).perSecond;
    let seen = planned;
    let why = "";
    try {
      const { process, reason } = fitArrivals(trace);
      seen = statisticsOf(process).perSecond;
      why = `${seen.toFixed(1)} requests a second came, ${direction} than the ${planned.toFixed(1)} that were planned for (${reason})`;
      // Whatever comes of the plan: what is seen now is no news any more.
      this.#planned = process;
      this.#test = new DriftTest(process);
      const next = await plan(trace, this.#abort.signal);
      if (this.#abort.signal.aborted) return;
      const isSame = sameBuffers(next, this.#running);
      const before = this.#running;
      if (!isSame) {
        swap(next);
        this.#running = { buffers: next.buffers, eager: next.eager };
      }
      this.#tell(
        isSame ? "kept" : "swapped",
        why,
        { planned, seen },
        { before, predictedMs: next.latencyMs },
      );
    } catch (error) {
      if (this.#abort.signal.aborted) return;
      const { code, message } = Fault.from(error);
      const action = code === "INVALID_REQUEST" ? "infeasible" : "failed";
      this.#tell(action, `${why === "" ? `the arrivals of '${model}' changed` : why}; ${message}`, {
        planned,
        seen,
      });
    }
  }

  #tell(
    action: Decision["action"],
    reason: string,
    perSecond: Decision["perSecond"],
    more: Pick<Decision, "before" | "predictedMs"> = { before: this.#running },
  ): void {
    this.#settings.decided({
      model: this.#settings.model,
      at: new Date().toISOString(),
      action,
      reason,
      perSecond,
      ...this.#running,
      ...more,
    });
  }
}

function sameBuffers(a: BufferChange, b: BufferChange): boolean {
  return JSON.stringify([a.buffers, a.eager]) === JSON.stringify([b.buffers, b.eager]);
}

/** Arrivals that a plan is made for, at most and at least. */
const WINDOW = 2000;
const FEWEST = 200;
