import { type BufferSet, BufferSet as Buffers, bySize } from "../../scheduler/buffer.ts";
import type { RecordedBuffers } from "../core/recording.ts";
import { damaged } from "./fields.ts";
import type { LifeWork, WholeRequest, WorkBatch } from "./workload.ts";

interface Graph {
  readonly name: string;
  readonly buffers: BufferSet;
}

/** The half of a reproduction that batches whole requests: makes an engine's batches again, and gathers what came to them. */
export class GraphReproduction {
  readonly #work: LifeWork;
  readonly #startMs: number;
  readonly #graphs = new Map<number, Graph>();
  /** By graph and number. */
  readonly #waiting = new Map<string, WholeRequest>();
  #batch: WorkBatch | undefined;
  #inBatch: readonly WholeRequest[] = [];

  /** `startMs` is what the engine's clock said when the life began. */
  constructor(work: LifeWork, startMs: number) {
    this.#work = work;
    this.#startMs = startMs;
  }

  setBuffers(settings: RecordedBuffers, us: number): void {
    const { graph, name, buffers, eager, order } = settings;
    const made = orDamaged(() => new Buffers(bySize(buffers), { order, workConserving: eager }));
    this.#graphs.set(graph, { name, buffers: made });
    this.#work.buffers.push({ ...settings, atUs: this.#work.startUs + us });
  }

  wait([graph, id, size, priority, deadlineMs, now]: readonly number[]): void {
    const { buffers } = this.#graph(graph!);
    const waiting = { id: id!, size: size!, priority: priority!, deadlineMs: deadlineMs! };
    orDamaged(() => buffers.add(waiting, now!));
    const key = `${graph}/${id}`;
    // It went over to new buffers.
    if (this.#waiting.has(key)) return;
    const request: WholeRequest = {
      kind: "whole",
      graph: graph!,
      arrivalUs: this.#us(now!),
      size: size!,
      priority: priority!,
      timeoutUs: Math.round((deadlineMs! - now!) * 1000),
      removedAfterUs: Number.POSITIVE_INFINITY,
      endUs: -1,
      wasRemoved: false,
    };
    this.#waiting.set(key, request);
    this.#work.requests.push(request);
  }

  leave(graph: number, id: number, us: number): void {
    if (!this.#graph(graph).buffers.remove(id)) throw damaged(`request ${id} does not wait`);
    const request = this.#take(graph, id);
    request.wasRemoved = true;
    const afterUs = this.#work.startUs + us - request.arrivalUs;
    if (afterUs < request.timeoutUs) request.removedAfterUs = afterUs;
  }

  /** Answers how the batch differs from the recorded one. */
  batch([graph, idle, now, ...recorded]: readonly number[]): string | undefined {
    const { name, buffers } = this.#graph(graph!);
    const ids = buffers.due(now!, idle === 1)?.ids ?? [];
    if (ids.length !== recorded.length || ids.some((id, i) => id !== recorded[i])) {
      const list = (of: readonly number[]) => (of.length === 0 ? "none" : of.join(", "));
      const at = (now! - this.#startMs).toFixed(3);
      return `at ${at} ms a batch of ${name} was of requests ${list(recorded)}, now it would be of ${list(ids)}`;
    }
    const beginUs = this.#us(now!);
    this.#inBatch = ids.map((id) => this.#take(graph!, id));
    const size = this.#inBatch.reduce((most, request) => Math.max(most, request.size), 0);
    this.#batch = { name, rows: ids.length, steps: 1, size, beginUs, endUs: -1, untilNextUs: -1 };
    this.#work.batches.push(this.#batch);
    return undefined;
  }

  /** Where a batch failed, each of its requests ran again alone: all of them have ended with the last. */
  ended(us: number): void {
    if (!this.#batch) throw damaged("a batch has ended that did not begin");
    const endUs = this.#work.startUs + us;
    this.#batch.endUs = endUs;
    for (const request of this.#inBatch) request.endUs = endUs;
  }

  #graph(graph: number): Graph {
    const found = this.#graphs.get(graph);
    if (!found) throw damaged(`there is no graph ${graph}`);
    return found;
  }

  #take(graph: number, id: number): WholeRequest {
    const key = `${graph}/${id}`;
    const request = this.#waiting.get(key);
    if (!request) throw damaged(`request ${id} does not wait`);
    this.#waiting.delete(key);
    return request;
  }

  /** On the clock of the work. */
  #us(ms: number): number {
    return this.#work.startUs + Math.round((ms - this.#startMs) * 1000);
  }
}

function orDamaged<T>(act: () => T): T {
  try {
    return act();
  } catch (cause) {
    if (cause instanceof RangeError) throw damaged(cause.message);
    throw cause;
  }
}
