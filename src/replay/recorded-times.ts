import { CostCurve } from "../../scheduler/cost-curve.ts";
import type { RecordedType } from "../core/recording.ts";
import { SizeTimes } from "./size-times.ts";
import type { WorkBatch } from "./workload.ts";

/**
 * What batches took in a recording, by name, steps of a call and size. Beyond the sizes that occurred, time grows as on the curve
 * that was measured when the model was loaded, or in proportion where there is none.
 */
export class RecordedTimes {
  /** By name, and by steps of a call: 0 for whole graphs, whose size is rows times the largest request. */
  readonly #times = new Map<string, Map<number, SizeTimes>>();
  /** By rows of a task: from its end until the next one began. */
  readonly #untilNext = new SizeTimes();
  readonly #curves = new Map<RecordedType, CostCurve | undefined>();

  constructor(batches: Iterable<WorkBatch>) {
    for (const { name, rows, steps, size, beginUs, endUs, untilNextUs } of batches) {
      if (endUs < 0) continue;
      if (size > 0) this.#add(name, WHOLE, rows * size, endUs - beginUs);
      else this.#add(name, steps, rows, endUs - beginUs);
      if (untilNextUs >= 0) this.#untilNext.add(rows, untilNextUs);
    }
  }

  /** Microseconds of a task of a cell. Of one that never ran in the recording, as it was measured at load. */
  cellUs(type: RecordedType, rows: number, steps: number): number {
    const bySteps = this.#times.get(type.name);
    const curve = this.#curveOf(type);
    if (!bySteps) return curve ? Math.round(onCurve(curve, rows) * 1000 * steps) : 0;
    const nearest = [...bySteps.keys()].reduce((best, other) =>
      Math.abs(other - steps) < Math.abs(best - steps) ? other : best,
    );
    const growth = curve
      ? (from: number, to: number) => onCurve(curve, to) / onCurve(curve, from)
      : inProportion;
    return Math.round((bySteps.get(nearest)!.next(rows, growth) * steps) / nearest);
  }

  /** Microseconds of a batch of a whole graph that is padded to `size`. */
  graphUs(name: string, rows: number, size: number): number {
    return Math.round(
      this.#times
        .get(name)
        ?.get(WHOLE)
        ?.next(rows * size, inProportion) ?? 0,
    );
  }

  /** Microseconds from the end of a task until the next begins, where more cells are ready. */
  untilNextUs(rows: number): number {
    return Math.round(this.#untilNext.next(rows, () => 1));
  }

  #add(name: string, steps: number, size: number, us: number): void {
    const bySteps = this.#times.get(name) ?? new Map<number, SizeTimes>();
    this.#times.set(name, bySteps);
    const times = bySteps.get(steps) ?? new SizeTimes();
    bySteps.set(steps, times);
    times.add(size, us);
  }

  #curveOf(type: RecordedType): CostCurve | undefined {
    if (!this.#curves.has(type)) this.#curves.set(type, type.cost && new CostCurve(type.cost));
    return this.#curves.get(type);
  }
}

const WHOLE = 0;

function inProportion(from: number, to: number): number {
  return to / from;
}

/** Beyond its last point in proportion. */
function onCurve(curve: CostCurve, rows: number): number {
  const { maxRows } = curve;
  return rows <= maxRows ? curve.ms(rows) : (curve.ms(maxRows) * rows) / maxRows;
}
