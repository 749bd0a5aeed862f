import {
  bucketChoices,
  bucketing,
  cellular,
  cellularStepMs,
  MAX_BATCH,
  MAX_TASKS,
  sentenceLengths,
} from "./chains.ts";
import { mean, verdict } from "./claims.ts";
import { drive, type Run, type Server } from "./drive.ts";

/** How long to simulate, and with which seeds. */
export interface Extent {
  readonly seeds: readonly number[];
  readonly seconds: number;
}

/** Offered rate; then p50/p90/p99 and the 99th percentile of queueing of both methods, from the first reproduction. */
const EXPECTED: readonly (readonly [number, string, string])[] = [
  [500, "4.6/9.3/16 q 1.0", "26/55/87 q 83"],
  [1_000, "4.7/9.6/18 q 1.0", "45/94/124 q 118"],
  [2_000, "4.7/9.8/17 q 1.0", "65/135/241 q 235"],
  [5_000, "4.9/10.0/19 q 1.1", "117/234/299 q 283"],
  [8_000, "5.1/10.5/21 q 1.1", "grows"],
  [15_000, "8.0/17/31 q 1.9", "saturated ~11k"],
  [19_000, "17/35/65 q 4.1", ""],
  [20_000, "29/55/96 q 21", ""],
  [21_000, "completes 19.9k", "completes <=12k"],
];

type Method = (lengths: Int32Array) => Server;

const roundRobin: Method = (lengths) => bucketing(lengths, 10, bucketChoices.roundRobin);
const fullest: Method = (lengths) => bucketing(lengths, 10, bucketChoices.fullest);

/** Chains of LSTM cells: cellular batching against padding and bucketing. */
export function reportChains(extent: Extent): void {
  const { seeds, seconds } = extent;
  console.log(
    `(a) LSTM, published cost curve; ${seconds} s of virtual time, ${seeds.length} seeds; milliseconds`,
  );
  console.log(
    "p50/p90/p99 q = 99th percentile of queueing; against buckets of width 10, round robin or fullest first\n",
  );
  console.log(line(["req/s", "cellular", "expected", "round robin", "expected", "fullest first"]));
  const at = new Map<number, readonly Run[]>();
  const bucketAt = new Map<number, readonly Run[]>();
  for (const [rate, cellularBefore, bucketBefore] of EXPECTED) {
    const runs = seeds.map((seed) => serve(cellular, rate, seed, seconds));
    const buckets = seeds.map((seed) => serve(roundRobin, rate, seed, seconds));
    at.set(rate, runs);
    bucketAt.set(rate, buckets);
    const greedy = seeds.map((seed) => serve(fullest, rate, seed, seconds));
    console.log(line([String(rate), show(runs), cellularBefore, show(buckets), bucketBefore, show(greedy)]));
  }
  console.log("");

  const meanLength = 24;
  const ideal = meanLength * cellularStepMs(64);
  const quarter = at.get(5_000)!.map(({ p90 }) => p90 / ideal);
  console.log(
    verdict({
      what: "cellular p90 at 5,000 req/s over mean length x step of 64 rows",
      values: quarter,
      atMost: 2,
      expected: "1.75",
    }),
  );
  for (const [rate, expected] of [
    [1_000, "9.8"],
    [2_000, "13.8"],
    [5_000, "23.4"],
    [8_000, "unbounded: saturated, grows with the run"],
  ] as const) {
    const values = at.get(rate)!.map(({ p90 }, i) => bucketAt.get(rate)![i]!.p90 / p90);
    console.log(
      verdict({ what: `bucketing p90 over cellular p90 at ${rate} req/s`, values, atLeast: 5, expected }),
    );
  }
  const burstMs = MAX_TASKS * cellularStepMs(MAX_BATCH);
  const queue = seeds.map((seed) => serve(cellular, 18_000, seed, seconds).queueP99 / burstMs);
  console.log(
    verdict({
      what: `cellular queue p99 at 18,000 req/s over a burst of ${burstMs.toFixed(1)} ms`,
      values: queue,
      atMost: 1,
      expected: "0.8 at 19,000",
    }),
  );
  reportPeaks(extent);
  reportFixed(extent);
}

function reportPeaks({ seeds, seconds }: Extent): void {
  const peaks = (method: Method) => seeds.map((seed) => peakOf(method, seed, seconds));
  const ours = peaks(cellular);
  const strict = peaks(roundRobin);
  const greedy = peaks(fullest);
  const ratios = (theirs: readonly number[]) => ours.map((peak, i) => peak / theirs[i]!);
  console.log(
    `peak req/s sustained: cellular ${whole(ours)} (20k), round robin ${whole(strict)} (~11k), fullest ${whole(greedy)}`,
  );
  console.log(
    verdict({
      what: "peak, cellular over round robin",
      values: ratios(strict),
      atLeast: 1.25,
      expected: "1.6 to 1.7",
    }),
  );
  const greedyRatio = mean(ratios(greedy)).toFixed(2);
  console.log(
    `      peak, cellular over fullest bucket first: ${greedyRatio}; below 1 this baseline serves more,`,
  );
  console.log(
    "      since a batch is gathered once and not at every step, and lets rare lengths wait: see its p99",
  );
}

/** Where all lengths are equal nothing is padded, so that gathering can only lose. */
function reportFixed({ seeds, seconds }: Extent): void {
  const alike: Method = (lengths) => cellular(lengths.fill(24));
  const bucket: Method = (lengths) => bucketing(lengths.fill(24), 24, bucketChoices.roundRobin);
  const values = seeds.map((seed) => peakOf(alike, seed, seconds) / peakOf(bucket, seed, seconds));
  console.log(
    verdict({
      what: "control, all lengths 24: peak, cellular over bucketing (must lose)",
      values,
      atMost: 1,
      expected: "0.75 to 0.97",
    }),
  );
}

function serve(method: Method, rate: number, seed: number, seconds: number): Run {
  return drive({ rate, seed, seconds }, (requests) => method(sentenceLengths(requests, seed)));
}

/** Highest rate at which answers keep up with arrivals, to 1 % or so, by halving. */
function peakOf(method: Method, seed: number, seconds: number): number {
  let low = 4_000;
  let high = 28_000;
  while (high - low > 200) {
    const middle = (low + high) / 2;
    if (serve(method, middle, seed, seconds).sustained) low = middle;
    else high = middle;
  }
  return low;
}

export function show(runs: readonly Run[]): string {
  if (runs.some((run) => !run.sustained)) return `completes ${whole(runs.map((run) => run.completed))}`;
  const [p50, p90, p99, queue] = (["p50", "p90", "p99", "queueP99"] as const).map((key) =>
    mean(runs.map((run) => run[key])),
  );
  return `${p50!.toFixed(1)}/${p90!.toFixed(1)}/${p99!.toFixed(0)} q ${queue!.toFixed(1)}`;
}

export function whole(values: readonly number[]): string {
  return Math.round(mean(values)).toString();
}

export function line(cells: readonly string[]): string {
  return cells.map((cell, i) => (i === 0 ? cell.padStart(7) : cell.padEnd(22))).join("  ");
}
