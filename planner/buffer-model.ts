import { Matrix } from "ml-matrix";
import {
  type ArrivalProcess,
  phaseAtNextArrival,
  stationaryOfChain,
  statisticsOf,
} from "./arrival-process.ts";
import { type Counts, countsIn, inSequence } from "./counting.ts";

/** When a buffer's requests become a batch. */
export interface Sizing {
  /** Requests of one batch; 1 or more. */
  readonly maxBatch: number;
  /** Milliseconds from the first request until the batch goes, full or not; 0 or more. */
  readonly timeoutMs: number;
}

/** What becomes of the requests of one buffer that has no queue behind it. */
export interface BatchModel {
  /** By size of a batch, 0 to `maxBatch`: its share of the batches. */
  readonly batches: Float64Array;
  /** By size of a batch: its share of the requests. */
  readonly requests: Float64Array;
  /** Share of the requests that are answered within `ms`, where a batch of n takes `serviceMs(n)`. */
  cdf(ms: number, serviceMs: (rows: number) => number): number;
}

/**
 * The buffer of BATCH, with waits as they are: followed phase by phase of the arrival process, from the exact distribution of
 * phases in which a batch begins. The first request of a batch that times out waits for the whole timeout; one of a full
 * batch waits for those behind it. Exact for any Markovian arrivals, up to a grid of time of 64 points.
 */
export class CorrectedModel implements BatchModel {
  readonly batches: Float64Array;
  readonly requests: Float64Array;
  readonly #maxBatch: number;
  /** The timeout, or the time by which practically every batch is full where that is earlier. */
  readonly #horizonMs: number;
  /** By size: the share of its requests that waited for at most i of `POINTS` parts of the horizon. */
  readonly #waited: readonly Float64Array[];

  constructor(process: ArrivalProcess, { maxBatch, timeoutMs }: Sizing) {
    this.#maxBatch = maxBatch;
    this.batches = new Float64Array(maxBatch + 1);
    const horizon = maxBatch === 1 ? 0 : horizonOf(process, maxBatch, timeoutMs / 1000);
    this.#horizonMs = horizon * 1000;
    if (horizon === 0) {
      this.batches[1] = 1;
      this.#waited = [new Float64Array(), new Float64Array(POINTS + 1).fill(1)];
    } else this.#waited = this.#follow(process, horizon);
    const mean = this.batches.reduce((sum, share, n) => sum + n * share, 0);
    this.requests = this.batches.map((share, n) => (n * share) / mean);
  }

