import { Fault } from "../core/faults.ts";
import { COLOURS, type Frame, framed, loadPlotting, MARGIN_TOP, STYLE, short, WIDTH } from "./svg.ts";

export interface Axis {
  /** What is measured, with its unit. */
  readonly label: string;
  readonly scale: "linear" | "log";
  /** Where marks stand. @default chosen by the scale */
  readonly ticks?: readonly number[];
}

export interface LineChart extends Frame {
  readonly x: Axis;
  readonly y: Axis;
  /** Each with its name at its end. What is not finite, or not above 0 on a log axis, is left out. */
  readonly series: readonly Series[];
}

export interface Series {
  readonly name: string;
  readonly points: readonly (readonly [x: number, y: number])[];
  /** Whether each point gets a dot; lines of many points need none. @default true */
  readonly dots?: boolean;
}

/** Draws lines as SVG. Throws UNSUPPORTED where the plotting library is not installed, INVALID_REQUEST where nothing is left. */
export async function lineChart(chart: LineChart): Promise<string> {
  const { plot, marks } = await loadPlotting();
  const { x, y, series } = chart;
  const fits = ({ scale }: Axis, value: number) =>
    Number.isFinite(value) && (scale === "linear" || value > 0);
  const shown = series
    .map((one) => ({ ...one, points: one.points.filter(([a, b]) => fits(x, a) && fits(y, b)) }))
    .filter(({ points }) => points.length > 0);
  if (shown.length === 0)
    throw new Fault("INVALID_REQUEST", `'${chart.title}' has nothing that can be drawn`);
  const colourOf = (i: number) => COLOURS[i % COLOURS.length]!;
  const lines = shown.map(({ points }, i) =>
    marks.line(points, { stroke: colourOf(i), strokeWidth: 2, strokeLinejoin: "round" }),
  );
  const dots = shown.flatMap(({ points, dots = true }, i) =>
    dots ? [marks.dot(points, { fill: colourOf(i), r: 3 })] : [],
  );
  const longest = Math.max(0, ...shown.map(({ name }) => name.length));
  const [xs, ys] = [0, 1].map((side) => shown.flatMap(({ points }) => points.map((point) => point[side]!)));
  const [across, up] = [axisOf(x, xs!), axisOf(y, ys!)];
  const options = {
    width: WIDTH,
    height: 440,
    marginTop: MARGIN_TOP + 12,
    marginLeft: 64,
    marginRight: 20 + longest * LETTER,
    marginBottom: 48,
    style: STYLE,
    x: across.scale,
    y: up.scale,
  };
  const axes = [
    marks.gridY(up.ticks),
    marks.axisX(across.ticks, { text: short, label: x.label, labelAnchor: "center" }),
    marks.axisY(up.ticks, { text: short, label: y.label, labelAnchor: "center" }),
  ];
  const draft = plot({ ...options, marks: lines });
  const height = draft.scale("y");
  const places = apart(shown.map(({ points }) => height.apply(points.at(-1)![1])));
  const names = shown.map(({ name, points }, i) =>
    marks.text([[points.at(-1)![0], height.invert(places[i]!)]], {
      text: () => name,
      dx: 8,
      textAnchor: "start",
      fill: colourOf(i),
      stroke: "white",
      strokeWidth: 3,
      fontWeight: 600,
    }),
  );
  return framed(plot({ ...options, marks: [...axes, ...lines, ...dots, ...names] }), chart);
}

/** A scale that begins and ends at a tick, and its ticks. */
function axisOf({ scale, ticks }: Axis, values: readonly number[]) {
  const [least, most] = [Math.min(...values), Math.max(...values)];
  const own = ticks ?? (scale === "log" ? logTicks(least, most) : linearTicks(most));
  const domain = [Math.min(least, own[0]!), Math.max(most, own.at(-1)!)];
  return { scale: { type: scale, domain, label: null }, ticks: own };
}

/** From 0 to at least `most`, in about six whole steps of 1, 2 or 5. */
function linearTicks(most: number): number[] {
  const power = 10 ** Math.floor(Math.log10(Math.max(most, Number.MIN_VALUE) / 6));
  const step = ([1, 2, 5].find((factor) => factor * power >= most / 6) ?? 10) * power;
  return Array.from({ length: Math.ceil(most / step) + 1 }, (_, i) => i * step);
}

/** 1, 2 and 5 of each power of ten from below the least to above the most; only the powers where the range is wide. */
function logTicks(least: number, most: number): number[] {
  const [from, to] = [Math.floor(Math.log10(least)), Math.ceil(Math.log10(most))];
  const factors = to - from > 3 ? [1] : [1, 2, 5];
  const all: number[] = [];
  for (let power = from; power <= to; power++)
    for (const factor of factors) all.push(Number((factor * 10 ** power).toPrecision(3)));
  const first = all.findLastIndex((tick) => tick <= least);
  const last = all.findIndex((tick) => tick >= most);
  return all.slice(Math.max(0, first), last < 0 ? all.length : last + 1);
}

/** Moves heights away from each other until names of one line fit, each as little as may be. */
function apart(heights: readonly number[]): number[] {
  const order = heights.map((_, i) => i).sort((a, b) => heights[a]! - heights[b]!);
  const moved = [...heights];
  for (let pass = 0; pass < heights.length; pass++) {
    for (let i = 1; i < order.length; i++) {
      const [above, below] = [order[i - 1]!, order[i]!];
      const overlap = LINE - (moved[below]! - moved[above]!);
      if (overlap <= 0) continue;
      moved[above] = moved[above]! - overlap / 2;
      moved[below] = moved[below]! + overlap / 2;
    }
  }
  return moved;
}

/** Pixels of a letter and of a line of text. */
const LETTER = 7;
const LINE = 15;
