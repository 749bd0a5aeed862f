import { Arm, type Figures, type Question, type Subject } from "../../src/bench/arm.ts";
import type { SequenceArm, SequenceModel } from "../../src/bench/sequences.ts";
import type { MergedTrees } from "../../src/bench/trees.ts";
import { type Lengths, lengthsText } from "../../src/load/lengths.ts";
import { median } from "../../src/load/statistics.ts";

/** One figure that has a goal. */
export interface Goal {
  readonly key: string;
  readonly what: string;
  readonly least: number;
  /** Chooses what to compare; then ours and theirs answer the same question, in turn. */
  readonly prepare: (arms: Arms) => Promise<Comparison>;
}

export interface Comparison {
  readonly ours: Subject;
  readonly theirs: Subject;
  readonly question: (round: number) => Question;
  readonly ratio: (ours: Figures, theirs: Figures) => number;
  /** The peer's setting, in words. */
  readonly peer: string;
}

/** Arms that are open, each in a process of its own, and what was found with them; one may serve several goals. */
export class Arms {
  readonly #open = new Map<string, Arm>();
  readonly #known = new Map<string, Promise<unknown>>();

  async ask(subject: Subject, question: Question): Promise<Figures> {
    const key = JSON.stringify(subject);
    let arm = this.#open.get(key);
    if (!arm) {
      arm = new Arm(subject);
      this.#open.set(key, arm);
    }
    const { figures } = await arm.ask(question);
    return figures;
  }

  /** What `find` finds, once for all goals that want it. */
  once<T>(key: string, find: () => Promise<T>): Promise<T> {
    let found = this.#known.get(key) as Promise<T> | undefined;
    if (!found) {
      found = find();
      this.#known.set(key, found);
    }
    return found;
  }

