/**
 * When a busy engine tells what it has done. To wake a thread that sleeps takes tens of microseconds on a virtual machine, so
 * that is done after every task only where it is cheap, or where the engine has time to spare; an idle engine tells at once,
 * whatever this says.
 */
export class PublishPace {
  #dueMs = Number.NEGATIVE_INFINITY;
  #costMs: number;
  /** Share of the time of late that the engine slept, and when that was. */
  #spare = 0;
  #sinceMs = 0;

  /** `costMs` is what a publication is thought to take until some were seen. */
  constructor(costMs = 0) {
    this.#costMs = Math.min(costMs, LONGEST_PUBLISH_MS);
  }

  isDue(nowMs: number): boolean {
    return nowMs >= this.#dueMs;
  }

  /** The engine had nothing to do. */
  slept(fromMs: number, toMs: number): void {
    this.#follow(fromMs, 0);
    this.#follow(toMs, 1);
  }

  /** Something was published; `isBacklogged` where requests wait for room in a task. */
  published(fromMs: number, toMs: number, isBacklogged: boolean): void {
    this.#costMs += (Math.min(toMs - fromMs, LONGEST_PUBLISH_MS) - this.#costMs) / 8;
    this.#follow(toMs, 0);
    const share = isBacklogged ? BACKLOGGED_SHARE : Math.max(LEAST_SHARE, SPARE_SHARE * this.#spare);
    this.#dueMs = toMs + this.#costMs / share;
  }

  #follow(untilMs: number, asleep: 0 | 1): void {
    const kept = Math.exp((this.#sinceMs - untilMs) / MEMORY_MS);
    this.#spare = asleep + (this.#spare - asleep) * kept;
    this.#sinceMs = untilMs;
  }
}

/** Of the time that the engine would sleep, what goes to telling: most of what sooner answers can gain; others may want the core. */
const SPARE_SHARE = 0.2;
/** Of the time of an engine that never sleeps. */
const LEAST_SHARE = 1 / 40;
/** The same while requests wait for room in a task: then latency is in the queue, and throughput is what counts. */
const BACKLOGGED_SHARE = 1 / 160;
/** How long what the engine did is remembered: some tasks. */
const MEMORY_MS = 40;
/** What is believed of one publication at most, so that a preempted thread does not hold back outputs for long. */
const LONGEST_PUBLISH_MS = 0.04;
