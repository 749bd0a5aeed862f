import type { Runtime, WatchedStep, Watcher } from "../runtime/types.ts";
import type { WatchReport, WatchStep } from "./watch-protocol.ts";

const REPORT_MS = 100;
/** Most steps and ends of one report; more are counted only. */
const MOST_STEPS = 1000;
const MOST_ENDED = 2000;

/** Reports of what the engines do, every 100 ms as JSON, until `signal` is aborted. */
export async function* watchFeed(
  runtime: Pick<Runtime, "watch" | "stats">,
  signal: AbortSignal,
): AsyncGenerator<string> {
  const collected = new Collected();
  const stop = runtime.watch(collected);
  try {
    while (!signal.aborted) {
      yield JSON.stringify(collected.report(performance.now(), runtime.stats()));
      await passed(REPORT_MS, signal);
    }
  } finally {
    stop();
  }
}

/** What came since the last report. */
class Collected implements Watcher {
  #steps: WatchStep[] = [];
  #ended: [number, string, number | null][] = [];
  #leftOut = { tasks: 0, cells: 0, ended: 0 };

  step({ engine, model, cell, startMs, ms, rows, steps, requests, leftOut }: WatchedStep): void {
    this.#leftOut.tasks += leftOut.tasks;
    this.#leftOut.cells += leftOut.cells;
    if (this.#steps.length === MOST_STEPS) {
      this.#leftOut.tasks++;
      this.#leftOut.cells += rows * steps;
      return;
    }
    this.#steps.push({ engine, model, cell, start_ms: short(startMs), ms: short(ms), rows, steps, requests });
  }

  ended(request: number, model: string, ms: number | undefined): void {
    if (this.#ended.length === MOST_ENDED) this.#leftOut.ended++;
    else this.#ended.push([request, model, ms === undefined ? null : short(ms)]);
  }

  report(nowMs: number, stats: WatchReport["stats"]): WatchReport {
    const report = {
      now_ms: short(nowMs),
      stats,
      steps: this.#steps,
      ended: this.#ended,
      left_out: this.#leftOut,
    };
    this.#steps = [];
    this.#ended = [];
    this.#leftOut = { tasks: 0, cells: 0, ended: 0 };
    return report;
  }
}

function short(ms: number): number {
  return Math.round(ms * 1000) / 1000;
}

function passed(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const end = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", end);
      resolve();
    };
    const timer = setTimeout(end, ms);
    signal.addEventListener("abort", end, { once: true });
  });
}
