import { Fault } from "../src/core/faults.ts";
import { Random } from "../src/core/random.ts";
import { type ArrivalProcess, phaseAtNextArrival, stationaryOfChain } from "./arrival-process.ts";

/** How requests come, for a trace that is made rather than recorded. All rates per second. */
export type Arrivals =
  | { readonly kind: "poisson"; readonly perSecond: number }
  /** Times between arrivals of a Gamma distribution with this coefficient of variation; 1 is Poisson, more is burstier. */
  | { readonly kind: "gamma"; readonly perSecond: number; readonly cv: number }
  | { readonly kind: "map"; readonly process: ArrivalProcess }
  /** Poisson at a rate that changes every minute, as traces of cloud functions are published. */
  | { readonly kind: "counts"; readonly perMinute: readonly number[] };

/** Times in milliseconds, ascending, from 0 to `seconds`; the same for the same seed. Throws INVALID_REQUEST for rates out of bounds. */
export function arrivalTimes(arrivals: Arrivals, seconds: number, seed: number): Float64Array {
  const random = new Random(seed);
  const endMs = seconds * 1000;
  if (!(seconds > 0)) throw new Fault("INVALID_REQUEST", `a trace of ${seconds} s has no arrivals`);
  if (arrivals.kind === "counts") return timesOfCounts(arrivals.perMinute, endMs, random);
  const next = gapsFrom(arrivals, random);
  const times: number[] = [];
  for (let at = next(); at < endMs; at += next()) times.push(at);
  return Float64Array.from(times);
}

/** What gives the next time between arrivals, in milliseconds. */
function gapsFrom(arrivals: Exclude<Arrivals, { kind: "counts" }>, random: Random): () => number {
  if (arrivals.kind === "map") return gapsOfProcess(arrivals.process, random);
  const { perSecond } = arrivals;
  if (!(perSecond > 0) || !Number.isFinite(perSecond))
    throw new Fault("INVALID_REQUEST", `the rate is ${perSecond} per second, it must be above 0`);
  const meanMs = 1000 / perSecond;
  if (arrivals.kind === "poisson") return () => random.exponential(meanMs);
  const { cv } = arrivals;
  if (!(cv > 0 && cv <= MOST_CV))
    throw new Fault(
      "INVALID_REQUEST",
      `the coefficient of variation is ${cv}, it must be above 0 and at most ${MOST_CV}`,
    );
  const shape = 1 / cv ** 2;
  return () => (random.gamma(shape) * meanMs) / shape;
}

/** Above this most of a Gamma's draws are 0 in double precision. */
export const MOST_CV = 20;

function gapsOfProcess(process: ArrivalProcess, random: Random): () => number {
  const { d0, d1 } = process;
  let phase = random.pick(stationaryOfChain(phaseAtNextArrival(process)));
  // By phase: first the silent jumps, then those with an arrival.
  const jumps = d0.map((row, i) => [...row.map((rate, j) => (i === j ? 0 : rate)), ...d1[i]!]);
  return () => {
    let gap = 0;
    for (;;) {
      gap += random.exponential(-1000 / d0[phase]![phase]!);
      const jump = random.pick(jumps[phase]!);
      phase = jump % d0.length;
      if (jump >= d0.length) return gap;
    }
  };
}

function timesOfCounts(perMinute: readonly number[], endMs: number, random: Random): Float64Array {
  const times: number[] = [];
  perMinute.forEach((count, minute) => {
    if (!Number.isInteger(count) || count < 0)
      throw new Fault(
        "INVALID_REQUEST",
        `minute ${minute} has ${count} requests, it must be an integer of 0 or more`,
      );
    const from = minute * 60_000;
    const within = Array.from({ length: count }, () => from + random.uniform() * 60_000);
    times.push(...within.filter((time) => time < endMs).sort((a, b) => a - b));
  });
  return Float64Array.from(times);
}

/** How large requests are: each size with its share; shares are normalised. */
export interface SizeMix {
  readonly sizes: readonly number[];
  readonly shares: readonly number[];
}

/** As many sizes as are wanted, each on its own; the same for the same seed. */
export function drawSizes(mix: SizeMix, count: number, seed: number): Float64Array {
  const random = new Random(seed);
  return Float64Array.from({ length: count }, () => mix.sizes[random.pick(mix.shares)]!);
}
