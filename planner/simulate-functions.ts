import { BufferSet } from "../scheduler/buffer.ts";
import { Heap } from "../scheduler/heap.ts";
import { callCost, type FunctionPrices } from "./cost.ts";
import { Events } from "./events.ts";
import type { Outcome } from "./outcome.ts";
import type { Route } from "./routing.ts";
import { partsOf, type Service } from "./service.ts";
import type { Trace } from "./trace.ts";

/** One buffer in front of functions of one memory. */
export interface FunctionBuffer {
  readonly maxBatch: number;
  readonly timeoutMs: number;
  readonly memoryMb: number;
}

export interface FunctionSettings {
  readonly buffers: readonly FunctionBuffer[];
  /** Which buffer takes a size. @default the first takes all */
  readonly route?: Route;
  readonly service: Service;
  readonly prices: FunctionPrices;
  /** Calls that may run at a time; those above wait in order. @default no limit: functions scale out */
  readonly concurrency?: number;
  /**
   * Whether requests that end before their batch are answered then (as where the response is a stream), or all with the last.
   * @default "together"
   */
  readonly answers?: "each" | "together";
}

/** A buffer in front of functions, in virtual time, with the buffers that the gateway runs. */
export function simulateFunctions(trace: Trace, settings: FunctionSettings): Outcome {
  const { buffers, service, prices, concurrency = Number.POSITIVE_INFINITY, answers = "together" } = settings;
  const events = new Events();
  const { clock } = events;
  const set = new BufferSet(
    buffers.map(({ maxBatch, timeoutMs }) => ({
      maxBatch,
      timeoutMs,
      sizes: [Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY] as const,
    })),
  );
  const { timesMs } = trace;
  const sizeOf = (request: number) => trace.sizes?.[request] ?? 1;
  const latencyMs = new Float64Array(timesMs.length);
  const queueMs = new Float64Array(timesMs.length);
  const usdOf = new Float64Array(timesMs.length);
  const batches = new Float64Array(Math.max(...buffers.map(({ maxBatch }) => maxBatch)) + 1);
  /** When calls that run will end; only with a limit. */
  const busy = new Heap<number>((a, b) => a < b);
  let padded = 0;
  let work = 0;
  let busyMs = 0;
  const call = (buffer: number, ids: readonly number[]) => {
    const { memoryMb } = buffers[buffer]!;
    let largest = 0;
    let sum = 0;
    for (const id of ids) {
      largest = Math.max(largest, sizeOf(id));
      sum += sizeOf(id);
    }
    const startMs = busy.size < concurrency ? clock.now() : Math.max(clock.now(), busy.pop()!);
    const ends = service.endMs?.(ids.map(sizeOf), memoryMb);
    const ms = ends ? Math.max(...ends) : service.ms(ids.length, largest, memoryMb);
    if (concurrency !== Number.POSITIVE_INFINITY) busy.push(startMs + ms);
    busyMs += ms;
    const usd = callCost(ms, memoryMb, prices);
    const parts = ends && partsOf(ends);
    ids.forEach((id, i) => {
      usdOf[id] = usd * (parts?.[i] ?? 1 / ids.length);
      queueMs[id] = startMs - timesMs[id]!;
      latencyMs[id] = startMs + (answers === "each" && ends ? ends[i]! : ms) - timesMs[id]!;
    });
    batches[ids.length] = batches[ids.length]! + 1;
    work += ends ? sum : ids.length * largest;
    padded += ends ? 0 : ids.length * largest - sum;
  };
  const dispatch = () => {
    for (let batch = set.due(clock.now(), false); batch; batch = set.due(clock.now(), false))
      call(batch.buffer, batch.ids);
    const next = set.nextDue();
    if (next < alarmMs) {
      alarmMs = next;
      events.at(next, () => {
        alarmMs = Number.POSITIVE_INFINITY;
        dispatch();
      });
    }
  };
  let alarmMs = Number.POSITIVE_INFINITY;
  const arrive = (request: number) => {
    const size = sizeOf(request);
    set.add({ id: request, size }, clock.now(), settings.route?.(size) ?? 0);
    if (request + 1 < timesMs.length) events.at(timesMs[request + 1]!, () => arrive(request + 1));
    dispatch();
  };
  events.at(timesMs[0]!, () => arrive(0));
  events.run();
  return { latencyMs, queueMs, batches, paddingShare: padded / work, usdOf, busyMs };
}
