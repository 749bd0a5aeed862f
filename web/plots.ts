import uPlot from "uplot";
import { byId, readable } from "./dom.ts";
import type { Columns, History } from "./history.ts";
import { colours } from "./theme.ts";

type Column = Exclude<keyof Columns, "seconds">;

/** What each plot shows: its place in the page, and its columns with their names and colours. */
const PLOTS: readonly {
  readonly id: string;
  readonly series: readonly { readonly column: Column; readonly label: string; readonly colour: number }[];
}[] = [
  {
    id: "plot-rows",
    series: [
      { column: "mostRows", label: "most", colour: 2 },
      { column: "meanRows", label: "mean", colour: 1 },
    ],
  },
  { id: "plot-active", series: [{ column: "active", label: "active", colour: 3 }] },
  { id: "plot-cells", series: [{ column: "cellsPerSecond", label: "cells", colour: 1 }] },
  {
    id: "plot-latency",
    series: [
      { column: "p50", label: "p50", colour: 1 },
      { column: "p90", label: "p90", colour: 2 },
      { column: "p99", label: "p99", colour: 4 },
    ],
  },
];

/** Small plots of the last minute. */
export class Plots {
  #plots: uPlot[] = [];

  /** Draws anew, in the colours of the page as they are now. */
  restyle(history: History): void {
    for (const plot of this.#plots) plot.destroy();
    this.#plots = PLOTS.map((one) => {
      const place = byId(one.id);
      place.replaceChildren();
      return new uPlot(optionsOf(one, place), dataOf(one, history.columns), place);
    });
    for (const [i, { id }] of PLOTS.entries()) {
      const place = byId(id);
      new ResizeObserver(() => this.#plots[i]?.setSize({ width: place.clientWidth, height: HEIGHT })).observe(
        place,
      );
    }
  }

  show(history: History): void {
    const { columns } = history;
    for (const [i, plot] of this.#plots.entries()) plot.setData(dataOf(PLOTS[i]!, columns));
  }
}

const HEIGHT = 128;

function dataOf({ series }: (typeof PLOTS)[number], columns: Columns): uPlot.AlignedData {
  return [columns.seconds, ...series.map(({ column }) => columns[column])];
}

function optionsOf({ series }: (typeof PLOTS)[number], place: HTMLElement): uPlot.Options {
  const { muted, grid, series: palette } = colours();
  const axis: uPlot.Axis = {
    stroke: muted,
    font: "11px system-ui, sans-serif",
    grid: { stroke: grid, width: 1 },
    ticks: { show: false },
  };
  return {
    width: place.clientWidth,
    height: HEIGHT,
    legend: { show: false },
    cursor: { y: false, points: { size: 6 } },
    scales: {
      x: { time: false, range: [-60, 0] },
      y: { range: (_, __, max) => [0, Math.max(1, max * 1.1)] },
    },
    axes: [
      { ...axis, size: 22, values: (_, ticks) => ticks.map((tick) => (tick === 0 ? "now" : `${tick} s`)) },
      {
        ...axis,
        size: 46,
        space: 28,
        values: (_, ticks) => ticks.map(readable),
      },
    ],
    series: [
      {},
      ...series.map(({ column, label, colour }) => ({
        label,
        stroke: palette[colour - 1]!,
        width: 2,
        points: { show: column.endsWith("Rows"), size: 5, fill: palette[colour - 1]! },
        ...(series.length === 1 ? { fill: `${palette[colour - 1]}22` } : {}),
      })),
    ],
  };
}
