import { Random } from "../src/core/random.ts";
import type { ArrivalProcess } from "./arrival-process.ts";
import type { Setting } from "./batch.ts";
import { CorrectedModel } from "./buffer-model.ts";
import { type Composition, sampleComposition } from "./composition.ts";
import { callCost, type FunctionPrices } from "./cost.ts";
import { partsOf, type Service } from "./service.ts";
import type { SizeMix } from "./synthesis.ts";

/** What one buffer with requests of several sizes does with a setting, per request that it gets. */
export interface Evaluation {
  readonly usd: number;
  /** USD over the request's size, as MBS counts: dear where small requests pay for large ones. */
  readonly usdPerSize: number;
  /** By size of a batch: its share of the batches. */
  readonly batches: Float64Array;
  readonly meanBatch: number;
  /** Units of size that a batch works on, and how many of them are padding; both per request. */
  readonly work: number;
  readonly padding: number;
  /** Share of the requests that are answered within `limitMs(size)`. */
  within(limitMs: (size: number) => number): number;
}

/** One buffer, its arrivals and the sizes of its requests. */
export interface SizedBuffer {
  evaluate(setting: Setting): Evaluation;
}

export interface SizedBufferOptions {
  readonly mix: SizeMix;
  readonly process: ArrivalProcess;
  readonly service: Service;
  readonly prices: FunctionPrices;
  readonly maxBatch: number;
  readonly seed: number;
  /** See `FunctionSettings.answers`. */
  readonly answers: "each" | "together";
  /** Models of arrivals by batch size and timeout, which buffers with the same arrivals share. */
  readonly models: Models;
}

/** Buffer models that have been made, by batch size and timeout. */
export class Models {
  readonly #process: ArrivalProcess;
  readonly #known = new Map<string, CorrectedModel>();

  constructor(process: ArrivalProcess) {
    this.#process = process;
  }

  of(maxBatch: number, timeoutMs: number): CorrectedModel {
    const key = `${maxBatch} ${timeoutMs}`;
    let model = this.#known.get(key);
    if (!model) {
      model = new CorrectedModel(this.#process, { maxBatch, timeoutMs });
      this.#known.set(key, model);
    }
    return model;
  }
}

export function sizedBuffer(options: SizedBufferOptions): SizedBuffer {
  return options.service.endMs ? new CellularBuffer(options) : new PaddedBuffer(options);
}

/** Every batch takes as long as one of its largest request. */
class PaddedBuffer implements SizedBuffer {
  readonly #options: SizedBufferOptions;
  readonly #composition: Composition;

  constructor(options: SizedBufferOptions) {
    this.#options = options;
    this.#composition = sampleComposition(options.mix, options.maxBatch, { seed: options.seed });
  }

  evaluate({ maxBatch, timeoutMs, memoryMb }: Setting): Evaluation {
    const { service, prices, models } = this.#options;
    const { sizes, shares, largest } = this.#composition;
    const model = models.of(maxBatch, timeoutMs);
    const meanBatch = model.batches.reduce((sum, share, n) => sum + n * share, 0);
    const ms: Float64Array[] = [];
    let usd = 0;
    let usdPerSize = 0;
    let work = 0;
    let own = 0;
    for (let n = 1; n <= maxBatch; n++) {
      const times = Float64Array.from(sizes, (size) => service.ms(n, size, memoryMb));
      ms[n] = times;
      if (model.batches[n] === 0) continue;
      const costs = times.map((time) => callCost(time, memoryMb, prices));
      for (let top = 0; top < sizes.length; top++) {
        usd += (model.batches[n]! * largest[n]![top]! * costs[top]!) / meanBatch;
        work += (model.batches[n]! * largest[n]![top]! * n * sizes[top]!) / meanBatch;
        for (let member = 0; member <= top; member++) {
          const share = model.requests[n]! * shares[n]![member * sizes.length + top]!;
          usdPerSize += (share * costs[top]!) / n / sizes[member]!;
          own += share * sizes[member]!;
        }
      }
    }
    const within = (limitMs: (size: number) => number) => {
      const limits = sizes.map(limitMs);
      let share = 0;
      for (let n = 1; n <= maxBatch; n++) {
        if (model.requests[n]! < NEGLIGIBLE) continue;
        for (let own = 0; own < sizes.length; own++)
          for (let top = own; top < sizes.length; top++) {
            const part = shares[n]![own * sizes.length + top]!;
            if (part > 0) share += model.requests[n]! * part * model.waited(n, limits[own]! - ms[n]![top]!);
          }
      }
      return share;
    };
    return { usd, usdPerSize, batches: model.batches, meanBatch, work, padding: work - own, within };
  }
}

/** A request is done when its own steps are; some batches of every number of requests stand for all. */
class CellularBuffer implements SizedBuffer {
  readonly #options: SizedBufferOptions;
  /** By number of requests: sizes of batches. */
  readonly #batches: readonly (readonly number[][])[];

  constructor(options: SizedBufferOptions) {
    this.#options = options;
    const { mix, maxBatch, seed } = options;
    const random = new Random(seed);
    this.#batches = Array.from({ length: maxBatch + 1 }, (_, n) =>
      Array.from({ length: Math.ceil(SAMPLED_REQUESTS / Math.max(1, n)) }, () =>
        Array.from({ length: n }, () => mix.sizes[random.pick(mix.shares)]!),
      ),
    );
  }

  evaluate({ maxBatch, timeoutMs, memoryMb }: Setting): Evaluation {
    const { service, prices, models, answers } = this.#options;
    const model = models.of(maxBatch, timeoutMs);
    const meanBatch = model.batches.reduce((sum, share, n) => sum + n * share, 0);
    /** By number of requests: size and end of each sampled request. */
    const ends: { readonly size: number; readonly ms: number }[][] = [];
    let usd = 0;
    let usdPerSize = 0;
    let work = 0;
    for (let n = 1; n <= maxBatch; n++) {
      const list: { readonly size: number; readonly ms: number }[] = [];
      ends.push(list);
      if (model.requests[n]! < NEGLIGIBLE) continue;
      const samples = this.#batches[n]!;
      for (const sizes of samples) {
        const own = service.endMs!(sizes, memoryMb);
        const last = Math.max(...own);
        const cost = callCost(last, memoryMb, prices);
        const parts = partsOf(own);
        const weight = model.requests[n]! / (samples.length * n);
        sizes.forEach((size, i) => {
          list.push({ size, ms: answers === "each" ? own[i]! : last });
          usd += (weight * cost) / n;
          usdPerSize += (weight * cost * parts[i]!) / size;
          work += weight * size;
        });
      }
    }
    const within = (limitMs: (size: number) => number) => {
      let share = 0;
      ends.forEach((list, i) => {
        const n = i + 1;
        let sum = 0;
        for (const { size, ms } of list) sum += model.waited(n, limitMs(size) - ms);
        if (list.length > 0) share += (model.requests[n]! * sum) / list.length;
      });
      return share;
    };
    return { usd, usdPerSize, batches: model.batches, meanBatch, work, padding: 0, within };
  }
}

const SAMPLED_REQUESTS = 400;
/** Batches of a size that holds fewer requests than this share change no figure. */
const NEGLIGIBLE = 1e-9;
