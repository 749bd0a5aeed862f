import { inProcess, type Job } from "../arms/process.ts";
import type { SequenceArm, SequenceModel } from "../arms/sequences.ts";
import type { Lengths } from "../load/lengths.ts";
import { median } from "../statistics.ts";

/** One figure that has a goal. */
export interface Goal {
  readonly key: string;
  readonly what: string;
  readonly least: number;
  /** Measures the ratio once. `tell` says what was found on the way. */
  readonly round: (round: number, tell: (line: string) => void) => Promise<number>;
}

const BUCKET = 10;
const GRAPH_ARMS: readonly Extract<SequenceArm, { arm: "graph" }>[] = [64, 256].flatMap((maxBatch) =>
  (["fullest", "round-robin"] as const).map((order) => ({
    arm: "graph" as const,
    maxBatch,
    timeoutMs: 0,
    order,
    bucketWidth: BUCKET,
  })),
);

/** Figures that more than one goal needs, measured once. */
const known = new Map<string, Promise<unknown>>();

function once<T>(key: string, measure: () => Promise<T>): Promise<T> {
  let found = known.get(key) as Promise<T> | undefined;
  if (!found) {
    found = measure();
    known.set(key, found);
  }
  return found;
}

const secondsFor = ({ hidden }: SequenceModel) => (hidden >= 1024 ? 5 : 2);

/** The setting of whole-sequence batching with the highest peak, and that peak. */
function bestGraph(model: SequenceModel, lengths: Lengths) {
  return once(`graph ${JSON.stringify([model, lengths])}`, async () => {
    let best = { arm: GRAPH_ARMS[0]!, peak: 0 };
    for (const arm of GRAPH_ARMS) {
      const { requestsPerSecond } = await inProcess({
        measure: "peak",
        model,
        arm,
        lengths,
        seconds: secondsFor(model) / 2,
      });
      if (requestsPerSecond! > best.peak) best = { arm, peak: requestsPerSecond! };
    }
    return best;
  });
}

function peakOverGraph(
  key: string,
  what: string,
  least: number,
  model: SequenceModel,
  lengths: Lengths,
): Goal {
  return {
    key,
    what,
    least,
    async round(round, tell) {
      const { arm } = await bestGraph(model, lengths);
      const job = (one: SequenceArm): Job => ({
        measure: "peak",
        model,
        arm: one,
        lengths,
        seconds: secondsFor(model),
      });
      const [ours, theirs] = await inTurn(round, job({ arm: "cellular" }), job(arm));
      tell(
        `cellular ${whole(ours!.requestsPerSecond)}/s (${whole(ours!.rows)} rows), graph ${whole(theirs!.requestsPerSecond)}/s (batches of up to ${arm.maxBatch}, ${arm.order})`,
      );
      return ours!.requestsPerSecond! / theirs!.requestsPerSecond!;
    },
  };
}

/** Latency of the better of whole-sequence batching's timeouts over ours, at a share of its peak. */
function latencyUnderGraph(
  key: string,
  what: string,
  least: number,
  model: SequenceModel,
  { share, percentile }: { readonly share: number; readonly percentile: "p50" | "p99" },
): Goal {
  const lengths: Lengths = "wmt";
  return {
    key,
    what,
    least,
    async round(round, tell) {
      const { peak } = await bestGraph(model, lengths);
      const rate = share * peak;
      const seconds = Math.min(20, Math.max(secondsFor(model) * 2, 300 / rate));
      const job = (arm: SequenceArm): Job => ({
        measure: "latency",
        model,
        arm,
        lengths,
        rate,
        seconds,
        seed: round + 1,
      });
      const arm = await once(`timeout ${key}`, async () => {
        const found: { arm: SequenceArm; value: number }[] = [];
        for (const order of ["fullest", "round-robin"] as const)
          for (const timeoutMs of [0, 5, 20]) {
            const one: SequenceArm = { arm: "graph", maxBatch: 64, timeoutMs, order, bucketWidth: BUCKET };
            const figures = await inProcess({ ...job(one), seconds: seconds / 2 } as Job);
            found.push({ arm: one, value: figures[percentile]! });
          }
        return found.reduce((a, b) => (b.value < a.value ? b : a)).arm;
      });
      const [ours, theirs] = await inTurn(round, job({ arm: "cellular" }), job(arm));
      const say = (figures: typeof ours) =>
        `p50 ${ms(figures!.p50)} p99 ${ms(figures!.p99)} (${whole(figures!.answered)} of ${whole(figures!.sent)}, lag ${ms(figures!.lagMs)})`;
      tell(`${whole(rate)}/s: cellular ${say(ours)}, graph ${say(theirs)} ${JSON.stringify(arm)}`);
      return theirs![percentile]! / ours![percentile]!;
    },
  };
}

