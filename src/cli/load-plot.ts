import type { LoadReport } from "../load/run-load.ts";
import { CURVE_SHARES } from "../load/statistics.ts";
import { lineChart } from "../plot/line-chart.ts";

/** Percentiles against the rate, where there are several; and how latencies are spread. */
export async function loadPlots({ model, url, rates }: LoadReport): Promise<{ name: string; svg: string }[]> {
  const answered = rates.filter((rate) => rate.answered > 0);
  if (answered.length === 0) return [];
  const subtitle = `model '${model}' at ${url}`;
  const spread = {
    name: "latency-cdf",
    svg: await lineChart({
      title: "Share of requests that are answered within a time",
      subtitle,
      x: { label: "latency, ms from the intended send time", scale: "log" },
      y: { label: "share of requests, %", scale: "linear", ticks: [0, 20, 40, 60, 80, 100] },
      series: answered.map(({ rate, curve }) => ({
        name: `${rate}/s`,
        dots: false,
        points: curve.map((ms, i) => [ms, 100 * CURVE_SHARES[i]!] as const),
      })),
    }),
  };
  if (answered.length === 1) return [spread];
  const against = await lineChart({
    title: "Latency against load",
    subtitle,
    x: { label: "requests per second", scale: "linear" },
    y: { label: "ms from the intended send time", scale: "log" },
    series: (["p50", "p90", "p99"] as const).map((name) => ({
      name,
      points: answered.map((rate) => [rate.rate, rate[name] ?? Number.NaN] as const),
    })),
  });
  return [{ name: "latency-against-load", svg: against }, spread];
}
