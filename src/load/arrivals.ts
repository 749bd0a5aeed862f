import { readFileSync } from "node:fs";
import { mmpp } from "../../planner/arrival-process.ts";
import {
  MOST_CV,
  type Arrivals as Synthesized,
  arrivalTimes as synthesized,
} from "../../planner/synthesis.ts";
import { Fault } from "../core/faults.ts";

/** How requests come. */
export type Arrivals =
  | { readonly kind: "poisson" }
  /** Times between arrivals of a Gamma distribution with this coefficient of variation; 1 is Poisson, more is burstier. */
  | { readonly kind: "gamma"; readonly cv: number }
  /** A Poisson process that is `burst` times as fast in one of two phases, which take turns and last `seconds` on average. */
  | { readonly kind: "mmpp"; readonly burst: number; readonly seconds: number }
  /** Recorded times, in seconds from the start, ascending; stretched or squeezed to the wanted rate, again and again. */
  | { readonly kind: "trace"; readonly times: readonly number[] };

/**
 * Reads `poisson`, `gamma:CV`, `mmpp:BURST,SECONDS` or `trace:FILE`; a file has a time in milliseconds at the start of each line,
 * what follows a comma or a blank is left alone, as are empty lines and those that begin with # or a letter. Throws INVALID_REQUEST.
 */
export function parseArrivals(text: string): Arrivals {
  const [kind, rest = ""] = split(text, ":");
  const numbers = rest.split(",").map(Number);
  const positive = (count: number, most: number) =>
    rest !== "" && numbers.length === count && numbers.every((value) => value > 0 && value <= most);
  if (kind === "poisson" && rest === "") return { kind };
  if (kind === "gamma" && positive(1, MOST_CV)) return { kind, cv: numbers[0]! };
  if (kind === "mmpp" && positive(2, 1000) && numbers[0]! >= 1)
    return { kind, burst: numbers[0]!, seconds: numbers[1]! };
  if (kind === "trace" && rest !== "") return { kind, times: readTimes(rest) };
  throw new Fault(
    "INVALID_REQUEST",
    `arrivals '${text}' are none of poisson, gamma:CV (up to ${MOST_CV}), mmpp:BURST,SECONDS (a burst of 1 or more), trace:FILE`,
  );
}

/** Times from 0 to `seconds`, in seconds, ascending, `rate` a second on average; the same for the same seed. */
export function arrivalTimes(arrivals: Arrivals, rate: number, seconds: number, seed: number): Float64Array {
  if (arrivals.kind === "trace") return timesOfTrace(arrivals.times, rate, seconds);
  return synthesized(processOf(arrivals, rate), seconds, seed).map((ms) => ms / 1000);
}

export function poisson(rate: number, seconds: number, seed: number): Float64Array {
  return arrivalTimes({ kind: "poisson" }, rate, seconds, seed);
}

function processOf(arrivals: Exclude<Arrivals, { kind: "trace" }>, perSecond: number): Synthesized {
  if (arrivals.kind !== "mmpp") return { ...arrivals, perSecond };
  const { burst, seconds } = arrivals;
  const calm = (2 * perSecond) / (1 + burst);
  const leave = 1 / seconds;
  const switching = [
    [0, leave],
    [leave, 0],
  ];
  return { kind: "map", process: mmpp([burst * calm, calm], switching) };
}

function timesOfTrace(recorded: readonly number[], rate: number, seconds: number): Float64Array {
  const gaps = recorded.slice(1).map((time, i) => time - recorded[i]!);
  const mean = (recorded.at(-1)! - recorded[0]!) / gaps.length;
  const stretch = 1 / (rate * mean);
  const times: number[] = [];
  let next = 0;
  const gap = () => gaps[next++ % gaps.length]! * stretch;
  for (let at = gap(); at < seconds; at += gap()) times.push(at);
  return Float64Array.from(times);
}

function readTimes(file: string): number[] {
  const lines = readLines(file, "trace");
  const times: number[] = [];
  lines.forEach((line, i) => {
    if (line === "" || /^[#a-z]/i.test(line)) return;
    const ms = Number(line.split(/[\s,;]/)[0]);
    const refuse = (why: string) => {
      throw new Fault("INVALID_REQUEST", `line ${i + 1} of trace ${file}: ${why}`);
    };
    if (!Number.isFinite(ms) || ms < 0) refuse(`'${line}' does not begin with a time in milliseconds`);
    if (times.length > 0 && ms / 1000 < times.at(-1)!) refuse(`${ms} ms is before the line above it`);
    times.push(ms / 1000);
  });
  if (times.length > 1 && times.at(-1)! > times[0]!) return times;
  throw new Fault("INVALID_REQUEST", `trace ${file} needs two requests or more at different times`);
}

/** The lines of a file without blanks around them. Throws INVALID_REQUEST where it cannot be read. */
export function readLines(file: string, what: string): string[] {
  try {
    return readFileSync(file, "utf8")
      .split("\n")
      .map((line) => line.trim());
  } catch (error) {
    throw new Fault("INVALID_REQUEST", `${what} ${file} cannot be read: ${(error as Error).message}`);
  }
}

/** At the first separator. */
export function split(text: string, separator: string): [string, string?] {
  const at = text.indexOf(separator);
  return at < 0 ? [text] : [text.slice(0, at), text.slice(at + 1)];
}
