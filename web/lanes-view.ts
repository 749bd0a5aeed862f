import type { WatchStep } from "../src/server/watch-protocol.ts";
import { byId, element } from "./dom.ts";
import type { Lanes } from "./lanes.ts";
import { colours } from "./theme.ts";

/** Spans that can be chosen, in milliseconds; undefined fits the last burst. */
const SPANS = [undefined, 20, 100, 500, 2000, 10_000] as const;
const PAUSE_MS = 150;
const LONGEST_FIT_MS = 10_000;
const IDLE_MS = 400;
const TOP = 8;
const AXIS = 20;
const ROWS_STRIP = 42;
const GUTTER = 44;
const LANE_MOST = 18;
const LANE_LEAST = 3;

/** Draws lanes of requests over time; every block is one row of one batched cell. */
export class LanesView {
  readonly #lanes: Lanes;
  readonly #canvas = byId<HTMLCanvasElement>("lanes");
  readonly #legend = byId("lanes-legend");
  readonly #readout = byId("lanes-readout");
  readonly #freeze = byId<HTMLButtonElement>("lanes-freeze");
  readonly #span = byId<HTMLSelectElement>("lanes-span");
  readonly #kinds: string[] = [];
  /** The window while frozen; else it follows. */
  #frozen: { readonly fromMs: number; readonly toMs: number } | undefined;
  #selected: WatchStep | undefined;
  #isDue = false;

