import { Fault } from "../core/faults.ts";

/** What of Observable Plot is used here; its own types ask for those of a browser. */
export interface Plotting {
  readonly plot: (options: Record<string, unknown>) => PlotElement;
  readonly marks: Readonly<Record<MarkName, (data: unknown, options?: Record<string, unknown>) => unknown>>;
}

type MarkName = "axisX" | "axisY" | "barX" | "dot" | "gridY" | "line" | "rectY" | "ruleX" | "ruleY" | "text";

export interface PlotElement {
  readonly outerHTML: string;
  scale(name: "x" | "y"): { apply(value: number): number; invert(position: number): number };
  setAttribute(name: string, value: string): void;
  insertAdjacentHTML(where: "afterbegin" | "beforeend", html: string): void;
}

/** Loads the plotting library, which draws into a document without a browser. Throws UNSUPPORTED where it was left out at install. */
export async function loadPlotting(): Promise<Plotting> {
  try {
    const { plot, ...marks } = await import("@observablehq/plot");
    const { parseHTML } = await import("linkedom");
    const { document } = parseHTML("<html><body></body></html>");
    return {
      plot: (options) => plot({ ...options, document } as never) as unknown as PlotElement,
      marks: marks as unknown as Plotting["marks"],
    };
  } catch (cause) {
    const message = "plots need the optional packages: npm install @observablehq/plot linkedom";
    throw new Fault("UNSUPPORTED", message, { cause });
  }
}

export interface Frame {
  readonly title: string;
  /** One line below the title. */
  readonly subtitle?: string;
}

/** Room above a plot for its title. */
export const MARGIN_TOP = 64;
export const WIDTH = 760;

/** The text of an SVG file: on white, so that it can be read on a dark page, with its title inside. */
export function framed(plot: PlotElement, { title, subtitle = "" }: Frame): string {
  plot.setAttribute("xmlns", "http://www.w3.org/2000/svg");
  plot.insertAdjacentHTML("afterbegin", '<rect width="100%" height="100%" fill="#fff"/>');
  plot.insertAdjacentHTML(
    "beforeend",
    `<text x="12" y="24" text-anchor="start" font-size="16" font-weight="600">${escaped(title)}</text>` +
      `<text x="12" y="43" text-anchor="start" font-size="12" fill="#555">${escaped(subtitle)}</text>`,
  );
  return `${plot.outerHTML}\n`;
}

/** Okabe and Ito's colours, which people with any colour vision can tell apart; without yellow, which is too pale for lines. */
export const COLOURS: readonly string[] = [
  "#0072B2",
  "#D55E00",
  "#009E73",
  "#CC79A7",
  "#56B4E9",
  "#E69F00",
  "#000000",
];

export const STYLE = { fontSize: "12px", fontFamily: "system-ui, 'Segoe UI', Helvetica, Arial, sans-serif" };

export function escaped(text: string): string {
  return text.replace(/[&<>"]/g, (sign) => `&#${sign.charCodeAt(0)};`);
}

/** A number as an axis shows it: 0.5, 20, 3k. */
export function short(value: number): string {
  if (Math.abs(value) >= 1e6) return `${Number((value / 1e6).toPrecision(3))}M`;
  if (Math.abs(value) >= 1e4) return `${Number((value / 1e3).toPrecision(3))}k`;
  return String(Number(value.toPrecision(3)));
}
