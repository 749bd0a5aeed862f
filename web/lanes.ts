import type { WatchReport, WatchStep } from "../src/server/watch-protocol.ts";

/** One request or session as a lane: from the first step it was seen in to the last. */
export interface Lane {
  readonly request: number;
  readonly model: string;
  /** Which lane, from 0 at the top. */
  readonly at: number;
  readonly firstMs: number;
  lastMs: number;
  hasEnded: boolean;
}

/** The latest steps and the lanes of their requests. A request keeps its lane; a newcomer takes the first that is free. */
export class Lanes {
  readonly #keepMs: number;
  #steps: WatchStep[] = [];
  readonly #lanes = new Map<number, Lane>();
  /** By lane: who has it, or had it last. */
  readonly #holders: (Lane | undefined)[] = [];
  #nowMs = 0;

  constructor(keepMs: number) {
    this.#keepMs = keepMs;
  }

  get nowMs(): number {
    return this.#nowMs;
  }

  /** By time. */
  get steps(): readonly WatchStep[] {
    return this.#steps;
  }

  get lanes(): ReadonlyMap<number, Lane> {
    return this.#lanes;
  }

  add({ now_ms, steps, ended }: Pick<WatchReport, "now_ms" | "steps" | "ended">): void {
    // The server began anew: its clock and its numbers did too.
    if (now_ms < this.#nowMs) {
      this.#steps = [];
      this.#lanes.clear();
      this.#holders.length = 0;
    }
    this.#nowMs = now_ms;
    const lastMs = new Map<number, number>();
    for (const step of steps)
      for (const request of step.requests) lastMs.set(request, step.start_ms + step.ms);
    // Whoever ended in this report may make room for somebody who came in it, but only after their own last step.
    for (const [request] of ended) {
      const lane = this.#lanes.get(request);
      if (lane) lane.hasEnded = true;
    }
    const gone = new Set(ended.map(([request]) => request));
    for (const [request, ms] of lastMs) {
      const lane = this.#lanes.get(request);
      if (lane) lane.lastMs = Math.max(lane.lastMs, ms);
    }
    for (const step of steps) {
      for (const request of step.requests) {
        if (this.#lanes.has(request)) continue;
        this.#take(request, step, lastMs.get(request)!, gone.has(request));
      }
    }
    this.#steps.push(...steps);
    this.#steps.sort((a, b) => a.start_ms - b.start_ms);
    this.#forget(now_ms - this.#keepMs);
  }

  /** When the latest burst of steps began, with no pause of `pauseMs` in it, and when it ended; undefined without steps. */
  burst(pauseMs: number): { readonly fromMs: number; readonly toMs: number } | undefined {
    const last = this.#steps.at(-1);
    if (!last) return undefined;
    let fromMs = last.start_ms;
    for (const step of this.#steps.toReversed()) {
      if (fromMs - (step.start_ms + step.ms) > pauseMs) break;
      fromMs = Math.min(fromMs, step.start_ms);
    }
    return { fromMs, toMs: last.start_ms + last.ms };
  }

  /** The last step that began by `ms`. */
  stepAt(ms: number): WatchStep | undefined {
    return this.#steps.findLast(({ start_ms }) => start_ms <= ms);
  }

  #take(request: number, { model, start_ms: firstMs }: WatchStep, lastMs: number, hasEnded: boolean): void {
    const free = this.#holders.findIndex(
      (holder) =>
        !holder || (holder.lastMs <= firstMs && (holder.hasEnded || firstMs - holder.lastMs > LOST_MS)),
    );
    const at = free < 0 ? this.#holders.length : free;
    const lane = { request, model, at, firstMs, lastMs, hasEnded };
    this.#holders[at] = lane;
    this.#lanes.set(request, lane);
  }

  #forget(beforeMs: number): void {
    const from = this.#steps.findIndex(({ start_ms, ms }) => start_ms + ms >= beforeMs);
    this.#steps.splice(0, from < 0 ? this.#steps.length : from);
    for (const [request, lane] of this.#lanes) {
      const isSilent = lane.lastMs < beforeMs && (lane.hasEnded || this.#nowMs - lane.lastMs > LOST_MS);
      if (isSilent) this.#lanes.delete(request);
    }
    while (this.#holders.length > 0) {
      const holder = this.#holders.at(-1);
      if (holder && this.#lanes.get(holder.request) === holder) break;
      this.#holders.pop();
    }
  }
}

/** A request without a step for so long, whose end was not told, is taken to be gone. */
const LOST_MS = 30_000;
