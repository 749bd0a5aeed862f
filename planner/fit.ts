import { Fault } from "../src/core/faults.ts";
import { type ArrivalProcess, mmpp, poissonProcess } from "./arrival-process.ts";
import { checkTrace, countsPerBin, gapsOf, momentsOf, type Trace } from "./trace.ts";

export interface Fit {
  readonly process: ArrivalProcess;
  /** Why it is this process, for whoever reads the plan. */
  readonly reason: string;
}

/**
 * The arrival process behind a trace: Poisson where the times between arrivals look like it, else two Poisson phases (MMPP),
 * found by Baum-Welch on the counts of one-second bins. Throws INVALID_REQUEST where there are too few arrivals to tell.
 */
export function fitArrivals(trace: Trace): Fit {
  const { timesMs } = checkTrace(trace);
  if (timesMs.length < FEWEST)
    throw new Fault(
      "INVALID_REQUEST",
      `a fit needs ${FEWEST} requests or more, the trace has ${timesMs.length}`,
    );
  const gaps = gapsOf(timesMs);
  const { scv, lag1 } = momentsOf(gaps);
  const perSecond = (gaps.length * 1000) / (timesMs.at(-1)! - timesMs[0]!);
  const said = `squared CV ${scv.toFixed(3)}, lag-1 correlation ${lag1.toFixed(3)}`;
  // Both moments of a Poisson trace vary with its length: less than three standard errors is no burstiness.
  const noise = 1 / Math.sqrt(gaps.length);
  const looksPoisson =
    Math.abs(scv - 1) <= Math.max(0.05, 3 * Math.sqrt(8) * noise) &&
    Math.abs(lag1) <= Math.max(0.02, 3 * noise);
  if (looksPoisson) return { process: poissonProcess(perSecond), reason: `looks Poisson: ${said}` };
  const binMs = binOf(perSecond);
  const counts = countsPerBin(timesMs, binMs);
  const fitted = counts.length >= FEWEST_BINS ? twoPhases(counts, binMs / 1000) : undefined;
  if (!fitted)
    return { process: poissonProcess(perSecond), reason: `no two phases found, so Poisson: ${said}` };
  return { process: fitted, reason: `two phases found: ${said}` };
}

const FEWEST = 10;
const FEWEST_BINS = 20;

/** Seconds, but longer where hardly anything comes in one: a bin should hold some arrivals to tell phases apart. */
function binOf(perSecond: number): number {
  return perSecond >= 2 ? 1000 : Math.ceil(2000 / perSecond);
}

/**
 * Baum-Welch for a hidden chain of two states with Poisson counts (Rabiner, "A Tutorial on Hidden Markov Models", 1989), with
 * scaled forward and backward passes. Undefined where the two states come out alike.
 */
function twoPhases(counts: Int32Array, binSeconds: number): ArrivalProcess | undefined {
  const bins = counts.length;
  const sorted = counts.slice().sort();
  let means = [
    Math.max(0.1, sorted[bins >> 2]!),
    Math.max(0.2, sorted[(3 * bins) >> 2]!, sorted[bins - 1]! / 2),
  ];
  let stay = [0.9, 0.9];
  let start = [0.5, 0.5];
  const most = sorted[bins - 1]!;
  const logFactorial = new Float64Array(most + 1);
  for (let k = 1; k <= most; k++) logFactorial[k] = logFactorial[k - 1]! + Math.log(k);
  const forward = new Float64Array(2 * bins);
  const emitted = new Float64Array(2 * bins);
  const scales = new Float64Array(bins);
  let before = Number.NEGATIVE_INFINITY;
  for (let round = 0; round < MOST_ROUNDS; round++) {
    let logLikelihood = 0;
    for (let t = 0; t < bins; t++) {
      const logs = means.map((rate) => counts[t]! * Math.log(rate) - rate - logFactorial[counts[t]!]!);
      // Divided by the larger of the two, because both underflow for a count that fits neither state.
      const shift = Math.max(...logs);
      for (let i = 0; i < 2; i++) emitted[2 * t + i] = Math.exp(logs[i]! - shift);
      let scale = 0;
      for (let i = 0; i < 2; i++) {
        const prior =
          t === 0
            ? start[i]!
            : forward[2 * t - 2 + i]! * stay[i]! + forward[2 * t - 1 - i]! * (1 - stay[1 - i]!);
        forward[2 * t + i] = prior * emitted[2 * t + i]!;
        scale += forward[2 * t + i]!;
      }
      for (let i = 0; i < 2; i++) forward[2 * t + i] = forward[2 * t + i]! / scale;
      scales[t] = scale;
      logLikelihood += Math.log(scale) + shift;
    }
    const weight = [0, 0];
    const total = [0, 0];
    const left = [0, 0];
    const stayed = [0, 0];
    let backward = [1, 1];
    for (let t = bins - 1; t >= 0; t--) {
      const gamma = [0, 1].map((i) => forward[2 * t + i]! * backward[i]!);
      const sum = gamma[0]! + gamma[1]!;
      for (let i = 0; i < 2; i++) {
        const share = gamma[i]! / sum;
        weight[i] = weight[i]! + share;
        total[i] = total[i]! + share * counts[t]!;
        if (t === 0) start[i] = share;
      }
      if (t === 0) break;
      const ahead = [0, 1].map((i) => (emitted[2 * t + i]! * backward[i]!) / scales[t]!);
      for (let i = 0; i < 2; i++) {
        const here = forward[2 * t - 2 + i]!;
        stayed[i] = stayed[i]! + here * stay[i]! * ahead[i]!;
        left[i] = left[i]! + here * (1 - stay[i]!) * ahead[1 - i]!;
      }
      backward = [0, 1].map((i) => stay[i]! * ahead[i]! + (1 - stay[i]!) * ahead[1 - i]!);
    }
    means = [0, 1].map((i) => Math.max(1e-6, total[i]! / Math.max(1e-12, weight[i]!)));
    stay = [0, 1].map((i) => stayed[i]! / Math.max(1e-12, stayed[i]! + left[i]!));
    start = start.map((share) => Math.max(1e-6, share));
    if (logLikelihood - before < CONVERGED * bins) break;
    before = logLikelihood;
  }
  const leave = stay.map((share) => 1 - share);
  const both = leave[0]! + leave[1]!;
  const alike = Math.abs(means[0]! - means[1]!) < Math.sqrt(Math.max(...means)) / 2;
  if (alike || both <= 0) return undefined;
  // The chain is seen once per bin; its generator is the logarithm of what a bin does.
  const rate = -Math.log(Math.max(1e-9, 1 - Math.min(both, 1 - 1e-9))) / binSeconds;
  const switching = leave.map((share) => Math.max(1e-9, (rate * share) / both));
  return mmpp(
    means.map((count) => count / binSeconds),
    [
      [0, switching[0]!],
      [switching[1]!, 0],
    ],
  );
}

const MOST_ROUNDS = 200;
/** Gain of log likelihood per bin below which another round is not worth its time. */
const CONVERGED = 1e-7;
