import { type ArrivalProcess, stationary, statisticsOf } from "./arrival-process.ts";
import type { BatchModel, Sizing } from "./buffer-model.ts";
import { countsIn } from "./counting.ts";

/**
 * The buffer of BATCH as its authors' code has it: waits are uniform up to the timeout, or up to the mean time to fill. Ali,
 * Pinciroli, Yan, Smirni, "BATCH: Machine Learning Inference Serving on Serverless Platforms with Adaptive Batching", SC20.
 * The phase at a batch's first request is that of MBS, by the same authors: `pi_i r_i / min(B, r_i T + 1)`, normalised.
 */
export class PaperModel implements BatchModel {
  readonly batches: Float64Array;
  readonly requests: Float64Array;
  readonly #maxBatch: number;
  readonly #timeoutMs: number;
  readonly #fillMs: number;

  constructor(process: ArrivalProcess, { maxBatch, timeoutMs }: Sizing) {
    this.#maxBatch = maxBatch;
    this.#timeoutMs = timeoutMs;
    this.#fillMs = ((maxBatch - 1) * 1000) / statisticsOf(process).perSecond;
    this.batches = sizesOf(process, maxBatch, timeoutMs / 1000);
    const mean = this.batches.reduce((sum, share, n) => sum + n * share, 0);
    this.requests = this.batches.map((share, n) => (n * share) / mean);
  }

  cdf(ms: number, serviceMs: (rows: number) => number): number {
    if (ms < serviceMs(1)) return 0;
    const fullMs = Math.min(this.#fillMs, this.#timeoutMs);
    if (ms > serviceMs(this.#maxBatch) + fullMs) return 1;
    let largest = 1;
    for (let n = 2; n <= this.#maxBatch; n++) if (serviceMs(n) <= ms) largest = n;
    let below = 0;
    for (let n = 1; n < largest; n++) below += this.requests[n]!;
    const spread = largest < this.#maxBatch ? this.#timeoutMs : fullMs;
    const over = ms - serviceMs(largest);
    return below + this.requests[largest]! * (over >= spread ? 1 : over / spread);
  }
}

function sizesOf(process: ArrivalProcess, maxBatch: number, timeout: number): Float64Array {
  const batches = new Float64Array(maxBatch + 1);
  const phases = process.d0.length;
  const rates = process.d1.map((row) => row.reduce((sum, rate) => sum + rate, 0));
  const begins = stationary(process).map(
    (share, i) => (share * rates[i]!) / Math.min(maxBatch, rates[i]! * timeout + 1),
  );
  const all = begins.reduce((sum, share) => sum + share, 0);
  let left = 1;
  if (maxBatch > 1) {
    const { blocks } = countsIn(process, timeout, maxBatch - 2);
    for (let at = 0; at < blocks.length; at++) {
      const n = 1 + Math.floor(at / (phases * phases));
      const share = (begins[Math.floor(at / phases) % phases]! / all) * blocks[at]!;
      batches[n] = batches[n]! + share;
      left -= share;
    }
  }
  batches[maxBatch] = Math.max(0, left);
  return batches;
}
