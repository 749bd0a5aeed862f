import { Random } from "../../src/core/random.ts";

/** A serving method under virtual time; requests are named by arrival number. */
export interface Server {
  arrive(request: number): void;
  /** Works from `nowMs` until the device is free again; answers when that is, or undefined where nothing waits. */
  work(nowMs: number, journal: Journal): number | undefined;
}

/** When each request was first on the device, and when its answer was ready. */
export interface Journal {
  readonly startMs: Float64Array;
  readonly endMs: Float64Array;
}

export interface Run {
  /** Answers per second between warm-up and the last arrival. */
  readonly completed: number;
  /** Whether answers kept up with arrivals. */
  readonly sustained: boolean;
  readonly p50: number;
  readonly p90: number;
  readonly p99: number;
  readonly queueP99: number;
}

export interface Load {
  /** Requests per second, Poisson. */
  readonly rate: number;
  readonly seed: number;
  /** Arrivals last this long, the first fifth of it to warm up. */
  readonly seconds: number;
}

/** Offers Poisson arrivals to a server until all are answered. `open` is told how many requests there will be. */
export function drive(load: Load, open: (requests: number) => Server): Run {
  const endMs = load.seconds * 1000;
  const arrivals = arrivalsOf(load, endMs);
  const server = open(arrivals.length);
  const journal = {
    startMs: new Float64Array(arrivals.length).fill(-1),
    endMs: new Float64Array(arrivals.length),
  };
  let now = 0;
  let next = 0;
  for (;;) {
    while (next < arrivals.length && arrivals[next]! <= now) server.arrive(next++);
    const free = server.work(now, journal);
    if (free !== undefined) now = free;
    else if (next < arrivals.length) now = arrivals[next]!;
    else break;
  }
  return runOf(load, arrivals, journal);
}

function arrivalsOf({ rate, seed }: Load, endMs: number): number[] {
  const random = new Random(seed);
  const arrivals: number[] = [];
  for (let at = random.exponential(1000 / rate); at < endMs; at += random.exponential(1000 / rate))
    arrivals.push(at);
  return arrivals;
}

function runOf(load: Load, arrivals: readonly number[], journal: Journal): Run {
  const endMs = load.seconds * 1000;
  const warmMs = endMs * WARM_SHARE;
  const warm = arrivals.findIndex((at) => at >= warmMs);
  const latencies = journal.endMs
    .map((done, request) => done - arrivals[request]!)
    .subarray(warm)
    .sort();
  const queued = journal.startMs
    .map((start, request) => start - arrivals[request]!)
    .subarray(warm)
    .sort();
  const answered = journal.endMs.reduce((sum, done) => sum + (done >= warmMs && done < endMs ? 1 : 0), 0);
  return {
    completed: answered / ((endMs - warmMs) / 1000),
    sustained: answered >= SUSTAINED_SHARE * latencies.length,
    p50: quantile(latencies, 0.5),
    p90: quantile(latencies, 0.9),
    p99: quantile(latencies, 0.99),
    queueP99: quantile(queued, 0.99),
  };
}

/** By the nearest rank; `sorted` is in order, because sorting a typed array is what keeps a long run short. */
function quantile(sorted: Float64Array, share: number): number {
  return sorted[Math.floor(share * sorted.length)]!;
}

const WARM_SHARE = 0.2;
/** Fewer answers than this share of the arrivals is a queue that grows. */
const SUSTAINED_SHARE = 0.97;
