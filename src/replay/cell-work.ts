import type { Task } from "../../scheduler/scheduler.ts";
import type { RecordedType, RunChange } from "../core/recording.ts";
import { damaged } from "./fields.ts";
import {
  cellKey,
  type LifeWork,
  type Trigger,
  type WorkBatch,
  type WorkRequest,
  type WorkRun,
} from "./workload.ts";

export interface AddedRun {
  readonly type: number;
  readonly steps: number;
  readonly open: boolean;
  readonly stepsAhead: boolean;
  readonly priority: number;
  readonly arrival: number;
  readonly after: readonly number[];
  readonly deadlineUs: number;
}

/**
 * Gathers what came to the cells of one engine while its decisions are made again. What happens to a request whose cells are in the
 * running task follows from them, so it is kept by the cells that had run; all else is kept by its time.
 */
export class CellWork {
  readonly #work: LifeWork;
  readonly #types: RecordedType[] = [];
  /** By number of the scheduler: those that have not ended. */
  readonly #runs = new Map<number, WorkRun>();
  /** By number of arrival: those that have not ended. */
  readonly #requests = new Map<number, WorkRequest>();
  readonly #arrivals = new WeakMap<WorkRequest, number>();
  #batch: WorkBatch | undefined;
  /** Requests with rows in the running task. */
  readonly #inTask = new Set<WorkRequest>();
  /** The last task, where it ended with more that was ready and nothing was done since. */
  #free: WorkBatch | undefined;

  /** Times that it is told count from the start of the life. */
  constructor(work: LifeWork) {
    this.#work = work;
  }

  addTypes(first: number, types: readonly RecordedType[]): void {
    types.forEach((type, i) => {
      this.#types[first + i] = type;
      this.#work.types.set(cellKey(type), type);
    });
  }

  /** Whether a run of these types has not ended. */
  isUsed(first: number, count: number): boolean {
    const keys = new Set(this.#types.slice(first, first + count).map(cellKey));
    return [...this.#runs.values()].some(({ cell }) => keys.has(cell));
  }

  /** The number itself, where a run has it that has not ended. */
  known(run: number): number {
    if (!this.#runs.has(run)) throw damaged(`there is no run ${run}`);
    return run;
  }

  /** What a run is called in sentences: the number of its request, in the order of arrival. */
  nameOf(run: number): string {
    const found = this.#runs.get(run);
    return found ? String(this.#arrivals.get(found.request)) : `of an ended run ${run}`;
  }

  add(id: number, added: AddedRun, us: number): void {
    const { type, steps, open, stepsAhead, after, arrival } = added;
    const request = this.#requests.get(arrival) ?? this.#arrived(added, us);
    const run: WorkRun = {
      request,
      cell: cellKey(this.#types[type]!),
      steps,
      isOpen: open,
      stepsAhead,
      after: after.map((before) => this.#runs.get(before)!),
      done: 0,
    };
    request.open++;
    request.changes.push({ kind: "add", run, when: this.#when(request, us), steps });
    this.#runs.set(id, run);
  }

  change(kind: Exclude<RunChange, "settle">, id: number, steps: number, us: number): void {
    const run = this.#runs.get(id)!;
    const { request } = run;
    const when = this.#when(request, us);
    if (kind === "finish" && !run.isOpen) {
      run.steps = run.done;
      return;
    }
    if (kind === "remove") request.wasRemoved = true;
    // Whether a time limit is met is for those to find out who run the work again.
    if (kind === "remove" && "afterUs" in when && when.afterUs >= request.timeoutUs) return;
    request.changes.push({ kind, run, when, steps });
  }

  /** A run has ended. */
  gone(id: number, us: number): void {
    const { request } = this.#runs.get(id)!;
    this.#runs.delete(id);
    request.open--;
    if (request.open > 0) return;
    request.endUs = this.#work.startUs + us;
    this.#requests.delete(this.#arrivals.get(request)!);
  }

  began({ type, rows, steps, subgraphs }: Task, us: number): void {
    const { startUs, batches } = this.#work;
    const beginUs = startUs + us;
    if (this.#free) this.#free.untilNextUs = beginUs - this.#free.endUs;
    this.#free = undefined;
    for (let row = 0; row < rows; row++) {
      const run = this.#runs.get(subgraphs[row]!)!;
      run.done += steps;
      run.request.cells += steps;
      this.#inTask.add(run.request);
    }
    this.#batch = {
      name: this.#types[type]!.name,
      rows,
      steps,
      size: 0,
      beginUs,
      endUs: NEVER,
      untilNextUs: NEVER,
    };
    batches.push(this.#batch);
  }

  ended(us: number): void {
    this.#batch!.endUs = this.#work.startUs + us;
  }

  /** The task has let its runs go, and so many cells could run now. */
  free(ready: number): void {
    this.#inTask.clear();
    this.#free = ready > 0 ? this.#batch : undefined;
  }

  /** What the engine does next is not the next task. */
  pause(): void {
    this.#free = undefined;
  }

  #arrived({ arrival, priority, deadlineUs, open, stepsAhead }: AddedRun, us: number): WorkRequest {
    const request: WorkRequest = {
      kind: "cells",
      arrivalUs: this.#work.startUs + us,
      priority,
      timeoutUs: deadlineUs - us,
      changes: [],
      cells: 0,
      open: 0,
      endUs: NEVER,
      wasRemoved: false,
      // To a run of a search, too, steps are added, but never more than the next.
      isSession: open && stepsAhead,
    };
    this.#requests.set(arrival, request);
    this.#arrivals.set(request, arrival);
    this.#work.requests.push(request);
    return request;
  }

  #when(request: WorkRequest, us: number): Trigger {
    return this.#inTask.has(request)
      ? { cells: request.cells }
      : { afterUs: this.#work.startUs + us - request.arrivalUs };
  }
}

const NEVER = -1;
