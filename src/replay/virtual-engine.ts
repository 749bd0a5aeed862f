import { BufferSet, bySize } from "../../scheduler/buffer.ts";
import { type PolicyName, policies } from "../../scheduler/policy.ts";
import { Scheduler, type Task } from "../../scheduler/scheduler.ts";
import type { RecordedBuffers, RecordedType } from "../core/recording.ts";
import { cellType } from "./cell-type.ts";
import type { RecordedTimes } from "./recorded-times.ts";
import type { VirtualRequest, VirtualRun } from "./virtual-request.ts";
import type { Change, WholeRequest, WorkBatch } from "./workload.ts";

export interface VirtualEngineSettings {
  readonly policy: PolicyName;
  /** By cell. */
  readonly types: ReadonlyMap<string, RecordedType>;
  readonly times: RecordedTimes;
  readonly ran: (batch: Pick<WorkBatch, "rows" | "beginUs" | "endUs">) => void;
}

/** Work under way, until `endUs`. */
export interface Running {
  readonly endUs: number;
  /** Lets go what has ended; answers when the next may begin. */
  complete(): number;
}

/** A request for a whole graph on its way through an engine. */
export interface VirtualWhole {
  readonly id: number;
  readonly work: WholeRequest;
  readonly arrivalUs: number;
  endUs: number;
  wasRemoved: boolean;
}

/** One engine in virtual time: the scheduler and the buffers of a real one, in the order in which that asks them. */
export class VirtualEngine {
  /** Requests that have not ended. */
  active = 0;
  readonly #settings: VirtualEngineSettings;
  readonly #scheduler: Scheduler;
  readonly #types: readonly RecordedType[];
  readonly #numbers: ReadonlyMap<string, number>;
  /** By number of the scheduler. */
  readonly #runs: VirtualRun[] = [];
  readonly #graphs = new Map<number, { readonly name: string; buffers: BufferSet }>();
  readonly #waiting = new Map<number, VirtualWhole>();
  #firstGraph = 0;
  #isGraphsTurn = false;
  #arrivals = 0;