  constructor(lanes: Lanes) {
    this.#lanes = lanes;
    this.#span.append(
      ...SPANS.map((ms) =>
        element("option", { value: String(ms ?? "") }, ms === undefined ? "Last burst" : spanName(ms)),
      ),
    );
    this.#span.addEventListener("change", () => {
      if (this.#frozen) this.#frozen = this.#window(this.#frozen.toMs);
      this.draw();
    });
    this.#freeze.addEventListener("click", () => this.#setFrozen(!this.#frozen));
    this.#canvas.addEventListener("pointermove", (event) => this.#point(event));
    this.#canvas.addEventListener("pointerleave", () => this.#select(undefined));
    this.#canvas.addEventListener("keydown", (event) => this.#key(event));
    new ResizeObserver(() => this.draw()).observe(this.#canvas);
  }

  /** Draws at the next frame. */
  draw(): void {
    if (this.#isDue) return;
    this.#isDue = true;
    requestAnimationFrame(() => {
      this.#isDue = false;
      this.#paint();
    });
  }

  #setFrozen(isFrozen: boolean): void {
    this.#frozen = isFrozen ? this.#window() : undefined;
    this.#freeze.setAttribute("aria-pressed", String(isFrozen));
    this.draw();
  }

  /** What is shown: the chosen span up to now, or up to the last step where nothing runs. */
  #window(endMs?: number): { readonly fromMs: number; readonly toMs: number } {
    const burst = this.#lanes.burst(PAUSE_MS);
    const chosen = this.#span.value === "" ? undefined : Number(this.#span.value);
    const { nowMs } = this.#lanes;
    const isIdle = burst !== undefined && nowMs - burst.toMs > IDLE_MS;
    const toMs = endMs ?? (burst && (isIdle || chosen === undefined) ? burst.toMs : nowMs);
    const fitted = burst ? Math.min(LONGEST_FIT_MS, Math.max(5, (burst.toMs - burst.fromMs) * 1.02)) : 1000;
    const spanMs = chosen ?? fitted;
    return { fromMs: toMs - spanMs, toMs: toMs + spanMs * 0.01 };
  }

  #paint(): void {
    const { clientWidth: width, clientHeight: height } = this.#canvas;
    const ratio = devicePixelRatio;
    this.#canvas.width = Math.round(width * ratio);
    this.#canvas.height = Math.round(height * ratio);
    const context = this.#canvas.getContext("2d")!;
    context.scale(ratio, ratio);
    context.clearRect(0, 0, width, height);
    const { fromMs, toMs } = this.#frozen ?? this.#window();
    const steps = this.#lanes.steps.filter(({ start_ms, ms }) => start_ms + ms >= fromMs && start_ms <= toMs);
    this.#showLegend(steps);
    const scale = (width - GUTTER) / (toMs - fromMs);
    const x = (ms: number) => GUTTER + (ms - fromMs) * scale;
    const palette = colours();
    context.font = `11px ${getComputedStyle(document.body).fontFamily}`;
    this.#paintAxis(context, { width, height, fromMs, toMs, x });
    if (steps.length === 0) {
      context.fillStyle = palette.muted;
      context.textAlign = "center";
      context.fillText(
        "No steps yet. Run a model, and its cells appear here.",
        (width + GUTTER) / 2,
        height / 2 - AXIS,
      );
      return;
    }
    const places = this.#places(steps);
    const room = height - TOP - AXIS - ROWS_STRIP;
    const laneHeight = Math.min(LANE_MOST, Math.max(LANE_LEAST, room / places.size));
    const shown = Math.floor(room / laneHeight);
    const inset = laneHeight >= 6 ? 1 : 0;
    this.#paintLanes(context, places, { laneHeight, shown, fromMs, toMs, x });
    const most = Math.max(...steps.map(({ rows }) => rows));
    const floor = height - AXIS;
    for (const step of steps) {
      const left = x(step.start_ms);
      const pitch = (step.ms * scale) / step.steps;
      const gap = pitch > 4 ? 1 : 0;
      const isDimmed = this.#selected !== undefined && this.#selected !== step;
      context.fillStyle = this.#colour(step, palette.series);
      context.globalAlpha = isDimmed ? 0.35 : 1;
      for (const request of step.requests) {
        const place = places.get(this.#lanes.lanes.get(request)?.at ?? -1);
        if (place === undefined || place >= shown) continue;
        const top = TOP + place * laneHeight + inset;
        // Blocks that are closer than a pixel are drawn as one.
        const blocks = pitch > 2 ? step.steps : 1;
        const size = Math.max(0.75, (pitch * step.steps) / blocks - gap);
        for (let i = 0; i < blocks; i++) {
          context.fillRect(left + (i * pitch * step.steps) / blocks, top, size, laneHeight - 2 * inset);
        }
      }
      const bar = (step.rows / most) * (ROWS_STRIP - 16);
      context.fillRect(left, floor - bar - 1, Math.max(0.75, pitch * step.steps - gap), bar);
    }
    context.globalAlpha = 1;
    context.fillStyle = palette.muted;
    context.textAlign = "right";
    context.fillText(`${most}`, GUTTER - 8, floor - ROWS_STRIP + 24);
    context.fillText("rows", GUTTER - 8, floor - 2);
    if (places.size > shown) context.fillText(`+${places.size - shown}`, GUTTER - 8, floor - ROWS_STRIP + 8);
  }

  /** Lanes that are in the window, closed up: by lane, its place from the top. */
  #places(steps: readonly WatchStep[]): ReadonlyMap<number, number> {
    const used = new Set<number>();
    for (const { requests } of steps) {
      for (const request of requests) {
        const lane = this.#lanes.lanes.get(request);
        if (lane) used.add(lane.at);
      }
    }
    return new Map([...used].sort((a, b) => a - b).map((at, place) => [at, place]));
  }

  /** The life of every request as a faint band behind its blocks, with its number. */
  #paintLanes(
    context: CanvasRenderingContext2D,
    places: ReadonlyMap<number, number>,
    { laneHeight, shown, fromMs, toMs, x }: LaneFrame,
  ): void {
    const { muted, grid } = colours();
    const inset = laneHeight >= 6 ? 1 : 0;
    for (const { at, firstMs, lastMs, request } of this.#lanes.lanes.values()) {
      const place = places.get(at);
      if (place === undefined || place >= shown || lastMs < fromMs || firstMs > toMs) continue;
      const left = Math.max(GUTTER, x(firstMs));
      const right = x(Math.min(toMs, lastMs));
      const top = TOP + place * laneHeight;
      context.fillStyle = grid;
      context.fillRect(left, top + inset, Math.max(1, right - left), laneHeight - 2 * inset);
      if (laneHeight < 11 || firstMs > fromMs + (toMs - fromMs) * 0.02) continue;
      context.fillStyle = muted;
      context.textAlign = "right";
      context.fillText(`#${request}`, GUTTER - 8, top + laneHeight / 2 + 4);
    }
  }

  #paintAxis(context: CanvasRenderingContext2D, { width, height, fromMs, toMs, x }: AxisFrame): void {
    const { muted, grid } = colours();
    const every = tickOf((toMs - fromMs) / Math.max(2, (width - GUTTER) / 90));
    context.fillStyle = muted;
    context.strokeStyle = grid;
    context.lineWidth = 1;
    context.textAlign = "center";
    for (let back = 0; toMs - back > fromMs; back += every) {
      const at = x(toMs - (toMs - fromMs) * 0.01 - back);
      if (at < GUTTER + 24) break;
      context.beginPath();
      context.moveTo(Math.round(at) + 0.5, TOP);
      context.lineTo(Math.round(at) + 0.5, height - AXIS);
      context.stroke();
      if (at < width - 24) context.fillText(back === 0 ? "" : `−${spanName(back)}`, at, height - 5);
    }
  }

  #colour({ model, cell }: WatchStep, series: readonly string[]): string {
    return series[this.#kindOf(`${model} ${cell}`) % series.length]!;
  }

  /** Kinds of cells keep the colour of their first appearance. */
  #kindOf(kind: string): number {
    const at = this.#kinds.indexOf(kind);
    return at >= 0 ? at : this.#kinds.push(kind) - 1;
  }

  #showLegend(steps: readonly WatchStep[]): void {
    const kinds = [...new Set(steps.map(({ model, cell }) => `${model} ${cell}`))];
    const text = kinds.join();
    if (this.#legend.dataset.kinds === text) return;
    this.#legend.dataset.kinds = text;
    this.#legend.replaceChildren(
      ...kinds.map((kind) => {
        const series = (this.#kindOf(kind) % colours().series.length) + 1;
        return element(
          "li",
          {},
          element("span", { className: `swatch series-${series}`, "aria-hidden": "true" }),
          kind,
        );
      }),
    );
  }

  #point({ offsetX }: PointerEvent): void {
    const { fromMs, toMs } = this.#frozen ?? this.#window();
    const ms = fromMs + ((offsetX - GUTTER) / (this.#canvas.clientWidth - GUTTER)) * (toMs - fromMs);
    this.#select(this.#lanes.stepAt(ms));
  }

  /** Arrows go from step to step, + and - change the span, space freezes. */
  #key(event: KeyboardEvent): void {
    const { steps } = this.#lanes;
    const move = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    const zoom = { "+": -1, "-": 1 }[event.key];
    if (move !== undefined && steps.length > 0) {
      if (!this.#frozen) this.#setFrozen(true);
      const at = this.#selected ? steps.indexOf(this.#selected) + move : steps.length - 1;
      const step = steps[Math.min(steps.length - 1, Math.max(0, at))]!;
      const { fromMs, toMs } = this.#frozen!;
      if (step.start_ms < fromMs || step.start_ms > toMs) {
        const half = (toMs - fromMs) / 2;
        this.#frozen = { fromMs: step.start_ms - half, toMs: step.start_ms + half };
      }
      this.#select(step);
    } else if (zoom !== undefined) {
      const last = this.#span.options.length - 1;
      const at = this.#span.selectedIndex;
      this.#span.selectedIndex = Math.min(last, Math.max(1, at === 0 ? 3 : at + zoom));
      this.#span.dispatchEvent(new Event("change"));
    } else if (event.key === " ") this.#setFrozen(!this.#frozen);
    else return;
    event.preventDefault();
  }

  #select(step: WatchStep | undefined): void {
    if (this.#selected === step) return;
    this.#selected = step;
    this.#readout.textContent = step ? sentenceOf(step) : HINT;
    this.draw();
  }
}

