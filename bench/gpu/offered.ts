import { DeviceEngine } from "../../kernels/native/device-engine.ts";
import { poisson } from "../../src/load/arrivals.ts";
import { quantile } from "../../src/load/statistics.ts";
import type { Setting } from "./setting.ts";

export interface Offered {
  /** Requests per second that were sent, and that ended. */
  readonly rate: number;
  readonly perSecond: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
}

/**
 * Sends requests at a rate, at random times, and answers how long they took from the time each was meant to be sent until
 * JavaScript has its output. The first quarter is not counted.
 */
export async function offer(setting: Setting, rate: number, seconds: number): Promise<Offered> {
  const { choice, cell, rows, requests, k, depth } = setting;
  const engine = DeviceEngine.open([cell], { ...choice, rows, slots: 3 * rows });
  const times = poisson(rate, seconds, 1).map((at) => at * 1000);
  if (times.length === 0) throw new Error(`nothing is sent in ${seconds} s at ${rate} requests/s`);
  const meant = new Float64Array(3 * rows);
  const latencies: number[] = [];
  const start = performance.now();
  let [sent, active] = [0, 0];
  let last = 0;
  const ended = (slot: number) => {
    last = performance.now() - start;
    if (meant[slot]! > (seconds * 1000) / 4) latencies.push(last - meant[slot]!);
    engine.release(slot);
    active--;
  };
  const admit = () => {
    for (; sent < times.length && times[sent]! <= performance.now() - start; sent++) {
      const slot = engine.take();
      if (slot === undefined) return;
      const inputs = requests[sent % requests.length]!;
      meant[slot] = times[sent]!;
      engine.commands.admit(slot, { cell: 0, steps: inputs.length, inputs });
      active++;
    }
  };
  const loop = async () => {
    while (sent < times.length || active > 0) {
      engine.poll(ended);
      admit();
      if (active > 0) await new Promise<void>((resolve) => engine.submit(k, resolve));
      else await new Promise((resolve) => setImmediate(resolve));
    }
  };
  await Promise.all(Array.from({ length: depth }, loop));
  engine.close();
  if (latencies.length === 0)
    throw new Error(`no request of ${times.length} was sent after the first quarter`);
  return {
    rate,
    perSecond: times.length / (last / 1000),
    p50Ms: quantile(latencies, 0.5),
    p99Ms: quantile(latencies, 0.99),
  };
}