  constructor(settings: VirtualEngineSettings) {
    this.#settings = settings;
    this.#types = [...settings.types.values()];
    this.#scheduler = new Scheduler({
      policy: policies[settings.policy],
      types: this.#types.map(cellType),
    });
    this.#numbers = new Map([...settings.types.keys()].map((key, i) => [key, i]));
  }

  /** When a batch of whole requests is due, in microseconds; `Infinity` where none waits. */
  get nextDueUs(): number {
    let next = Number.POSITIVE_INFINITY;
    for (const { buffers } of this.#graphs.values()) next = Math.min(next, buffers.nextDue());
    return next;
  }

  setBuffers({ graph, name, buffers, eager, order }: RecordedBuffers): void {
    const next = new BufferSet(bySize(buffers), { order, workConserving: eager });
    const waiting = [...this.#waiting.values()].filter(({ work }) => work.graph === graph);
    for (const whole of waiting) next.add(waitingOf(whole), whole.arrivalUs);
    this.#graphs.set(graph, { name, buffers: next });
  }

  wait(whole: VirtualWhole): void {
    this.active++;
    this.#waiting.set(whole.id, whole);
    this.#graphs.get(whole.work.graph)!.buffers.add(waitingOf(whole), whole.arrivalUs);
  }

  /** Takes out a whole request that is in no batch yet. */
  leave(whole: VirtualWhole): void {
    if (!this.#graphs.get(whole.work.graph)!.buffers.remove(whole.id)) return;
    whole.wasRemoved = true;
    this.#waiting.delete(whole.id);
    this.active--;
  }

  /** Lets changes happen to a request, unless it has ended. */
  change(request: VirtualRequest, changes: readonly Change[]): void {
    if (request.arrival < 0) {
      request.arrival = this.#arrivals++;
      this.active++;
    }
    for (const change of changes) this.#change(request, change);
  }

  /** Takes a request out that is too late. */
  expire(request: VirtualRequest): void {
    if (request.isEnded) return;
    request.wasRemoved = true;
    for (const run of request.runs) if (run.id >= 0) this.#remove(run);
  }

  /** Begins what is to run now, if there is anything. */
  begin(nowUs: number): Running | undefined {
    this.#isGraphsTurn = !this.#isGraphsTurn && this.#graphs.size > 0;
    if (this.#isGraphsTurn) {
      const batch = this.#beginBatch(nowUs, false);
      if (batch) return batch;
    }
    const task = this.#scheduler.next(0);
    if (task) return this.#beginTask(task, nowUs);
    return this.#graphs.size > 0 ? this.#beginBatch(nowUs, true) : undefined;
  }

  #beginTask(task: Task, beginUs: number): Running {
    const { type, rows, steps, subgraphs } = task;
    const { times, ran } = this.#settings;
    const recorded = this.#types[type]!;
    const endUs = beginUs + times.cellUs(recorded, rows, steps);
    ran({ rows, beginUs, endUs });
    const complete = () => {
      for (let row = 0; row < rows; row++) this.#runs[subgraphs[row]!]!.request.cells += steps;
      for (let row = 0; row < rows; row++) {
        const { request } = this.#runs[subgraphs[row]!]!;
        for (const change of request.reached()) this.#change(request, change);
      }
      this.#scheduler.complete(task, (run) => this.#gone(this.#runs[run]!, endUs));
      return this.#scheduler.ready > 0 ? endUs + times.untilNextUs(rows) : endUs;
    };
    return { endUs, complete };
  }

  #beginBatch(beginUs: number, isIdle: boolean): Running | undefined {
    const graphs = [...this.#graphs.values()];
    for (let i = 0; i < graphs.length; i++) {
      const { name, buffers } = graphs[(this.#firstGraph + i) % graphs.length]!;
      const batch = buffers.due(beginUs, isIdle);
      if (!batch) continue;
      this.#firstGraph += i + 1;
      const requests = batch.ids.map((id) => this.#waiting.get(id)!);
      const size = requests.reduce((most, { work }) => Math.max(most, work.size), 0);
      const endUs = beginUs + this.#settings.times.graphUs(name, requests.length, size);
      for (const { id } of requests) this.#waiting.delete(id);
      this.#settings.ran({ rows: requests.length, beginUs, endUs });
      const complete = () => {
        for (const request of requests) {
          request.endUs = endUs;
          this.active--;
        }
        return endUs;
      };
      return { endUs, complete };
    }
    return undefined;
  }

  #change(request: VirtualRequest, { kind, run: work, steps }: Change): void {
    if (kind === "add") {
      if (!request.wasRemoved) this.#add(request.run(work));
      return;
    }
    const run = request.run(work);
    const { id } = run;
    if (id < 0) return;
    if (kind === "extend") this.#scheduler.extend(id, steps);
    else if (kind === "pause") this.#scheduler.pause(id);
    else if (kind === "resume") this.#scheduler.resume(id);
    else if (kind === "remove") {
      request.wasRemoved = true;
      this.#remove(run);
    } else if (this.#scheduler[kind](id)) {
      this.#scheduler.settle(id);
      this.#gone(run, request.lastUs);
    }
  }

  #add(run: VirtualRun): void {
    const { request, work } = run;
    const before = work.after.map((one) => request.run(one).id).filter((id) => id >= 0);
    run.id = this.#scheduler.add({
      type: this.#numbers.get(work.cell)!,
      steps: work.steps,
      open: work.isOpen,
      stepsAhead: work.stepsAhead,
      priority: request.work.priority,
      deadlineMs: request.arrivalUs + request.work.timeoutUs,
      arrival: request.arrival,
      after: before,
    });
    request.open++;
    this.#runs[run.id] = run;
  }

  #remove(run: VirtualRun): void {
    if (this.#scheduler.remove(run.id)) this.#gone(run, run.request.lastUs);
  }

  #gone(run: VirtualRun, nowUs: number): void {
    const { request } = run;
    run.id = GONE;
    request.open--;
    request.lastUs = nowUs;
    if (request.open === 0) this.active--;
  }
}

const GONE = -1;

function waitingOf({ id, work, arrivalUs }: VirtualWhole) {
  return { id, size: work.size, priority: work.priority, deadlineMs: arrivalUs + work.timeoutUs };
}
