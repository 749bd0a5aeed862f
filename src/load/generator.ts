import { monitorEventLoopDelay, performance } from "node:perf_hooks";
import { Latencies } from "./latencies.ts";

/** Whether the generator kept up with its own schedule. */
export interface GeneratorHealth {
  /** How long it sent. */
  readonly seconds: number;
  /** How late requests were sent, in milliseconds. */
  readonly lateMs: { readonly p50: number; readonly p99: number; readonly most: number };
  /** 99th percentile of the delay of its event loop, in milliseconds, as timers see it. */
  readonly loopDelayMs: number;
  /** Share of the time in which its thread worked rather than waited, 0 to 1. */
  readonly busy: number;
  /** Cores that its process used, engines within it among them. */
  readonly cpu: number;
}

/** Watches the thread that sends, from `begin` to `end`. */
export class Generator {
  #late = new Latencies();
  readonly #delay = monitorEventLoopDelay({ resolution: 5 });
  #from = 0;
  #loop = performance.eventLoopUtilization();
  #cpu = process.cpuUsage();

  /** The warm-up is over. */
  begin(): void {
    this.#late = new Latencies();
    this.#delay.enable();
    this.#from = performance.now();
    this.#loop = performance.eventLoopUtilization();
    this.#cpu = process.cpuUsage();
  }

  sent(lateMs: number): void {
    this.#late.add(lateMs);
  }

  end(): GeneratorHealth {
    this.#delay.disable();
    const seconds = Math.max(1e-3, (performance.now() - this.#from) / 1000);
    const { user, system } = process.cpuUsage(this.#cpu);
    const late = (share: number) => (this.#late.count > 0 ? this.#late.quantile(share) : 0);
    return {
      seconds,
      lateMs: { p50: late(0.5), p99: late(0.99), most: late(1) },
      // What the monitor counts includes the wait that it asked for.
      loopDelayMs: Math.max(0, this.#delay.percentile(99) / 1e6 - RESOLUTION_MS),
      busy: performance.eventLoopUtilization(this.#loop).utilization,
      cpu: (user + system) / 1e6 / seconds,
    };
  }
}

const RESOLUTION_MS = 5;

/**
 * Why figures say more about the generator than about what it asks; undefined where they do not. `p99Ms` is the latency that
 * was measured.
 */
export function bottleneckOf(health: GeneratorHealth, p99Ms: number): string | undefined {
  const { lateMs, loopDelayMs, busy } = health;
  const ms = (value: number) => `${value.toFixed(value < 10 ? 1 : 0)} ms`;
  if (lateMs.p99 > Math.max(LATE_MS, LATE_SHARE * p99Ms))
    return `1 % of the requests were sent more than ${ms(lateMs.p99)} late`;
  if (loopDelayMs > Math.max(LATE_MS, LATE_SHARE * p99Ms))
    return `its event loop was held up for ${ms(loopDelayMs)} or more in 1 % of its turns`;
  if (busy > BUSY) return `its thread was busy for ${Math.round(100 * busy)} % of the time`;
  return undefined;
}

/** Lateness below this, or below this share of the latency, does not change what is read from it. */
const LATE_MS = 2;
const LATE_SHARE = 0.2;
const BUSY = 0.9;
