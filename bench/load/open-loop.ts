import { quantile } from "../statistics.ts";
import type { Service, Usage } from "./service.ts";

export interface OpenLoopOptions {
  readonly lengths: Int32Array;
  /** When each request is due, in seconds from the start, ascending. Those of the warm-up are not counted. */
  readonly arrivals: Float64Array;
  readonly warmSeconds: number;
  /** Once all have been sent, how long to wait for the answers that are missing. */
  readonly drainSeconds: number;
}

export interface Latencies {
  readonly sent: number;
  readonly answered: number;
  readonly failed: number;
  /** Milliseconds from the time a request was due, sent or not, to its answer; ascending. */
  readonly latencies: Float64Array;
  readonly queueMs: number;
  readonly computeMs: number;
  /** The 99th percentile of how late the generator itself sent; above a tenth of the latencies it is the bottleneck. */
  readonly lagMs: number;
}

/** Sends requests when they are due, whether or not earlier ones were answered. Answers that never came count as failed. */
export async function openLoop(service: Service, options: OpenLoopOptions): Promise<Latencies> {
  const { lengths, arrivals, warmSeconds, drainSeconds } = options;
  const latencies: number[] = [];
  const lags: number[] = [];
  const usages: Usage[] = [];
  let open = 0;
  let next = 0;
  const start = performance.now() + LEAD_MS;
  await new Promise<void>((resolve) => {
    const pump = () => {
      const now = performance.now();
      while (next < arrivals.length && start + arrivals[next]! * 1000 <= now) {
        const number = next++;
        const due = start + arrivals[number]! * 1000;
        const counts = arrivals[number]! >= warmSeconds;
        if (counts) lags.push(performance.now() - due);
        open++;
        service.ask(number, lengths[number % lengths.length]!, (usage) => {
          open--;
          if (!counts || usage instanceof Error) return;
          latencies.push(performance.now() - due);
          usages.push(usage);
        });
      }
      if (next === arrivals.length) return resolve();
      const wait = start + arrivals[next]! * 1000 - performance.now();
      if (wait > TIMER_MS) setTimeout(pump, wait - TIMER_MS);
      else setImmediate(pump);
    };
    pump();
  });
  const until = performance.now() + drainSeconds * 1000;
  while (open > 0 && performance.now() < until) await new Promise((resolve) => setTimeout(resolve, 5));
  const mean = (pick: (usage: Usage) => number) =>
    usages.reduce((sum, usage) => sum + pick(usage), 0) / usages.length;
  return {
    sent: lags.length,
    answered: latencies.length,
    failed: lags.length - latencies.length,
    latencies: Float64Array.from(latencies).sort(),
    queueMs: mean(({ queueMs }) => queueMs),
    computeMs: mean(({ computeMs }) => computeMs),
    lagMs: quantile(lags, 0.99),
  };
}

/** Timers come up to a millisecond or two late; the rest is waited for turn by turn. */
const TIMER_MS = 3;
const LEAD_MS = 5;
