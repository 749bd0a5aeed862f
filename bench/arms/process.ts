import { fork } from "node:child_process";
import { fileURLToPath } from "node:url";
import { poisson } from "../load/arrivals.ts";
import { type Lengths, lengthsOf } from "../load/lengths.ts";
import { openLoop } from "../load/open-loop.ts";
import { saturate } from "../load/saturate.ts";
import { quantile } from "../statistics.ts";
import { bareKernelRate } from "./limit.ts";
import { type SequenceArm, type SequenceModel, serveSequences } from "./sequences.ts";
import { measureStreams, type Way } from "./streams.ts";
import { cellularTreeRate, mergedTreeRate } from "./trees.ts";

/** What a process of its own measures. */
export type Job =
  | {
      readonly measure: "peak";
      readonly model: SequenceModel;
      readonly arm: SequenceArm;
      readonly lengths: Lengths;
      readonly seconds: number;
    }
  | {
      readonly measure: "latency";
      readonly model: SequenceModel;
      readonly arm: SequenceArm;
      readonly lengths: Lengths;
      readonly seconds: number;
      readonly rate: number;
      readonly seed: number;
    }
  | {
      readonly measure: "limit";
      readonly model: SequenceModel;
      readonly rows: number;
      readonly seconds: number;
    }
  | { readonly measure: "streams"; readonly way: Way; readonly seconds: number }
  | {
      readonly measure: "trees";
      readonly hidden: number;
      readonly merged?: number;
      readonly inFlight: number;
      readonly seconds: number;
    };

/** Figures by name; what they are is up to the job. */
export type Figures = Readonly<Record<string, number>>;

/** Measures in a fresh process. Rejects with what went wrong there. */
export function inProcess(job: Job): Promise<Figures> {
  return new Promise((resolve, reject) => {
    const child = fork(fileURLToPath(import.meta.url), { stdio: ["ignore", "inherit", "inherit", "ipc"] });
    let answer: Figures | undefined;
    child.once("message", (figures: Figures) => {
      answer = figures;
      child.disconnect();
    });
    child.once("exit", (code) => {
      if (answer) resolve(answer);
      else reject(new Error(`measuring ${JSON.stringify(job)} ended with ${code}`));
    });
    child.send(job);
  });
}

async function measure(job: Job): Promise<Figures> {
  switch (job.measure) {
    case "peak": {
      const service = await serveSequences(job.model, job.arm);
      const lengths = lengthsOf(job.lengths, 20_000, 1);
      const { requestsPerSecond, stepsPerSecond, rows } = await saturate(service, {
        lengths,
        inFlight: 3000,
        warmSeconds: job.seconds / 2,
        seconds: job.seconds,
      });
      await service.close();
      return { requestsPerSecond, stepsPerSecond, rows };
    }
    case "latency": {
      const service = await serveSequences(job.model, job.arm);
      const warmSeconds = job.seconds / 4;
      const arrivals = poisson(job.rate, warmSeconds + job.seconds, job.seed);
      const lengths = lengthsOf(job.lengths, 20_000, job.seed);
      const { latencies, sent, answered, queueMs, computeMs, lagMs } = await openLoop(service, {
        lengths,
        arrivals,
        warmSeconds,
        drainSeconds: job.seconds,
      });
      await service.close();
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
    case "limit":
      return { stepsPerSecond: await bareKernelRate(job.model, job.rows, job.seconds) };
    case "streams": {
      const { perWallSecond, perCoreSecond } = await measureStreams({ ...job, streams: 1000, rate: 16_000 });
      return { perWallSecond, perCoreSecond };
    }
    case "trees": {
      const { hidden, merged, inFlight, seconds } = job;
      const rate =
        merged === undefined
          ? await cellularTreeRate(hidden, inFlight, seconds)
          : await mergedTreeRate(hidden, merged, seconds);
      return { treesPerSecond: rate };
    }
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  process.once("message", async (job: Job) => {
    const figures = await measure(job);
    process.send!(figures);
  });
}
