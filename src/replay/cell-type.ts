import { CostCurve } from "../../scheduler/cost-curve.ts";
import type { CellType } from "../../scheduler/scheduler.ts";
import type { RecordedType } from "../core/recording.ts";

/** A recorded type as the scheduler takes it. */
export function cellType({ cost, ...type }: RecordedType): CellType {
  return { ...type, ...(cost ? { cost: new CostCurve(cost) } : {}) };
}
