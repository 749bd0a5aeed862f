import { createHistogram, type RecordableHistogram } from "node:perf_hooks";

/** Milliseconds, kept with three digits in constant memory. */
export class Histogram {
  readonly #us: RecordableHistogram = createHistogram({ highest: 600_000_000, figures: 3 });

  add(ms: number): void {
    this.#us.record(Math.max(1, Math.round(ms * 1000)));
  }

  get count(): number {
    return this.#us.count;
  }

  /** The value below which `percent` of all lie. */
  percentile(percent: number): number {
    return this.#us.percentile(percent) / 1000;
  }
}
