import { arrivalTimes } from "../load/arrivals.ts";
import { bottleneckOf } from "../load/generator.ts";
import { lengthsOf } from "../load/lengths.ts";
import { openLoop } from "../load/open-loop.ts";
import { saturate } from "../load/saturate.ts";
import type { Service } from "../load/service.ts";
import { modelDefinition } from "../runtime/create.ts";
import type { Answer, Question, Reply, Subject } from "./arm.ts";
import { bareKernel } from "./limit.ts";
import { serveModel } from "./model-arm.ts";
import { recordTasks } from "./replay.ts";
import { chainModelOf, serveSequences } from "./sequences.ts";
import { listenTo } from "./streams.ts";
import { cellularTrees, mergedTrees } from "./trees.ts";

// What `Arm` starts: the first message says what to serve, each one after it is a question.

type Answering = (question: Question) => Promise<Answer>;

async function open(subject: Subject): Promise<Answering> {
  switch (subject.kind) {
    case "sequences":
      return asked(await serveSequences(subject.model, subject.arm));
    case "model":
      return asked(await serveModel(subject.model, subject.arm));
    case "replay": {
      const { model, lengths, inFlight } = subject;
      const settings =
        "hidden" in model
          ? { definition: chainModelOf(model) }
          : { ...model, definition: await modelDefinition(model.path) };
      const { rows, measure } = await recordTasks({ ...settings, lengths, inFlight });
      return async ({ seconds }) => ({ figures: { rate: await measure(seconds) }, batches: [...rows] });
    }
    case "kernel":
      return rateOf(await bareKernel(subject.model, subject.rows));
    case "trees": {
      const { hidden, inFlight, peer } = subject;
      return rateOf(peer ? await mergedTrees(hidden, peer) : await cellularTrees(hidden, inFlight));
    }
    case "streams": {
      const listen = await listenTo({ way: subject.way, streams: subject.streams, rate: 16_000 });
      return async ({ seconds }) => {
        const { perCoreSecond } = await listen.measure(seconds);
        return { figures: { rate: perCoreSecond } };
      };
    }
  }
}

function asked(service: Service): Answering {
  return (question) => (question.ask === "peak" ? peak(service, question) : latency(service, question));
}

/** `measure` answers how many a second it did. */
function rateOf(measure: (seconds: number) => number | Promise<number>): Answering {
  return async ({ seconds }) => ({ figures: { rate: await measure(seconds) } });
}

async function peak(
  service: Service,
  { seconds, lengths = "wmt", inFlight = 3000 }: Extract<Question, { ask: "peak" }>,
): Promise<Answer> {
  const { requestsPerSecond, ...others } = await saturate(service, {
    lengths: lengthsOf(lengths, 20_000, 1),
    inFlight,
    warmSeconds: seconds / 3,
    seconds,
  });
  return { figures: { rate: requestsPerSecond, ...others } };
}

async function latency(service: Service, question: Extract<Question, { ask: "latency" }>): Promise<Answer> {
  const { seconds, lengths, rate, seed, arrivals = { kind: "poisson" } } = question;
  const warmSeconds = seconds / 4;
  const measured = await openLoop(service, {
    lengths: lengthsOf(lengths, 20_000, seed),
    arrivals: arrivalTimes(arrivals, rate, warmSeconds + seconds, seed),
    warmSeconds,
    drainSeconds: seconds,
  });
  const { latencies, sent, answered, queueMs, computeMs, answersPerSecond, rows, generator } = measured;
  const p99 = latencies.quantile(0.99);
  const bottleneck = bottleneckOf(generator, p99);
  return {
    figures: {
      sent,
      answered,
      answersPerSecond,
      queueMs,
      computeMs,
      lagMs: generator.lateMs.p99,
      meanMs: latencies.mean,
      p50: latencies.quantile(0.5),
      p90: latencies.quantile(0.9),
      p99,
    },
    curve: latencies.curve(),
    batches: [...rows],
    ...(bottleneck ? { bottleneck } : {}),
  };
}

/**
 * An arm before its first answer: V8 compiles the code of its engine, and of its client, in the first seconds under load, which
 * made first answers 10 to 40 % worse. So each begins with a backlog whose figures nobody sees.
 */
const WARM_SECONDS = 1;

function warmed(answer: Answering): Answering {
  let isWarm = false;
  return async (question) => {
    if (!isWarm) {
      const { lengths } = question;
      await answer({ ask: "peak", seconds: WARM_SECONDS, ...(lengths === undefined ? {} : { lengths }) });
      isWarm = true;
    }
    return answer(question);
  };
}

process.once("message", (subject: Subject) => {
  const opened = open(subject).then(warmed);
  // What goes wrong is told to the question that waits for it.
  opened.catch(() => {});
  process.on("message", (question: Question) => {
    const send = (reply: Reply) => process.send!(reply);
    void opened
      .then((answer) => answer(question))
      .then(send, (error: Error) => send({ error: error.message }));
  });
});
process.on("disconnect", () => process.exit());
