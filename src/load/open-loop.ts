import { Generator, type GeneratorHealth } from "./generator.ts";
import { Latencies } from "./latencies.ts";
import type { Service } from "./service.ts";

export interface OpenLoopOptions {
  readonly lengths: Int32Array;
  /** When each request is due, in seconds from the start, ascending. Those of the warm-up are not counted. */
  readonly arrivals: Float64Array;
  readonly warmSeconds: number;
  /** Once all have been sent, how long to wait for the answers that are missing; then they are cancelled. */
  readonly drainSeconds: number;
  /** Ends the sending early: what was due until then counts. */
  readonly signal?: AbortSignal;
  /** Is told of each request that ended. */
  readonly progress?: (latencyMs: number | Error) => void;
}

export interface OpenLoopResult {
  readonly sent: number;
  readonly answered: number;
  readonly failed: number;
  /** Messages of failures, with how often each came; at most some ten of them. */
  readonly failures: Readonly<Record<string, number>>;
  /** From the time a request was due, sent or not, to its answer. */
  readonly latencies: Latencies;
  /** Means. */
  readonly queueMs: number;
  readonly computeMs: number;
  /** Steps of the answered requests per second of sending. */
  readonly stepsPerSecond: number;
  readonly answersPerSecond: number;
  /** How long the last answers took once all had been sent. */
  readonly drainedSeconds: number;
  /** How often the last task had so many rows when it was looked at, every few milliseconds while something ran. */
  readonly rows: ReadonlyMap<number, number>;
  readonly generator: GeneratorHealth;
}

/** Sends requests when they are due, whether or not earlier ones were answered. Answers that never came count as failed. */
export async function openLoop(service: Service, options: OpenLoopOptions): Promise<OpenLoopResult> {
  const { lengths, arrivals, warmSeconds, drainSeconds, signal, progress } = options;
  const latencies = new Latencies();
  const total = { queueMs: 0, computeMs: 0 };
  const failures: Record<string, number> = {};
  const rows = new Map<number, number>();
  const open = new Map<number, () => void>();
  const generator = new Generator();
  let steps = 0;
  let next = 0;
  let sent = 0;
  let isOver = false;
  let isWarm = warmSeconds === 0;
  const start = performance.now() + LEAD_MS;
  const failed = (error: Error) => {
    const known = Object.keys(failures);
    const message = known.length < MOST_FAILURES || error.message in failures ? error.message : "other";
    failures[message] = (failures[message] ?? 0) + 1;
  };
  const send = () => {
    const number = next++;
    const due = start + arrivals[number]! * 1000;
    const counts = arrivals[number]! >= warmSeconds;
    if (counts) {
      if (!isWarm || sent === 0) generator.begin();
      isWarm = true;
      sent++;
      generator.sent(performance.now() - due);
    }
    const length = lengths[number % lengths.length]!;
    open.set(number, () => {});
    const cancel = service.ask(number, length, (usage) => {
      if (!open.delete(number) || !counts || isOver) return;
      const latencyMs = performance.now() - due;
      progress?.(usage instanceof Error ? usage : latencyMs);
      if (usage instanceof Error) return failed(usage);
      latencies.add(latencyMs);
      total.queueMs += usage.queueMs;
      total.computeMs += usage.computeMs;
      steps += length;
    });
    if (open.has(number)) open.set(number, cancel);
  };
  const look = setInterval(() => {
    const { rows: now } = service.counts();
    if (now > 0 && isWarm) rows.set(now, (rows.get(now) ?? 0) + 1);
  }, LOOK_MS);
  await new Promise<void>((resolve) => {
    const pump = () => {
      while (next < arrivals.length && start + arrivals[next]! * 1000 <= performance.now()) {
        if (signal?.aborted) return resolve();
        send();
      }
      if (next === arrivals.length || signal?.aborted) return resolve();
      const wait = start + arrivals[next]! * 1000 - performance.now();
      if (wait > TIMER_MS) setTimeout(pump, Math.min(wait - TIMER_MS, LONGEST_SLEEP_MS));
      else setImmediate(pump);
    };
    pump();
  });
  clearInterval(look);
  const health = generator.end();
  const allSent = performance.now();
  const until = allSent + drainSeconds * 1000;
  while (open.size > 0 && performance.now() < until && !signal?.aborted)
    await new Promise((resolve) => setTimeout(resolve, 5));
  const drainedSeconds = (performance.now() - allSent) / 1000;
  isOver = true;
  for (const cancel of open.values()) cancel();
  const answered = latencies.count;
  const unanswered = sent - answered - Object.values(failures).reduce((a, b) => a + b, 0);
  if (unanswered > 0)
    failures[signal?.aborted ? "open when the run was ended" : "not answered in time"] = unanswered;
  return {
    sent,
    answered,
    failed: sent - answered,
    failures,
    latencies,
    queueMs: total.queueMs / Math.max(1, answered),
    computeMs: total.computeMs / Math.max(1, answered),
    drainedSeconds,
    stepsPerSecond: steps / health.seconds,
    answersPerSecond: answered / health.seconds,
    rows,
    generator: health,
  };
}

/** Timers come up to a millisecond or two late; the rest is waited for turn by turn. */
const TIMER_MS = 3;
const LEAD_MS = 5;
/** An abort is noticed within this time. */
const LONGEST_SLEEP_MS = 200;
const LOOK_MS = 2;
const MOST_FAILURES = 10;
