import { type ChildProcess, fork } from "node:child_process";
import { fileURLToPath } from "node:url";
import { poisson } from "../load/arrivals.ts";
import { type Lengths, lengthsOf } from "../load/lengths.ts";
import { openLoop } from "../load/open-loop.ts";
import { saturate } from "../load/saturate.ts";
import type { Service } from "../load/service.ts";
import { quantile } from "../statistics.ts";
import { bareKernel } from "./limit.ts";
import { type SequenceArm, type SequenceModel, serveSequences } from "./sequences.ts";
import { listenTo, type Way } from "./streams.ts";
import { cellularTrees, mergedTrees } from "./trees.ts";

/** What a process of its own serves. */
export type Subject =
  | { readonly kind: "sequences"; readonly model: SequenceModel; readonly arm: SequenceArm }
  | { readonly kind: "kernel"; readonly model: SequenceModel; readonly rows: number }
  | { readonly kind: "trees"; readonly hidden: number; readonly merged?: number; readonly inFlight: number }
  | { readonly kind: "streams"; readonly way: Way; readonly streams: number };

/** What is asked of it: its rate with a backlog that does not end, or latencies at a rate. */
export type Question =
  | { readonly ask: "peak"; readonly seconds: number; readonly lengths?: Lengths }
  | {
      readonly ask: "latency";
      readonly seconds: number;
      readonly lengths: Lengths;
      readonly rate: number;
      readonly seed: number;
    };

/** Figures by name; `rate` is what a peak is compared by. */
export type Figures = Readonly<Record<string, number>>;

/** One arm in a fresh process, which idles between questions. */
export class Arm {
  readonly #child: ChildProcess;
  readonly #subject: Subject;

  constructor(subject: Subject) {
    this.#subject = subject;
    this.#child = fork(fileURLToPath(import.meta.url), { stdio: ["ignore", "inherit", "inherit", "ipc"] });
    this.#child.send(subject);
  }

  /** One question at a time. Rejects where the process ends instead. */
  ask(question: Question): Promise<Figures> {
    return new Promise((resolve, reject) => {
      const ended = (code: number | null) =>
        reject(new Error(`measuring ${JSON.stringify(this.#subject)} ended with ${code}`));
      this.#child.once("exit", ended);
      this.#child.once("message", (figures: Figures) => {
        this.#child.off("exit", ended);
        resolve(figures);
      });
      this.#child.send(question);
    });
  }

  close(): void {
    this.#child.kill();
  }
}

type Answer = (question: Question) => Promise<Figures>;

async function open(subject: Subject): Promise<Answer> {
  switch (subject.kind) {
    case "sequences": {
      const service = await serveSequences(subject.model, subject.arm);
      return (question) => (question.ask === "peak" ? peak(service, question) : latency(service, question));
    }
    case "kernel":
      return rateOf(await bareKernel(subject.model, subject.rows));
    case "trees": {
      const { hidden, inFlight, merged } = subject;
      return rateOf(
        merged === undefined ? await cellularTrees(hidden, inFlight) : await mergedTrees(hidden, merged),
      );
    }
    case "streams": {
      const listen = await listenTo({ way: subject.way, streams: subject.streams, rate: 16_000 });
      return async ({ seconds }) => {
        const { perCoreSecond } = await listen.measure(seconds);
        return { rate: perCoreSecond };
      };
    }
  }
}

/** `measure` answers how many a second it did. */
function rateOf(measure: (seconds: number) => number | Promise<number>): Answer {
  return async ({ seconds }) => ({ rate: await measure(seconds) });
}

async function peak(
  service: Service,
  { seconds, lengths = "wmt" }: Extract<Question, { ask: "peak" }>,
): Promise<Figures> {
  const { requestsPerSecond, stepsPerSecond, rows } = await saturate(service, {
    lengths: lengthsOf(lengths, 20_000, 1),
    inFlight: 3000,
    warmSeconds: seconds / 3,
    seconds,
  });
  return { rate: requestsPerSecond, stepsPerSecond, rows };
}

async function latency(service: Service, question: Extract<Question, { ask: "latency" }>): Promise<Figures> {
  const { seconds, lengths, rate, seed } = question;
  const warmSeconds = seconds / 4;
  const { latencies, sent, answered, queueMs, computeMs, lagMs } = await openLoop(service, {
    lengths: lengthsOf(lengths, 20_000, seed),
    arrivals: poisson(rate, warmSeconds + seconds, seed),
    warmSeconds,
    drainSeconds: seconds,
  });
  const percentile = (share: number) => quantile(latencies, share);
  return {
    sent,
    answered,
    queueMs,
    computeMs,
    lagMs,
    p50: percentile(0.5),
    p90: percentile(0.9),
    p99: percentile(0.99),
  };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  process.once("message", (subject: Subject) => {
    const opened = open(subject);
    process.on("message", async (question: Question) => {
      const answer = await opened;
      process.send!(await answer(question));
    });
  });
  process.on("disconnect", () => process.exit());
}