  /** Share of the requests in batches of `rows` that wait for at most `ms`. */
  waited(rows: number, ms: number): number {
    if (ms < 0) return 0;
    if (ms >= this.#horizonMs) return 1;
    const shares = this.#waited[rows]!;
    const at = (ms / this.#horizonMs) * POINTS;
    const from = Math.floor(at);
    return shares[from]! + (shares[from + 1]! - shares[from]!) * (at - from);
  }

  cdf(ms: number, serviceMs: (rows: number) => number): number {
    let share = 0;
    for (let n = 1; n <= this.#maxBatch; n++)
      if (this.requests[n]! > 0) share += this.requests[n]! * this.waited(n, ms - serviceMs(n));
    return share;
  }

  /** Fills in the sizes of batches; answers how long their requests wait. */
  #follow(process: ArrivalProcess, horizon: number): Float64Array[] {
    const most = this.#maxBatch - 2;
    const phases = process.d0.length;
    const step = countsIn(process, horizon / POINTS, most);
    const grid: Counts[] = [countsIn(process, 0, most)];
    for (let i = 1; i <= POINTS; i++) grid.push(inSequence(grid[i - 1]!, step));
    const arriving = new Matrix(process.d1 as number[][]);
    const rates = arriving.sum("row");
    const begin = this.#phasesAtStart(process, grid, arriving, horizon);
    const vectors = grid.map((counts) => ({
      /** By number of arrivals, then phase: a batch that began so long ago has so many more requests. */
      before: rowTimes(begin, counts),
      /** By number, then phase at the start: so many arrive in this time. */
      come: timesColumn(counts, new Array<number>(phases).fill(1)),
      /** The same, and then the next arrives, per second. */
      fill: timesColumn(counts, rates),
    }));
    const dot = (at: number, count: number, other: number, rest: number, kind: "come" | "fill") => {
      const [left, right] = [vectors[at]!.before, vectors[other]![kind]];
      let sum = 0;
      for (let i = 0; i < phases; i++) sum += left[count * phases + i]! * right[rest * phases + i]!;
      return sum;
    };
    const waited: Float64Array[] = [new Float64Array()];
    let left = 1;
    for (let n = 1; n < this.#maxBatch; n++) {
      const share = dot(POINTS, n - 1, 0, 0, "come");
      this.batches[n] = share;
      left -= share;
      // The last point is just before the timeout: the first request, which waits for all of it, is not in it.
      const shares = new Float64Array(POINTS + 1);
      for (let i = 0; i <= POINTS && share > 0; i++) {
        let requests = 0;
        for (let early = 0; early < n - 1; early++)
          requests += (n - 1 - early) * dot(POINTS - i, early, i, n - 1 - early, "come");
        shares[i] = requests / (n * share);
      }
      waited.push(shares);
    }
    this.batches[this.#maxBatch] = Math.max(0, left);
    waited.push(fullBatches(this.#maxBatch, dot));
    return waited;
  }

  /** The phases in which batches begin: those that the way from one batch to the next leaves as they are. */
  #phasesAtStart(
    process: ArrivalProcess,
    grid: readonly Counts[],
    arriving: Matrix,
    horizon: number,
  ): number[] {
    const phases = process.d0.length;
    if (phases === 1) return [1];
    const last = grid[POINTS]!;
    const late = Matrix.zeros(phases, phases);
    for (let count = 0; count <= last.most; count++) late.add(blockOf(last, count));
    const full = Matrix.zeros(phases, phases);
    grid.forEach((counts, i) => {
      const weight = (i === 0 || i === POINTS ? 0.5 : 1) * (horizon / POINTS);
      full.add(blockOf(counts, counts.most).mmul(arriving).mul(weight));
    });
    const ends = Matrix.zeros(phases, phases);
    for (let i = 0; i < phases; i++) {
      const isLate = late.getRowVector(i).sum();
      const isFull = full.getRowVector(i).sum();
      for (let j = 0; j < phases; j++)
        ends.set(i, j, late.get(i, j) + (isFull > 0 ? (full.get(i, j) * (1 - isLate)) / isFull : 0));
    }
    return stationaryOfChain(ends.mmul(phaseAtNextArrival(process)));
  }
}

/** Parts that the time up to the timeout is divided into. */
const POINTS = 64;

type Dot = (at: number, count: number, other: number, rest: number, kind: "come" | "fill") => number;

/**
 * Of the requests of full batches, the share that waited for at most i parts: the batch fills at s, and whoever came after s
 * less that wait counts. Integrated over s; the sum over all s is 1 by definition, which takes out the error of the grid.
 */
function fullBatches(maxBatch: number, dot: Dot): Float64Array {
  const shares = new Float64Array(POINTS + 1);
  for (let wait = 0; wait <= POINTS; wait++) {
    let requests = 0;
    for (let fills = 0; fills <= POINTS; fills++) {
      const weight = fills === 0 || fills === POINTS ? 0.5 : 1;
      if (fills === wait) {
        // Up to here even the first request counts, from here on it does not.
        const [upTo, from] = [fills > 0 ? 0.5 * maxBatch : 0, fills < POINTS ? 0.5 * (maxBatch - 1) : 0];
        requests += (upTo + from) * dot(fills, maxBatch - 2, 0, 0, "fill");
      } else if (fills < wait) requests += weight * maxBatch * dot(fills, maxBatch - 2, 0, 0, "fill");
      else
        for (let early = 0; early <= maxBatch - 2; early++)
          requests +=
            weight * (maxBatch - 1 - early) * dot(fills - wait, early, wait, maxBatch - 2 - early, "fill");
    }
    shares[wait] = requests;
  }
  const all = shares[POINTS]!;
  return all > 0 ? shares.map((requests) => requests / all) : shares.fill(1);
}

/** Seconds by which all but a millionth of the batches are full, at most the timeout. */
function horizonOf(process: ArrivalProcess, maxBatch: number, timeout: number): number {
  let seconds = maxBatch / statisticsOf(process).perSecond;
  while (seconds < timeout) {
    const { blocks, phases } = countsIn(process, seconds, maxBatch - 2);
    let open = 0;
    for (let from = 0; from < phases; from++) {
      let mass = 0;
      for (let at = 0; at < blocks.length; at++)
        if (Math.floor(at / phases) % phases === from) mass += blocks[at]!;
      open = Math.max(open, mass);
    }
    if (open < 1e-6) return seconds;
    seconds *= 1.3;
  }
  return timeout;
}

function blockOf({ phases, blocks }: Counts, count: number): Matrix {
  const square = phases * phases;
  return Matrix.from1DArray(phases, phases, blocks.subarray(count * square, (count + 1) * square));
}

function rowTimes(row: readonly number[], { phases, most, blocks }: Counts): Float64Array {
  const product = new Float64Array((most + 1) * phases);
  for (let at = 0; at < blocks.length; at++) {
    const count = Math.floor(at / (phases * phases));
    const [i, j] = [Math.floor(at / phases) % phases, at % phases];
    product[count * phases + j] = product[count * phases + j]! + row[i]! * blocks[at]!;
  }
  return product;
}

function timesColumn({ phases, most, blocks }: Counts, column: readonly number[]): Float64Array {
  const product = new Float64Array((most + 1) * phases);
  for (let at = 0; at < blocks.length; at++) {
    const row = Math.floor(at / phases);
    product[row] = product[row]! + blocks[at]! * column[at % phases]!;
  }
  return product;
}
