import { type Arrivals, arrivalTimes } from "./arrivals.ts";
import { bottleneckOf, type GeneratorHealth } from "./generator.ts";
import { type Lengths, lengthsOf } from "./lengths.ts";
import { type OpenLoopResult, openLoop } from "./open-loop.ts";
import { requestsFor } from "./requests.ts";
import { openTarget } from "./target.ts";

export interface LoadSettings {
  readonly url: URL;
  /** The only one where it is absent. */
  readonly model?: string;
  /** Requests per second, measured one after the other. */
  readonly rates: readonly number[];
  readonly seconds: number;
  readonly warmSeconds: number;
  readonly arrivals: Arrivals;
  readonly lengths: Lengths;
  readonly texts?: readonly string[];
  /** Integers are drawn from as many. */
  readonly tokens: number;
  readonly maxSteps?: number;
  /** @default 4 sockets or channels, 256 connections of HTTP */
  readonly connections?: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly seed: number;
  readonly signal: AbortSignal;
  readonly began: (rate: number, requests: number) => void;
  /** A request that counts has ended. */
  readonly ended: () => void;
}

export interface LoadReport {
  readonly url: string;
  readonly model: string;
  readonly interrupted: boolean;
  readonly rates: readonly RateReport[];
}

/** Times in milliseconds; null where nothing was answered. */
export interface RateReport {
  readonly rate: number;
  readonly sent: number;
  readonly answered: number;
  readonly failed: number;
  readonly failures: Readonly<Record<string, number>>;
  readonly answersPerSecond: number;
  readonly p50: number | null;
  readonly p90: number | null;
  readonly p99: number | null;
  readonly p999: number | null;
  readonly most: number | null;
  /** At `CURVE_SHARES`. */
  readonly curve: readonly number[];
  /** Means that the server tells; 0 where it does not. */
  readonly queueMs: number;
  readonly computeMs: number;
  readonly generator: GeneratorHealth;
  /** Why these are figures of the generator rather than of the server. */
  readonly bottleneck?: string;
  /** Whether requests were left when the sending ended, more than a latency explains. */
  readonly saturated: boolean;
}

/** Asks a server at each rate. Throws where it cannot be reached or has no such model. */
export async function runLoad(settings: LoadSettings): Promise<LoadReport> {
  const { url, headers, rates, signal, tokens, texts, maxSteps } = settings;
  const connections = settings.connections ?? (url.protocol.startsWith("http") ? 256 : 4);
  const target = await openTarget({
    url,
    headers,
    connections,
    ...(maxSteps === undefined ? {} : { maxSteps }),
  });
  try {
    const model = await target.model(settings.model);
    const inputs = model.inputs.map((input) => ({ ...input, kinds: tokens }));
    const service = await target.open(model, requestsFor(inputs, texts));
    const done: RateReport[] = [];
    for (const [i, rate] of rates.entries()) {
      if (signal.aborted) break;
      const { seconds, warmSeconds, arrivals, lengths, seed } = settings;
      const times = arrivalTimes(arrivals, rate, warmSeconds + seconds, seed + i);
      settings.began(rate, times.filter((time) => time >= warmSeconds).length);
      const measured = await openLoop(service, {
        lengths: lengthsOf(lengths, 20_000, seed + i),
        arrivals: times,
        warmSeconds,
        drainSeconds: Math.max(LEAST_DRAIN_S, seconds / 2),
        signal,
        progress: settings.ended,
      });
      done.push(reportOf(rate, measured));
    }
    return { url: url.href, model: model.name, interrupted: signal.aborted, rates: done };
  } finally {
    await target.close();
  }
}

const LEAST_DRAIN_S = 5;
/** An answer rate below this share of what was sent is the server's limit. */
const KEPT_UP = 0.97;

function reportOf(rate: number, measured: OpenLoopResult): RateReport {
  const { latencies, sent, answered, failed, failures, queueMs, computeMs, generator, drainedSeconds } =
    measured;
  const at = (share: number) => (answered > 0 ? latencies.quantile(share) : null);
  const bottleneck = bottleneckOf(generator, at(0.99) ?? 0);
  const answersPerSecond = answered / (generator.seconds + drainedSeconds);
  return {
    rate,
    sent,
    answered,
    failed,
    failures,
    answersPerSecond,
    p50: at(0.5),
    p90: at(0.9),
    p99: at(0.99),
    p999: at(0.999),
    most: at(1),
    curve: latencies.curve(),
    queueMs,
    computeMs,
    generator,
    ...(bottleneck ? { bottleneck } : {}),
    saturated:
      answersPerSecond < KEPT_UP * (sent / generator.seconds) && drainedSeconds > 0.1 * generator.seconds,
  };
}
