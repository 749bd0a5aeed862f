import { mean, quantile } from "./quantile.ts";

/** What a simulation saw, or a run measured. */
export interface Outcome {
  /** By request in the order of the trace: milliseconds from its arrival to its answer. */
  readonly latencyMs: Float64Array;
  /** By request: its part of the above before its batch, or its first cell, began. */
  readonly queueMs: Float64Array;
  /** Batches by size: the index is the number of requests, or of rows of a task. */
  readonly batches: Float64Array;
  /** Share of the work of all batches that was padding; 0 where nothing is padded. */
  readonly paddingShare: number;
  /** By request: its part of what its call costs in USD, by the time that it was in the batch; zeros for a server. */
  readonly usdOf: Float64Array;
  /** Milliseconds that engines or functions worked, all together. */
  readonly busyMs: number;
}

export interface OutcomeSummary {
  readonly requests: number;
  readonly meanMs: number;
  readonly p50: number;
  readonly p90: number;
  readonly p95: number;
  readonly p99: number;
  readonly queueP99: number;
  readonly meanBatch: number;
  readonly paddingShare: number;
  readonly usdPerMillion: number;
}

export function summarize(outcome: Outcome): OutcomeSummary {
  const sorted = outcome.latencyMs.slice().sort();
  const queued = outcome.queueMs.slice().sort();
  const requests = sorted.length;
  return {
    requests,
    meanMs: mean(sorted),
    p50: quantile(sorted, 0.5),
    p90: quantile(sorted, 0.9),
    p95: quantile(sorted, 0.95),
    p99: quantile(sorted, 0.99),
    queueP99: quantile(queued, 0.99),
    meanBatch: meanOf(outcome.batches),
    paddingShare: outcome.paddingShare,
    usdPerMillion: mean(outcome.usdOf) * 1e6,
  };
}

function meanOf(batches: Float64Array): number {
  let requests = 0;
  let count = 0;
  batches.forEach((times, size) => {
    requests += times * size;
    count += times;
  });
  return requests / count;
}
