import { histograms } from "../plot/bar-chart.ts";
import { lineChart } from "../plot/line-chart.ts";
import { page } from "../plot/page.ts";
import type { Tally } from "../replay/figures.ts";
import type { SessionWork } from "../replay/reproduce.ts";
import type { WhatIf } from "../replay/virtual-server.ts";
import { tallyRecorded, tallyWhatIf } from "../replay/what-if.ts";

export interface Column {
  readonly name: string;
  /** What it is called in plots, where there is little room. */
  readonly mark: string;
  readonly tally: Tally;
}

/** What was, and where something is to be otherwise, what would have been: with the same settings, to be compared, and with those. */
export function columnsOf(sessions: readonly SessionWork[], whatIf: WhatIf): Column[] {
  const recorded = { name: "recorded", mark: "recorded", tally: tallyRecorded(sessions) };
  if (Object.keys(whatIf).length === 0) return [recorded];
  const { maxBatch, policy, engines, speed } = whatIf;
  const changes = { "max batch": maxBatch, policy, engines, speed };
  const named = Object.entries(changes).flatMap(([name, value]) =>
    value === undefined ? [] : [`${name} ${value}`],
  );
  return [
    recorded,
    { name: "simulated as it was", mark: "simulated", tally: tallyWhatIf(sessions, {}) },
    { name: named.join(", "), mark: "what if", tally: tallyWhatIf(sessions, whatIf) },
  ];
}

/** Figures line by line; the first row is the heading. */
export function rowsOf(columns: readonly Column[]): string[][] {
  const figures = columns.map(({ tally }) => tally.figures());
  const row = (name: string, text: (of: ReturnType<Tally["figures"]>) => string) => [
    name,
    ...figures.map(text),
  ];
  return [
    ["", ...columns.map(({ name }) => name)],
    row("requests", ({ requests }) => String(requests)),
    row("requests per second", ({ requestsPerSecond }) => requestsPerSecond.toFixed(1)),
    row("latency p50, ms", ({ latencyMs }) => latencyMs.p50.toFixed(2)),
    row("latency p95, ms", ({ latencyMs }) => latencyMs.p95.toFixed(2)),
    row("latency p99, ms", ({ latencyMs }) => latencyMs.p99.toFixed(2)),
    row("tasks and batches", ({ batches }) => String(batches)),
    row("mean rows", ({ meanRows }) => meanRows.toFixed(2)),
    row("engines busy, %", ({ busy }) => (100 * busy).toFixed(1)),
  ];
}

/** A page with the table, how latencies are spread and how many rows batches have. */
export async function replayPage(file: string, verdict: string, columns: readonly Column[]): Promise<string> {
  const answered = columns.filter(({ tally }) => tally.curve.length > 0);
  const spread = await plotsWhere(answered.length > 0, () =>
    lineChart({
      title: "Share of requests that are answered within a time",
      subtitle: "in the engine, without sockets",
      x: { label: "latency, ms", scale: "log" },
      y: { label: "share of requests, %", scale: "linear", ticks: [0, 20, 40, 60, 80, 100] },
      series: answered.map(({ mark, tally }) => ({
        name: mark,
        dots: false,
        points: tally.curve.map(([ms, share]) => [ms, 100 * share] as const),
      })),
    }),
  );
  const ran = columns.filter(({ tally }) => tally.sizes.length > 0);
  const sizes = await plotsWhere(ran.length > 0, () =>
    histograms({
      title: "Rows of a task, requests of a batch",
      x: "rows",
      y: "share of tasks and batches",
      series: ran.map(({ mark, tally }) => ({ name: mark, bars: tally.sizes })),
    }),
  );
  const section = {
    title: "What was, and what would have been",
    tables: [rowsOf(columns)],
    plots: [...spread, ...sizes],
  };
  return page(`cellbatch replay ${file}`, verdict.trim().split("\n"), [section]);
}

async function plotsWhere(isThere: boolean, draw: () => Promise<string>): Promise<string[]> {
  return isThere ? [await draw()] : [];
}
