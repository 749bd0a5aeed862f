import type { WatchReport } from "../src/server/watch-protocol.ts";

/** What the plots show, as columns over time; null where there is nothing to say. */
export interface Columns {
  /** Seconds before now, 0 or less. */
  readonly seconds: number[];
  readonly cellsPerSecond: (number | null)[];
  /** Rows of a step: mean and most. */
  readonly meanRows: (number | null)[];
  readonly mostRows: (number | null)[];
  readonly active: (number | null)[];
  /** Of requests that were answered within the last `WINDOW_MS`, in milliseconds. */
  readonly p50: (number | null)[];
  readonly p90: (number | null)[];
  readonly p99: (number | null)[];
}

interface Point {
  readonly atMs: number;
  readonly cellsPerSecond: number;
  readonly meanRows: number | null;
  readonly mostRows: number | null;
  readonly active: number;
  readonly percentiles: readonly (number | null)[];
}

const POINT_MS = 500;
const KEEP_MS = 60_000;
const WINDOW_MS = 5000;

/** Reports, put together to two points a second over the last minute. */
export class History {
  #points: Point[] = [];
  #latencies: { readonly atMs: number; readonly ms: number }[] = [];
  #since: WatchReport | undefined;
  #rows: number[] = [];
  #active = 0;

  /** Answers whether there is a new point to show. */
  add(report: WatchReport): boolean {
    const { now_ms, stats, steps, ended } = report;
    // The server began anew: its clock and its counts did too.
    if (this.#since && now_ms < this.#since.now_ms) this.#restart();
    for (const [, , ms] of ended) if (ms !== null) this.#latencies.push({ atMs: now_ms, ms });
    for (const { rows } of steps) this.#rows.push(rows);
    this.#active = Math.max(this.#active, stats.active);
    this.#since ??= report;
    const elapsedMs = now_ms - this.#since.now_ms;
    if (elapsedMs < POINT_MS) return false;
    this.#latencies = this.#latencies.filter(({ atMs }) => atMs > now_ms - WINDOW_MS);
    const rows = this.#rows;
    this.#points.push({
      atMs: now_ms,
      cellsPerSecond: ((stats.cells - this.#since.stats.cells) * 1000) / elapsedMs,
      meanRows: rows.length > 0 ? rows.reduce((sum, one) => sum + one, 0) / rows.length : null,
      mostRows: rows.length > 0 ? Math.max(...rows) : null,
      active: this.#active,
      percentiles: percentilesOf(
        this.#latencies.map(({ ms }) => ms),
        [0.5, 0.9, 0.99],
      ),
    });
    this.#points = this.#points.filter(({ atMs }) => atMs > now_ms - KEEP_MS);
    this.#since = report;
    this.#rows = [];
    this.#active = stats.active;
    return true;
  }

  get columns(): Columns {
    const points = this.#points;
    const nowMs = points.at(-1)?.atMs ?? 0;
    const percentile = (i: number) => points.map(({ percentiles }) => percentiles[i]!);
    return {
      seconds: points.map(({ atMs }) => (atMs - nowMs) / 1000),
      cellsPerSecond: points.map(({ cellsPerSecond }) => cellsPerSecond),
      meanRows: points.map(({ meanRows }) => meanRows),
      mostRows: points.map(({ mostRows }) => mostRows),
      active: points.map(({ active }) => active),
      p50: percentile(0),
      p90: percentile(1),
      p99: percentile(2),
    };
  }

  #restart(): void {
    this.#points = [];
    this.#latencies = [];
    this.#since = undefined;
    this.#rows = [];
    this.#active = 0;
  }
}

/** The smallest value that is not below this share of the values; null of none. */
export function percentilesOf(values: readonly number[], shares: readonly number[]): (number | null)[] {
  const sorted = [...values].sort((a, b) => a - b);
  return shares.map((share) => sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)] ?? null);
}