  close(): void {
    for (const arm of this.#open.values()) arm.close();
    this.#open.clear();
  }
}

type GraphArm = Extract<SequenceArm, { arm: "graph" }>;

/** Padded to the longest of a batch, in buckets of this many steps. */
const BUCKET = 10;
const ORDERS = ["fullest", "round-robin"] as const;
const cellular = (model: SequenceModel): Subject => ({ kind: "sequences", model, arm: { arm: "cellular" } });
const graph = (model: SequenceModel, arm: GraphArm): Subject => ({ kind: "sequences", model, arm });
/** Of each measurement, or a little more. */
const SECONDS = 1;

/** The setting of whole-sequence batching with the highest peak, and that peak. A timeout changes nothing where a backlog waits. */
function bestPeak(arms: Arms, model: SequenceModel, lengths: Lengths) {
  return arms.once(`peak ${JSON.stringify([model, lengths])}`, async () => {
    let best = { arm: graphArm(64, 0, "fullest"), rate: 0 };
    const consider = async (arm: GraphArm) => {
      const question: Question = { ask: "peak", lengths, seconds: SECONDS / 2 };
      const { rate = 0 } = await arms.ask(graph(model, arm), question);
      if (rate > best.rate) best = { arm, rate };
    };
    for (const order of ORDERS) await consider(graphArm(64, 0, order));
    await consider(graphArm(256, 0, best.arm.order));
    return best;
  });
}

function graphArm(maxBatch: number, timeoutMs: number, order: GraphArm["order"]): GraphArm {
  return { arm: "graph", maxBatch, timeoutMs, order, bucketWidth: BUCKET };
}

function inWords({ maxBatch, timeoutMs, order }: GraphArm): string {
  return `whole sequences, batches of up to ${maxBatch}, timeout ${timeoutMs} ms, ${order} bucket first`;
}

function peakOverGraph(key: string, least: number, model: SequenceModel, lengths: Lengths): Goal {
  const fed = model.input === "token" ? "tokens" : "vectors";
  const long = lengthsText(lengths);
  return {
    key,
    what: `peak requests per second over the best whole-sequence batching: LSTM h=${model.hidden}, ${fed}, ${long}`,
    least,
    async prepare(arms) {
      const { arm } = await bestPeak(arms, model, lengths);
      const question: Question = { ask: "peak", lengths, seconds: SECONDS };
      return {
        ours: cellular(model),
        theirs: graph(model, arm),
        question: () => question,
        ratio: (ours, theirs) => ours.rate! / theirs.rate!,
        peer: inWords(arm),
      };
    },
  };
}

/** Theirs over ours, at a share of the peak of whole-sequence batching, with the best of its timeouts. */
function latencyUnderGraph(
  key: string,
  least: number,
  model: SequenceModel,
  share: number,
  percentile: "p50" | "p99",
): Goal {
  return {
    key,
    what: `${percentile} of the best whole-sequence batching over ours, at ${100 * share} % of its peak: LSTM h=${model.hidden}, tokens, WMT-like lengths`,
    least,
    async prepare(arms) {
      const best = await bestPeak(arms, model, "wmt");
      const rate = share * best.rate;
      const seconds = Math.max(2 * SECONDS, 200 / rate);
      const question = (round: number): Question => ({
        ask: "latency",
        lengths: "wmt",
        seconds,
        rate,
        seed: round + 1,
      });
      const tried: { readonly arm: GraphArm; readonly value: number }[] = [];
      for (const timeoutMs of [0, 5, 20]) {
        const arm = graphArm(best.arm.maxBatch, timeoutMs, best.arm.order);
        const figures = await arms.ask(graph(model, arm), question(9));
        tried.push({ arm, value: figures[percentile]! });
      }
      const { arm } = tried.reduce((a, b) => (b.value < a.value ? b : a));
      return {
        ours: cellular(model),
        theirs: graph(model, arm),
        question,
        ratio: (ours, theirs) => theirs[percentile]! / ours[percentile]!,
        peer: `${inWords(arm)}, at ${Math.round(rate)} requests/s`,
      };
    },
  };
}

function overLimit(key: string, least: number, hidden: number): Goal {
  const model: SequenceModel = { hidden, input: "token" };
  return {
    key,
    what: `cells per second at saturation over the bare kernel back to back with as many rows: LSTM h=${hidden}`,
    least,
    async prepare(arms) {
      const question: Question = { ask: "peak", seconds: SECONDS };
      const { rows = 64 } = await arms.once(`rows ${hidden}`, () => arms.ask(cellular(model), question));
      return {
        ours: cellular(model),
        theirs: { kind: "kernel", model, rows: Math.round(rows) },
        question: () => question,
        ratio: (ours, theirs) => ours.stepsPerSecond! / theirs.rate!,
        peer: `bare kernel, ${Math.round(rows)} rows`,
      };
    },
  };
}

function treesOver(key: string, least: number, peer: MergedTrees): Goal {
  const { merged, kernel } = peer;
  const trees = merged === 1 ? "one tree at a time" : `${merged} waiting trees merged`;
  const words = `${trees}, level by level, by ${kernel === "onnx" ? "ONNX Runtime" : "the runtime's own kernel"}`;
  return {
    key,
    what: `trees of 10 to 40 leaves per second over ${words}: binary tree-LSTM h=256`,
    least,
    prepare: async () => ({
      ours: { kind: "trees", hidden: 256, inFlight: 256 },
      theirs: { kind: "trees", hidden: 256, inFlight: 256, peer },
      question: () => ({ ask: "peak", seconds: SECONDS }),
      ratio: (ours, theirs) => ours.rate! / theirs.rate!,
      peer: words,
    }),
  };
}

const streams: Goal = {
  key: "silero.streams_vs_single",
  what: "real-time streams of Silero VAD per core over one shared session called stream by stream",
  least: 8,
  prepare: async () => ({
    ours: { kind: "streams", way: "pool", streams: 1000 },
    theirs: { kind: "streams", way: "shared", streams: 1000 },
    question: () => ({ ask: "peak", seconds: 1.5 * SECONDS }),
    ratio: (ours, theirs) => ours.rate! / theirs.rate!,
    peer: "one session of onnxruntime-node, a state per stream",
  }),
};

const token = (hidden: number): SequenceModel => ({ hidden, input: "token" });
const vector = (hidden: number): SequenceModel => ({ hidden, input: "vector" });

/** All figures of the guard, in the order they are measured. */
export const goals: readonly Goal[] = [
  peakOverGraph("lstm256.token.peak_vs_graph", 2.0, token(256), "wmt"),
  peakOverGraph("lstm1024.token.peak_vs_graph", 1.7, token(1024), "wmt"),
  peakOverGraph("lstm256.vector.peak_vs_graph", 1.3, vector(256), "wmt"),
  peakOverGraph("lstm1024.vector.peak_vs_graph", 1.2, vector(1024), "wmt"),
  latencyUnderGraph("lstm256.token.p99_at70", 3, token(256), 0.7, "p99"),
  latencyUnderGraph("lstm1024.token.p99_at70", 3, token(1024), 0.7, "p99"),
  latencyUnderGraph("lstm256.token.p50_at5", 0.9, token(256), 0.05, "p50"),
  peakOverGraph("lstm256.fixed24.peak_vs_graph", 1.4, token(256), { fixed: 24 }),
  treesOver("trees256.vs_merged", 1.2, { merged: 64, kernel: "onnx" }),
  treesOver("trees256.vs_single", 3, { merged: 1, kernel: "onnx" }),
  // With the same kernel on both sides it is the scheduler alone, with requests and answers, against none.
  treesOver("trees256.vs_merged_own_kernel", 1, { merged: 64, kernel: "ours" }),
  streams,
  overLimit("lstm1024.vs_limit", 0.97, 1024),
  overLimit("lstm256.vs_limit", 0.97, 256),
  overLimit("lstm128.vs_limit", 0.93, 128),
];

/** Both arms answer in turn, the other first in every second round; the median ratio counts. */
export async function measureGoal(goal: Goal, arms: Arms, rounds: number, tell: (line: string) => void) {
  const { ours, theirs, question, ratio, peer } = await goal.prepare(arms);
  tell(`peer: ${peer}`);
  const ratios: number[] = [];
  for (let round = 0; round < rounds; round++) {
    const first = await arms.ask(round % 2 === 0 ? ours : theirs, question(round));
    const second = await arms.ask(round % 2 === 0 ? theirs : ours, question(round));
    const [mine, other] = round % 2 === 0 ? [first, second] : [second, first];
    ratios.push(ratio(mine, other));
    tell(`${ratios.at(-1)!.toFixed(3)}  ours ${figuresText(mine)} | theirs ${figuresText(other)}`);
  }
  return { ratio: median(ratios), ratios };
}

function figuresText(figures: Figures): string {
  const digits = (value: number) =>
    value >= 100 ? Math.round(value).toLocaleString("en") : value.toFixed(2);
  const shown = ["rate", "stepsPerSecond", "rows", "p50", "p99", "lagMs"].filter((name) => name in figures);
  return shown.map((name) => `${name} ${digits(figures[name]!)}`).join(" ");
}
