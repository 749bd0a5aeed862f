import { CostCurve } from "../scheduler/cost-curve.ts";
import { allowedSteps, profiledSteps, STEP_ROWS, stepsPay } from "../scheduler/several-steps.ts";
import { type ProfileSource, ProfileTable } from "./profile.ts";
import type { CellularLane } from "./simulate-server.ts";

/** A profiled cell as an engine runs it: with calls of several steps where the engine would make them. Throws as `ProfileTable`. */
export function cellularLaneOf(
  profile: ProfileSource,
  options: { readonly cell?: string; readonly threads?: number; readonly maxBatch: number },
): CellularLane {
  const { cell, threads = 1, maxBatch } = options;
  const named = { threads, ...(cell === undefined ? {} : { cell }) };
  const single = new ProfileTable(profile, named);
  const settings = profile.cells.find((one) => one.cell === single.cell)!.settings;
  const sizes = [
    ...new Set(settings.filter((one) => one.threads === threads).map(({ stepsPerCall }) => stepsPerCall)),
  ];
  const tableOf = (stepsPerCall: number) => new ProfileTable(profile, { ...named, stepsPerCall });
  const most = profiledSteps(sizes);
  const longest = tableOf(most);
  let stepMs = single.us(1) / 1000;
  let maxStepRows = 0;
  for (const rows of STEP_ROWS) {
    if (most === 1 || rows > longest.maxRows || rows > single.maxRows) break;
    stepMs = Math.min(stepMs, longest.us(rows) / 1000 / most);
    if (!stepsPay(longest.us(rows), most, single.us(rows))) break;
    maxStepRows = rows;
  }
  const curve = curveOf(single);
  const batch = Math.min(maxBatch, curve.maxRows);
  const steps = allowedSteps(sizes, stepMs, curve.ms(batch)).filter((count) => count > 1);
  const multiStep = steps.map((count) => ({ steps: count, curve: curveOf(tableOf(count)) }));
  return { kind: "cellular", maxBatch: batch, curve, multiStep, maxStepRows };
}

/** A profile as the scheduler wants it. */
function curveOf(table: ProfileTable): CostCurve {
  return new CostCurve(
    Array.from({ length: table.maxRows }, (_, i) => [i + 1, table.us(i + 1) / 1000] as const),
  );
}
