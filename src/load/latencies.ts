import { createHistogram, type RecordableHistogram } from "node:perf_hooks";
import { CURVE_SHARES } from "./statistics.ts";

/** Times in milliseconds in constant memory: an HDR histogram of 1 us to 1 h with three digits. */
export class Latencies {
  readonly #us: RecordableHistogram = createHistogram({ highest: 3_600_000_000, figures: 3 });
  #sumMs = 0;

  add(ms: number): void {
    this.#sumMs += ms;
    this.#us.record(Math.min(3_600_000_000, Math.max(1, Math.round(ms * 1000))));
  }

  get count(): number {
    return this.#us.count;
  }

  get mean(): number {
    return this.#sumMs / this.count;
  }

  /** The value below which this share of all lie; 1 for the largest. NaN where there are none. */
  quantile(share: number): number {
    if (this.count === 0) return Number.NaN;
    return (share <= 0 ? this.#us.min : this.#us.percentile(100 * share)) / 1000;
  }

  /** The values at `CURVE_SHARES`; none where there are no values. */
  curve(): number[] {
    return this.count === 0 ? [] : CURVE_SHARES.map((share) => this.quantile(share));
  }
}
