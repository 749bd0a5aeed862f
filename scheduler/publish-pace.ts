/**
 * When a busy engine tells what it has done. To wake a thread that sleeps takes tens of microseconds on a virtual machine, so
 * that is done after every task only where it is cheap; an idle engine tells at once, whatever this says.
 */
export class PublishPace {
  #dueMs = Number.NEGATIVE_INFINITY;
  #costMs: number;

  /** `costMs` is what a publication is thought to take until some were seen. */
  constructor(costMs = 0) {
    this.#costMs = Math.min(costMs, LONGEST_PUBLISH_MS);
  }

  isDue(nowMs: number): boolean {
    return nowMs >= this.#dueMs;
  }

  /** Something was published; `isBacklogged` where requests wait for room in a task. */
  published(fromMs: number, toMs: number, isBacklogged: boolean): void {
    this.#costMs += (Math.min(toMs - fromMs, LONGEST_PUBLISH_MS) - this.#costMs) / 8;
    this.#dueMs = toMs + this.#costMs * (isBacklogged ? BACKLOGGED_SHARE : SHARE);
  }
}

/** At most one part in this many of the time of a busy engine goes to telling. */
const SHARE = 40;
/** The same while requests wait for room in a task: then latency is in the queue, and throughput is what counts. */
const BACKLOGGED_SHARE = 160;
/** What is believed of one publication at most, so that a preempted thread does not hold back outputs for long. */
const LONGEST_PUBLISH_MS = 0.04;