function overLimit(key: string, least: number, hidden: number): Goal {
  const model: SequenceModel = { hidden, input: "token" };
  return {
    key,
    what: `cells per second at saturation, h=${hidden}, over the bare kernel back to back with as many rows`,
    least,
    async round(round, tell) {
      const seconds = secondsFor(model);
      const cellular: Job = { measure: "peak", model, arm: { arm: "cellular" }, lengths: "wmt", seconds };
      const { rows = 64 } = await once(`rows ${hidden}`, () => inProcess({ ...cellular, seconds: 1 }));
      const [ours, theirs] = await inTurn(round, cellular, {
        measure: "limit",
        model,
        rows: Math.round(rows),
        seconds,
      });
      tell(
        `engine ${whole(ours!.stepsPerSecond)} cells/s (${whole(ours!.rows)} rows), bare kernel ${whole(theirs!.stepsPerSecond)} (${Math.round(rows)} rows)`,
      );
      return ours!.stepsPerSecond! / theirs!.stepsPerSecond!;
    },
  };
}

function treesOver(key: string, what: string, least: number, merged: number): Goal {
  return {
    key,
    what,
    least,
    async round(round, tell) {
      const trees = { measure: "trees", hidden: 256, inFlight: 256, seconds: 2 } as const;
      const [ours, theirs] = await inTurn(round, trees, { ...trees, merged });
      tell(
        `cellular ${whole(ours!.treesPerSecond)} trees/s, merged by ${merged} ${whole(theirs!.treesPerSecond)}`,
      );
      return ours!.treesPerSecond! / theirs!.treesPerSecond!;
    },
  };
}

const streams: Goal = {
  key: "silero.streams_vs_single",
  what: "real-time streams of Silero VAD per core over one shared session called stream by stream",
  least: 8,
  async round(round, tell) {
    const [ours, theirs] = await inTurn(
      round,
      { measure: "streams", way: "pool", seconds: 3 },
      { measure: "streams", way: "shared", seconds: 3 },
    );
    tell(
      `pool ${whole(ours!.perCoreSecond)} streams per core, one shared session ${whole(theirs!.perCoreSecond)}`,
    );
    return ours!.perCoreSecond! / theirs!.perCoreSecond!;
  },
};

const token = (hidden: number): SequenceModel => ({ hidden, input: "token" });
const vector = (hidden: number): SequenceModel => ({ hidden, input: "vector" });
const peak = "peak requests per second over the best whole-sequence batching";
const at70 = "p99 of the best whole-sequence batching over ours at 70 % of its peak";

/** All figures of the guard, in the order they are measured. */
export const goals: readonly Goal[] = [
  peakOverGraph(
    "lstm256.token.peak_vs_graph",
    `${peak}: h=256, tokens, WMT-like lengths`,
    2.0,
    token(256),
    "wmt",
  ),
  peakOverGraph(
    "lstm1024.token.peak_vs_graph",
    `${peak}: h=1024, tokens, WMT-like lengths`,
    1.7,
    token(1024),
    "wmt",
  ),
  peakOverGraph(
    "lstm256.vector.peak_vs_graph",
    `${peak}: h=256, vectors, WMT-like lengths`,
    1.3,
    vector(256),
    "wmt",
  ),
  peakOverGraph(
    "lstm1024.vector.peak_vs_graph",
    `${peak}: h=1024, vectors, WMT-like lengths`,
    1.2,
    vector(1024),
    "wmt",
  ),
  latencyUnderGraph("lstm256.token.p99_at70", `${at70}: h=256, tokens`, 3, token(256), {
    share: 0.7,
    percentile: "p99",
  }),
  latencyUnderGraph("lstm1024.token.p99_at70", `${at70}: h=1024, tokens`, 3, token(1024), {
    share: 0.7,
    percentile: "p99",
  }),
  latencyUnderGraph(
    "lstm256.token.p50_at5",
    "p50 of the best whole-sequence batching over ours at 5 % of its peak: h=256, tokens",
    0.9,
    token(256),
    { share: 0.05, percentile: "p50" },
  ),
  peakOverGraph("lstm256.fixed24.peak_vs_graph", `${peak}: h=256, tokens, all lengths 24`, 1.4, token(256), {
    fixed: 24,
  }),
  treesOver(
    "trees256.vs_merged",
    "trees of 10 to 40 leaves per second over merging what waits and running level by level, h=256",
    1.2,
    64,
  ),
  treesOver("trees256.vs_single", "the same over one tree at a time", 3, 1),
  streams,
  overLimit("lstm1024.vs_limit", 0.97, 1024),
  overLimit("lstm256.vs_limit", 0.97, 256),
  overLimit("lstm128.vs_limit", 0.93, 128),
];

/** Rounds of one goal: the median ratio, and all of them. */
export async function measureGoal(goal: Goal, rounds: number, tell: (line: string) => void) {
  const ratios: number[] = [];
  for (let round = 0; round < rounds; round++) ratios.push(await goal.round(round, tell));
  return { ratio: median(ratios), ratios };
}

/** Ours first in even rounds, theirs first in odd ones. */
async function inTurn(round: number, ours: Job, theirs: Job) {
  if (round % 2 === 0) {
    const first = await inProcess(ours);
    return [first, await inProcess(theirs)] as const;
  }
  const first = await inProcess(theirs);
  return [await inProcess(ours), first] as const;
}

function whole(value: number | undefined): string {
  return Math.round(value ?? Number.NaN).toLocaleString("en");
}

function ms(value: number | undefined): string {
  return `${(value ?? Number.NaN).toFixed(2)} ms`;
}
