import type { Clock } from "../core/clock.ts";
import { Fault, type FaultCode } from "../core/faults.ts";
import type { Tensor } from "../core/tensor.ts";
import { type GraphLane, type GraphRequest, writeGraphAnswer } from "./graph-lane.ts";
import { TaskMeter } from "./meters.ts";
import type { PacketWriter } from "./packet.ts";

export interface LaneEnds {
  /** A batch has run. */
  ran(batch: DueBatch, endedMs: number): void;
  /** A request has its answer. */
  answered(request: GraphRequest): void;
  failed(request: GraphRequest, code: FaultCode, message: string): void;
}

/** Whole requests that run together. */
export interface DueBatch {
  readonly lane: GraphLane;
  readonly requests: readonly GraphRequest[];
  readonly startedMs: number;
}

/** The models of an engine that are whole graphs: which of them runs a batch, and what comes of it. */
export class GraphLanes implements Iterable<GraphLane> {
  readonly #clock: Clock;
  readonly #outbox: PacketWriter;
  readonly #ends: LaneEnds;
  readonly #meters = new Map<GraphLane, TaskMeter>();
  #lanes: readonly GraphLane[] = [];
  /** Where the search for a due batch begins, so that no lane waits for the others. */
  #first = 0;

  constructor(clock: Clock, outbox: PacketWriter, ends: LaneEnds) {
    this.#clock = clock;
    this.#outbox = outbox;
    this.#ends = ends;
  }

  get count(): number {
    return this.#lanes.length;
  }

  /** When the next batch is due at the latest, on the clock; `Infinity` where nothing waits. */
  get nextDueMs(): number {
    return this.#lanes.reduce((least, lane) => Math.min(least, lane.nextDueMs), Number.POSITIVE_INFINITY);
  }

  [Symbol.iterator](): Iterator<GraphLane> {
    return this.#lanes[Symbol.iterator]();
  }

  add(lane: GraphLane): void {
    this.#lanes = [...this.#lanes, lane];
    this.#meters.set(lane, new TaskMeter());
  }

  remove(lane: GraphLane): void {
    this.#lanes = this.#lanes.filter((one) => one !== lane);
    this.#meters.delete(lane);
  }

  meterOf(lane: GraphLane): TaskMeter {
    return this.#meters.get(lane)!;
  }

  /** The batch that is to run now, if one is due; `isIdle` where there is nothing else to do. */
  next(isIdle: boolean): DueBatch | undefined {
    const startedMs = this.#clock.now();
    for (let i = 0; i < this.#lanes.length; i++) {
      const lane = this.#lanes[(this.#first + i) % this.#lanes.length]!;
      const requests = lane.next(startedMs, isIdle);
      if (!requests) continue;
      this.#first += i + 1;
      return { lane, requests, startedMs };
    }
    return undefined;
  }

  /** Runs a batch; where it fails, each of its requests alone, so that only the one whose fault it is ends. */
  run(batch: DueBatch): void | Promise<void> {
    const { lane, requests } = batch;
    const failed = (error: unknown): void | Promise<void> => {
      if (requests.length > 1) return this.#runAlone(batch);
      const fault = Fault.from(error);
      const message = `the graph of model '${lane.definition.name}' failed: ${fault.message}`;
      if (!requests[0]!.ended) this.#ends.failed(requests[0]!, fault.code, message);
    };
    try {
      const outputs = lane.run(requests);
      if (outputs instanceof Promise) return outputs.then((given) => this.#done(batch, given)).catch(failed);
      this.#done(batch, outputs);
    } catch (error) {
      return failed(error);
    }
  }

  #done(batch: DueBatch, outputs: readonly Tensor[]): void {
    const { lane, requests, startedMs } = batch;
    const now = this.#clock.now();
    this.#meters.get(lane)?.add(requests.length, now - startedMs);
    this.#ends.ran(batch, now);
    lane.cut(requests, outputs).forEach((cut, row) => {
      const request = requests[row]!;
      if (request.ended) return;
      writeGraphAnswer(this.#outbox, request, cut, startedMs, now);
      this.#ends.answered(request);
    });
  }

  async #runAlone(batch: DueBatch): Promise<void> {
    for (const request of batch.requests)
      if (!request.ended) await this.run({ ...batch, requests: [request] });
  }
}
