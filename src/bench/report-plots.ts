import { CURVE_SHARES } from "../load/statistics.ts";
import { histograms, stackedBars } from "../plot/bar-chart.ts";
import { lineChart } from "../plot/line-chart.ts";
import type { ArmReport, LoadPoint, WorkloadReport } from "./report.ts";

export interface NamedPlot {
  /** What the file is called, without its ending. */
  readonly name: string;
  readonly svg: string;
}

/** The plots of one workload, as far as its measurements reach. */
export async function plotsOf(workload: WorkloadReport): Promise<NamedPlot[]> {
  const { name, what, arms, unit } = workload;
  const served = arms
    .map((arm) => ({ ...arm, points: arm.points.filter(({ p50 }) => p50.median > 0) }))
    .filter(({ points }) => points.length > 0);
  if (served.length === 0) return [];
  const plots: NamedPlot[] = [];
  const x = { label: `${unit} per second`, scale: "linear" as const };
  for (const percentile of ["p50", "p99"] as const) {
    plots.push({
      name: `${name}-${percentile}`,
      svg: await lineChart({
        title: `${percentile === "p50" ? "Median latency" : "99th percentile of latency"} against load`,
        subtitle: what,
        x,
        y: { label: `${percentile}, ms from the intended send time`, scale: "log" },
        series: served.map((arm) => ({
          name: arm.name,
          points: arm.points.map((point) => [point.rate, point[percentile].median] as const),
        })),
      }),
    });
  }
  const load = commonLoad(served);
  const at = (arm: ArmReport) => arm.points.find((point) => point.load === load);
  const there = served.flatMap((arm) => {
    const point = at(arm);
    return point ? [{ arm, point }] : [];
  });
  const subtitle = `${what}; at ${Math.round(there[0]!.point.rate)} ${unit} per second`;
  plots.push({
    name: `${name}-cdf`,
    svg: await lineChart({
      title: "Share of requests that are answered within a time",
      subtitle,
      x: { label: "latency, ms", scale: "log" },
      y: { label: "share of requests, %", scale: "linear", ticks: [0, 20, 40, 60, 80, 100] },
      series: there.map(({ arm, point }) => ({
        name: arm.name,
        dots: false,
        points: point.curve.map((ms, i) => [ms, 100 * CURVE_SHARES[i]!] as const),
      })),
    }),
  });
  const batches = there.filter(({ point }) => point.batches.length > 0);
  if (batches.length > 0)
    plots.push({
      name: `${name}-batches`,
      svg: await histograms({
        title: "Rows of a batch",
        subtitle: `${subtitle}; looked at every 2 ms`,
        x: "rows",
        y: "share of the time",
        series: batches.map(({ arm, point }) => ({ name: arm.name, bars: point.batches })),
      }),
    });
  plots.push({ name: `${name}-split`, svg: await split(served, what) });
  return plots;
}

/** The highest load that most arms reach. */
function commonLoad(arms: readonly ArmReport[]): number {
  const loads = arms.flatMap(({ points }) => points.map((point) => point.load));
  const counts = [...new Set(loads)].map(
    (load) => [load, loads.filter((one) => one === load).length] as const,
  );
  const most = Math.max(...counts.map(([, count]) => count));
  return Math.max(...counts.flatMap(([load, count]) => (count === most ? [load] : [])));
}

function split(arms: readonly ArmReport[], what: string): Promise<string> {
  const bars = arms.flatMap((arm) => arm.points.map((point) => ({ arm, point })));
  const values = ({ split: { queueMs, computeMs, overheadMs } }: LoadPoint) => [
    queueMs,
    computeMs,
    overheadMs,
  ];
  return stackedBars({
    title: "Where the time of a request goes",
    subtitle: `${what}; means, at shares of the highest peak`,
    x: "ms",
    parts: [
      "waiting for its first step",
      "from its first step to its last",
      "overhead: to the engine and back",
    ],
    bars: bars
      .map(({ arm, point }) => ({
        group: `${Math.round(100 * point.load)} %`,
        name: arm.name,
        values: values(point),
      }))
      .sort((a, b) => Number.parseInt(a.group, 10) - Number.parseInt(b.group, 10)),
  });
}
