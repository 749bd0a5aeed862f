import { policies } from "../../scheduler/policy.ts";
import { Scheduler } from "../../scheduler/scheduler.ts";
import { Random } from "../../src/core/random.ts";
import type { Journal, Server } from "./drive.ts";

export const MAX_BATCH = 512;
export const MAX_TASKS = 5;

/** The published time of one LSTM step, width 1024, on a V100: flat up to 64 rows, then a straight line. */
export function cellMs(rows: number): number {
  return rows <= 64 ? 0.185 : 0.185 + ((0.784 - 0.185) * (rows - 64)) / (512 - 64);
}

/** A step under cellular batching: every one pays for scheduling and for its gather. */
export function cellularStepMs(rows: number): number {
  return cellMs(rows) + 0.02 + (0.26 * rows) / 512;
}

/** A step of a batch that was put together once. */
export function bucketStepMs(rows: number): number {
  return cellMs(rows) + 0.02;
}

/** Sentence lengths as in WMT-15 Europarl: mean 24, p99 84, at most 330. */
export function sentenceLengths(count: number, seed: number): Int32Array {
  const random = new Random(seed + 1000);
  const mean = Math.log(24) - 0.62 ** 2 / 2;
  return Int32Array.from({ length: count }, () =>
    Math.min(330, Math.max(1, Math.round(Math.exp(mean + 0.62 * random.normal())))),
  );
}

/** The scheduler of this repository, one worker. */
export function cellular(lengths: Int32Array, maxTasksToSubmit = MAX_TASKS): Server {
  const scheduler = new Scheduler({
    types: [{ name: "lstm", priority: 0, maxBatch: MAX_BATCH }],
    policy: policies.cellular,
    maxTasksToSubmit,
  });
  const requestOf: number[] = [];
  return {
    arrive(request) {
      const id = scheduler.add({
        type: 0,
        steps: lengths[request]!,
        priority: 1,
        deadlineMs: Number.POSITIVE_INFINITY,
        arrival: request,
      });
      requestOf[id] = request;
    },
    work(nowMs, journal) {
      const tasks = scheduler.schedule(0);
      if (tasks.length === 0) return undefined;
      for (const task of tasks) {
        start(
          journal,
          nowMs,
          task.subgraphs.subarray(0, task.rows).map((id) => requestOf[id]!),
        );
        nowMs += cellularStepMs(task.rows);
        scheduler.complete(task, (id) => {
          journal.endMs[requestOf[id]!] = nowMs;
        });
      }
      return nowMs;
    },
  };
}

/** Which bucket goes next; `last` is the one that went before. */
export type BucketChoice = (buckets: readonly (readonly number[])[], last: number) => number;

export const bucketChoices = {
  /** The next that is not empty, as MXNet and TensorFlow were served in the paper. */
  roundRobin: (buckets, last) => {
    for (let i = 1; i <= buckets.length; i++) {
      const at = (last + i) % buckets.length;
      if (buckets[at]!.length > 0) return at;
    }
    return -1;
  },
  /** The one with most requests: a stronger baseline. */
  fullest: (buckets) => {
    let best = -1;
    buckets.forEach((bucket, at) => {
      if (bucket.length > (buckets[best]?.length ?? 0)) best = at;
    });
    return best;
  },
} as const satisfies Record<string, BucketChoice>;

/** Padding and bucketing: requests of like length, padded to the bucket's longest, are answered together. */
export function bucketing(lengths: Int32Array, width: number, choose: BucketChoice): Server {
  const buckets: number[][] = Array.from({ length: Math.ceil(330 / width) }, () => []);
  let last = -1;
  return {
    arrive(request) {
      buckets[Math.ceil(lengths[request]! / width) - 1]!.push(request);
    },
    work(nowMs, journal) {
      const at = choose(buckets, last);
      if (at < 0) return undefined;
      last = at;
      const batch = buckets[at]!.splice(0, MAX_BATCH);
      start(journal, nowMs, batch);
      nowMs += (at + 1) * width * bucketStepMs(batch.length);
      for (const request of batch) journal.endMs[request] = nowMs;
      return nowMs;
    },
  };
}

/** Notes when requests are on the device for the first time. */
export function start(journal: Journal, nowMs: number, requests: ArrayLike<number>): void {
  for (let i = 0; i < requests.length; i++) {
    if (journal.startMs[requests[i]!]! < 0) journal.startMs[requests[i]!] = nowMs;
  }
}
