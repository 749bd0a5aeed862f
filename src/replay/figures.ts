import { quantile } from "../../planner/quantile.ts";
import type { WorkBatch } from "./workload.ts";

/** What servers did with their requests, in numbers. */
export interface Figures {
  /**
   * Requests that got an answer. Sessions are not among them, nor requests that were cancelled, too late, or not done when the
   * recording ended.
   */
  readonly requests: number;
  readonly requestsPerSecond: number;
  /** From when an engine heard of a request until its last batch ended; 0 where there is none. */
  readonly latencyMs: { readonly p50: number; readonly p95: number; readonly p99: number };
  readonly batches: number;
  readonly meanRows: number;
  /** Share of the engines' time in which a batch ran. */
  readonly busy: number;
}

export interface TalliedRequest {
  readonly arrivalUs: number;
  /** Negative where it has not ended. */
  readonly endUs: number;
  readonly wasRemoved: boolean;
}

/** Gathers what figures are made of, over all sessions of a recording. */
export class Tally {
  readonly #latencyMs: number[] = [];
  /** By rows: how many batches. */
  readonly #sizes = new Map<number, number>();
  #batches = 0;
  #rows = 0;
  #busyUs = 0;
  #spanUs = 0;
  #engineUs = 0;
  #beginUs = Number.POSITIVE_INFINITY;
  #endUs = Number.NEGATIVE_INFINITY;

  batch({ rows, beginUs, endUs }: Pick<WorkBatch, "rows" | "beginUs" | "endUs">): void {
    // It ran when its server died.
    if (endUs < 0) return;
    this.#sizes.set(rows, (this.#sizes.get(rows) ?? 0) + 1);
    this.#batches++;
    this.#rows += rows;
    this.#busyUs += endUs - beginUs;
    this.#endUs = Math.max(this.#endUs, endUs);
  }

  request({ arrivalUs, endUs, wasRemoved }: TalliedRequest): void {
    this.#beginUs = Math.min(this.#beginUs, arrivalUs);
    if (!wasRemoved && endUs >= 0) this.#latencyMs.push((endUs - arrivalUs) / 1000);
  }

  /** A server of so many engines has ended: the times of the next one are of another clock. */
  endSession(engines: number): void {
    const spanUs = Math.max(0, this.#endUs - this.#beginUs);
    this.#spanUs += spanUs;
    this.#engineUs += spanUs * engines;
    this.#beginUs = Number.POSITIVE_INFINITY;
    this.#endUs = Number.NEGATIVE_INFINITY;
  }

  /** By rows, ascending: share of the batches. */
  get sizes(): readonly (readonly [rows: number, share: number])[] {
    return [...this.#sizes].sort(([a], [b]) => a - b).map(([rows, count]) => [rows, count / this.#batches]);
  }

  /** Milliseconds within which a share of the requests was answered, for the shares of a curve. */
  get curve(): readonly (readonly [ms: number, share: number])[] {
    const sorted = this.#sorted;
    if (sorted.length === 0) return [];
    return Array.from({ length: CURVE_POINTS }, (_, i) => {
      const share = (i + 1) / CURVE_POINTS;
      return [quantile(sorted, share), share] as const;
    });
  }

  figures(): Figures {
    const sorted = this.#sorted;
    const latency = (share: number) => (sorted.length === 0 ? 0 : quantile(sorted, share));
    const of = (part: number, whole: number) => (whole > 0 ? part / whole : 0);
    return {
      requests: sorted.length,
      requestsPerSecond: of(sorted.length * 1e6, this.#spanUs),
      latencyMs: { p50: latency(0.5), p95: latency(0.95), p99: latency(0.99) },
      batches: this.#batches,
      meanRows: of(this.#rows, this.#batches),
      busy: of(this.#busyUs, this.#engineUs),
    };
  }

  get #sorted(): Float64Array {
    return Float64Array.from(this.#latencyMs).sort();
  }
}

const CURVE_POINTS = 200;
