import { quantile } from "../statistics.ts";
import { Random } from "./random.ts";

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
  readonly offered: number;
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
  const latencies: number[] = [];
  const queued: number[] = [];
  let answered = 0;
  arrivals.forEach((at, request) => {
    const done = journal.endMs[request]!;
    if (done >= warmMs && done < endMs) answered++;
    if (at < warmMs) return;
    latencies.push(done - at);
    queued.push(journal.startMs[request]! - at);
  });
  const completed = answered / ((endMs - warmMs) / 1000);
  const sustained = answered >= SUSTAINED_SHARE * latencies.length;
  const [p50, p90, p99] = [0.5, 0.9, 0.99].map((share) => quantile(latencies, share));
  return {
    offered: load.rate,
    completed,
    sustained,
    p50: p50!,
    p90: p90!,
    p99: p99!,
    queueP99: quantile(queued, 0.99),
  };
}

const WARM_SHARE = 0.2;
/** Fewer answers than this share of the arrivals is a queue that grows. */
const SUSTAINED_SHARE = 0.97;
