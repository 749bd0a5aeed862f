import { Fault } from "../src/core/faults.ts";
import { mean, quantile } from "./quantile.ts";

/** When requests came, and how large they were. */
export interface Trace {
  /** From the start of the trace, ascending, 0 or more. */
  readonly timesMs: Float64Array;
  /** One per request, above 0: steps, or whatever unit the profile has sizes in. All of one size where it is absent. */
  readonly sizes?: Float64Array;
}

export interface ParseOptions {
  /**
   * Longest time without a request, in milliseconds; a longer one is refused, because an outage of the recorder looks like
   * one of the callers. @default no limit
   */
  readonly maxGapMs?: number;
}

/**
 * Reads a trace: one request per line, its time in milliseconds and, where sizes are known, a comma or space and its size; or
 * one JSON object per line with `timeMs` and `size`. Empty lines, lines that begin with # and a heading are skipped. Times of another
 * origin are moved so that the trace begins at 0. Throws INVALID_REQUEST with the line that is wrong.
 */
export function parseTrace(text: string, { maxGapMs = Number.POSITIVE_INFINITY }: ParseOptions = {}): Trace {
  const times: number[] = [];
  const sizes: number[] = [];
  let hasBegun = false;
  text.split(/\r?\n/).forEach((raw, i) => {
    const line = raw.trim();
    if (line === "" || line.startsWith("#") || (!hasBegun && /^[a-z]/i.test(line))) return;
    hasBegun = true;
    const refuse = (why: string): never => {
      throw new Fault("INVALID_REQUEST", `line ${i + 1} of the trace: ${why}`);
    };
    const [timeMs, size] = line.startsWith("{") ? jsonLine(line, refuse) : numbersOf(line);
    if (timeMs === undefined || !Number.isFinite(timeMs))
      return refuse(`'${line}' is no time in milliseconds`);
    if (timeMs < 0) refuse(`the time is ${timeMs} ms, it must be 0 or more`);
    const before = times.at(-1);
    if (before !== undefined && timeMs < before)
      refuse(`the time is ${timeMs} ms, the one before it is ${before}: sort the trace by time`);
    if (before !== undefined && timeMs - before > maxGapMs)
      refuse(`nothing came for ${timeMs - before} ms, at most ${maxGapMs} are allowed: cut the trace there`);
    if (size !== undefined && !(size > 0 && Number.isFinite(size)))
      refuse(`the size is ${size}, it must be above 0`);
    if (before !== undefined && sizes.length > 0 !== (size !== undefined))
      refuse(
        size === undefined ? "it has no size, those before have" : "it has a size, those before have none",
      );
    times.push(timeMs);
    if (size !== undefined) sizes.push(size);
  });
  return checkTrace(traceOf(times, sizes));
}

function jsonLine(line: string, refuse: (why: string) => never): (number | undefined)[] {
  let parsed: unknown;
  try {
    parsed = JSON.parse(line);
  } catch {
    return refuse(`'${line}' is no JSON`);
  }
  const { timeMs, size } = parsed as Record<string, unknown>;
  return [timeMs, size].map((value) => {
    if (value === undefined || typeof value === "number") return value;
    return refuse(`'${JSON.stringify(value)}' is no number`);
  });
}

/** A line of more than a time and a size is none. */
function numbersOf(line: string): number[] {
  const parts = line.split(/[\s,;]+/);
  return parts.length > 2 ? [Number.NaN] : parts.map(Number);
}

function traceOf(times: readonly number[], sizes: readonly number[]): Trace {
  const origin = times[0] ?? 0;
  // Only clocks of another origin are moved: a trace that begins a little after 0 was recorded from 0.
  const from = origin > OTHER_ORIGIN_MS ? origin : 0;
  return {
    timesMs: Float64Array.from(times, (time) => time - from),
    ...(sizes.length > 0 ? { sizes: Float64Array.from(sizes) } : {}),
  };
}

/** A day: what begins later is on the clock of an epoch. */
const OTHER_ORIGIN_MS = 86_400_000;

