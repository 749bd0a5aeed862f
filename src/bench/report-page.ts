import { page, type Section } from "../plot/page.ts";
import { figure } from "./measure.ts";
import type { ArmReport, Measured, Report, WorkloadReport } from "./report.ts";
import type { NamedPlot } from "./report-plots.ts";

/** One page with all tables and plots; plots as `workloads`. */
export function reportPage(report: Report, plots: readonly (readonly NamedPlot[])[]): string {
  const sections = report.workloads.map(
    (workload, i): Section => ({
      title: workload.name,
      text: [`${workload.what}.`, ...workload.notes],
      plots: plots[i]!.map(({ svg }) => svg),
      tables: tablesOf(workload),
    }),
  );
  return page("cellbatch bench", introOf(report), sections);
}

export function introOf({ machine, settings, startedAt, seconds, interrupted }: Report): string[] {
  const { cpu, cores, node, onnxruntime } = machine;
  return [
    `${cores} cores of ${cpu}, Node ${node}, ONNX Runtime ${onnxruntime}; ${startedAt}, ${Math.round(seconds)} s${interrupted ? "; interrupted: what is missing was not measured" : ""}.`,
    `${settings.rounds > 1 ? `Medians of ${settings.rounds} rounds with the raw values in brackets` : "One round"}; ${settings.seconds} s each after a warm-up of a quarter (peaks: a third) of that. ` +
      `Each arm in a process of its own with one engine of one thread, in the other order every second round. Arrivals: ${settings.arrivals}. Latencies are counted from the intended send time.`,
  ];
}

/** Peaks, then latencies; the first row of each is the heading. */
export function tablesOf({ arms, unit }: WorkloadReport): string[][][] {
  const [ours] = arms;
  const peaks = arms.map((arm) => [
    arm.name,
    arm.setting,
    shown(arm.peak) + (arm.role === "limit" ? " cells" : ""),
    ratio(ours, arm),
    arm.rows === undefined ? "" : arm.rows.toFixed(1),
  ]);
  const tables = [
    [["arm", "setting", `${unit} per second`, `${ours?.name} over it`, "rows of a task"], ...peaks],
  ];
  const points = arms.flatMap((arm) =>
    arm.points.map((point) => [
      arm.name,
      `${Math.round(100 * point.load)} %`,
      figure(point.rate),
      shown(point.p50),
      shown(point.p90),
      shown(point.p99),
      [
        point.failedShare > 0 ? `${(100 * point.failedShare).toFixed(1)} % failed` : "",
        ...point.warnings.map(warned),
      ]
        .filter((text) => text !== "")
        .join("; "),
    ]),
  );
  if (points.length > 0)
    tables.push([["arm", "load", `${unit} per second`, "p50 ms", "p90 ms", "p99 ms", "note"], ...points]);
  return tables;
}

function warned(why: string): string {
  return `the generator was the bottleneck: ${why}`;
}

/** How many times as much the first arm does; of the limit by cells. */
function ratio(ours: ArmReport | undefined, arm: ArmReport): string {
  const mine = arm.role === "limit" ? ours?.cellsPerSecond : ours?.peak;
  if (!mine || !arm.peak || arm === ours) return "";
  return figure(mine.median / arm.peak.median);
}

function shown(measured: Measured | undefined): string {
  if (!measured) return "not measured";
  const { median, raw } = measured;
  return raw.length > 1 ? `${figure(median)} (${raw.map(figure).join(" ")})` : figure(median);
}