const HINT = "Point at a step, or press the arrow keys in the picture, to read what ran in it.";

interface LaneFrame {
  readonly laneHeight: number;
  readonly shown: number;
  readonly fromMs: number;
  readonly toMs: number;
  readonly x: (ms: number) => number;
}

interface AxisFrame {
  readonly width: number;
  readonly height: number;
  readonly fromMs: number;
  readonly toMs: number;
  readonly x: (ms: number) => number;
}

function sentenceOf({ model, cell, rows, steps, ms, requests, engine }: WatchStep): string {
  const who = requests.slice(0, 12).map((request) => `#${request}`);
  const more = rows > who.length ? ` and ${rows - who.length} more` : "";
  const calls = steps > 1 ? `${steps} steps of ` : "";
  return `${calls}${model} ${cell} with ${rows} ${rows === 1 ? "row" : "rows"} in ${ms.toFixed(2)} ms on engine ${engine}: ${who.join(" ")}${more}`;
}

function spanName(ms: number): string {
  return ms >= 1000 ? `${ms / 1000} s` : `${ms} ms`;
}

/** The least round number of milliseconds that is not below `ms`. */
function tickOf(ms: number): number {
  const power = 10 ** Math.floor(Math.log10(ms));
  return power * ([1, 2, 5].find((one) => one * power >= ms) ?? 10);
}
