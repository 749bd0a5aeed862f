import {
  COLOURS,
  escaped,
  type Frame,
  framed,
  loadPlotting,
  MARGIN_TOP,
  STYLE,
  short,
  WIDTH,
} from "./svg.ts";

export interface Histograms extends Frame {
  readonly x: string;
  readonly y: string;
  /** One below the other on one axis; shares by value, ascending. */
  readonly series: readonly {
    readonly name: string;
    readonly bars: readonly (readonly [value: number, share: number])[];
  }[];
}

/** Draws histograms of small integers as SVG: each value's share is spread over a bin. Throws UNSUPPORTED without the library. */
export async function histograms(chart: Histograms): Promise<string> {
  const { plot, marks } = await loadPlotting();
  const most = Math.max(1, ...chart.series.flatMap(({ bars }) => bars.map(([value]) => value)));
  const width = Math.max(1, Math.ceil(most / MOST_BINS));
  const bins = chart.series.flatMap(({ name, bars }) => binned(bars, width).map((bin) => ({ ...bin, name })));
  const names = chart.series.map(({ name }) => name);
  const longest = Math.max(...names.map(({ length }) => length));
  const drawn = plot({
    width: WIDTH,
    height: MARGIN_TOP + 56 + 110 * names.length,
    marginTop: MARGIN_TOP + 12,
    marginLeft: 64,
    marginRight: 20 + 7 * longest,
    marginBottom: 48,
    style: STYLE,
    x: { label: chart.x, labelAnchor: "center", domain: [0.5, most + 0.5] },
    y: { label: chart.y, labelAnchor: "center", tickFormat: percent, grid: true, ticks: 3 },
    fy: { domain: names, label: null, padding: 0.15 },
    marks: [
      marks.rectY(bins, {
        x1: "from",
        x2: "to",
        y: "share",
        fy: "name",
        insetLeft: width > 1 || most < 100 ? 0.5 : 0,
        fill: (bin: { readonly name: string }) => COLOURS[names.indexOf(bin.name) % COLOURS.length],
      }),
      marks.ruleY([0]),
    ],
  });
  return framed(drawn, chart);
}

const MOST_BINS = 128;

function binned(bars: readonly (readonly [number, number])[], width: number) {
  const shares = new Map<number, number>();
  for (const [value, share] of bars) {
    const bin = Math.floor((value - 1) / width);
    shares.set(bin, (shares.get(bin) ?? 0) + share);
  }
  return [...shares].map(([bin, share]) => ({
    from: bin * width + 0.5,
    to: (bin + 1) * width + 0.5,
    share,
  }));
}

function percent(share: number): string {
  return `${Number((100 * share).toPrecision(3))} %`;
}

export interface StackedBars extends Frame {
  readonly x: string;
  readonly parts: readonly string[];
  /** Values as `parts`; groups stand one below the other. */
  readonly bars: readonly {
    readonly group: string;
    readonly name: string;
    readonly values: readonly number[];
  }[];
}

/** Draws bars that are put together from parts, with a legend, as SVG. Throws UNSUPPORTED without the library. */
export async function stackedBars(chart: StackedBars): Promise<string> {
  const { plot, marks } = await loadPlotting();
  const { bars, parts } = chart;
  const groups = [...new Set(bars.map(({ group }) => group))];
  const names = [...new Set(bars.map(({ name }) => name))];
  const pieces = bars.flatMap(({ group, name, values }) => {
    let from = 0;
    return values.map((value, part) => {
      const piece = { group, name, part, from, to: from + value };
      from += value;
      return piece;
    });
  });
  const ends = bars.map(({ group, name, values }) => ({
    group,
    name,
    to: values.reduce((a, b) => a + b, 0),
  }));
  const longest = Math.max(...[...names, ...groups].map(({ length }) => length));
  const drawn = plot({
    width: WIDTH,
    height: MARGIN_TOP + 70 + groups.length * (16 + 22 * names.length),
    marginTop: MARGIN_TOP + 26,
    marginLeft: 20 + 7 * longest,
    marginRight: 90,
    marginBottom: 48,
    style: STYLE,
    x: { label: chart.x, labelAnchor: "center", tickFormat: short, grid: true },
    y: { domain: names, label: null },
    fy: { domain: groups, label: null, padding: 0.12 },
    marks: [
      marks.barX(pieces, {
        x1: "from",
        x2: "to",
        y: "name",
        fy: "group",
        fill: ({ part }: { readonly part: number }) => COLOURS[part % COLOURS.length],
        insetTop: 1,
        insetBottom: 1,
      }),
      marks.text(ends, {
        x: "to",
        y: "name",
        fy: "group",
        text: ({ to }: { readonly to: number }) => short(to),
        dx: 5,
        textAnchor: "start",
      }),
      marks.ruleX([0]),
    ],
  });
  let left = 12;
  const legend = parts.map((part, i) => {
    const at = left;
    left += 30 + 7 * part.length;
    return `<rect x="${at}" y="54" width="12" height="12" fill="${COLOURS[i % COLOURS.length]}"></rect><text x="${at + 17}" y="64" text-anchor="start">${escaped(part)}</text>`;
  });
  drawn.insertAdjacentHTML("beforeend", legend.join(""));
  return framed(drawn, chart);
}