/** The trace itself, or INVALID_REQUEST where it is empty, out of order or its sizes are not as many as its times. */
export function checkTrace(trace: Trace): Trace {
  const { timesMs, sizes } = trace;
  if (timesMs.length < 2)
    throw new Fault("INVALID_REQUEST", `a trace needs 2 requests or more, it has ${timesMs.length}`);
  if (sizes && sizes.length !== timesMs.length)
    throw new Fault("INVALID_REQUEST", `the trace has ${timesMs.length} times and ${sizes.length} sizes`);
  if (!(timesMs.at(-1)! > timesMs[0]!))
    throw new Fault(
      "INVALID_REQUEST",
      `all ${timesMs.length} requests of the trace came at ${timesMs[0]} ms`,
    );
  return trace;
}

/** One request per line; `parseTrace` reads it back. */
export function formatTrace({ timesMs, sizes }: Trace): string {
  const lines = Array.from(timesMs, (time, i) => (sizes ? `${time},${sizes[i]}` : `${time}`));
  return `${sizes ? "timeMs,size" : "timeMs"}\n${lines.join("\n")}\n`;
}

/** The requests from one time up to, but without, another. */
export function slice({ timesMs, sizes }: Trace, fromMs: number, toMs: number): Trace {
  const from = firstAt(timesMs, fromMs);
  const to = firstAt(timesMs, toMs);
  return {
    timesMs: timesMs.slice(from, to).map((time) => time - fromMs),
    ...(sizes ? { sizes: sizes.slice(from, to) } : {}),
  };
}

function firstAt(timesMs: Float64Array, timeMs: number): number {
  let low = 0;
  let high = timesMs.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (timesMs[middle]! < timeMs) low = middle + 1;
    else high = middle;
  }
  return low;
}

export interface TraceSummary {
  readonly requests: number;
  readonly seconds: number;
  readonly perSecond: number;
  /** Requests in the busiest second. */
  readonly peakPerSecond: number;
  /** Squared coefficient of variation of the times between arrivals, and their correlation with the next. */
  readonly scv: number;
  readonly lag1: number;
  readonly longestGapMs: number;
  readonly sizes?: {
    readonly least: number;
    readonly mean: number;
    readonly p95: number;
    readonly most: number;
  };
}

export function summaryOf({ timesMs, sizes }: Trace): TraceSummary {
  const gaps = gapsOf(timesMs);
  const spanMs = timesMs.at(-1)! - timesMs[0]!;
  const counts = countsPerBin(timesMs, 1000);
  const sorted = sizes?.slice().sort();
  return {
    requests: timesMs.length,
    seconds: spanMs / 1000,
    perSecond: ((timesMs.length - 1) * 1000) / spanMs,
    peakPerSecond: counts.reduce((most, count) => Math.max(most, count), 0),
    ...momentsOf(gaps),
    longestGapMs: gaps.reduce((most, gap) => Math.max(most, gap), 0),
    ...(sorted
      ? {
          sizes: { least: sorted[0]!, mean: mean(sorted), p95: quantile(sorted, 0.95), most: sorted.at(-1)! },
        }
      : {}),
  };
}

/** Times between arrivals. */
export function gapsOf(timesMs: Float64Array): Float64Array {
  return timesMs.slice(1).map((time, i) => time - timesMs[i]!);
}

export function momentsOf(gaps: Float64Array): { readonly scv: number; readonly lag1: number } {
  const middle = mean(gaps);
  let variance = 0;
  let product = 0;
  for (let i = 0; i < gaps.length; i++) {
    const off = gaps[i]! - middle;
    variance += off * off;
    if (i + 1 < gaps.length) product += off * (gaps[i + 1]! - middle);
  }
  return {
    scv: variance / gaps.length / middle ** 2,
    lag1: variance === 0 ? 0 : product / variance,
  };
}

/** Requests in each whole bin from the first request on. */
export function countsPerBin(timesMs: Float64Array, binMs: number): Int32Array {
  const from = timesMs[0] ?? 0;
  const counts = new Int32Array(Math.max(1, Math.floor(((timesMs.at(-1) ?? from) - from) / binMs)));
  for (const time of timesMs) {
    const bin = Math.floor((time - from) / binMs);
    if (bin < counts.length) counts[bin] = counts[bin]! + 1;
  }
  return counts;
}
