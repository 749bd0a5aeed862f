import { type CellType, Scheduler, type SchedulerOptions, type Task } from "../../scheduler/scheduler.ts";
import type { SubgraphOptions } from "../../scheduler/subgraphs.ts";
import type { DecisionLog } from "./decision-log.ts";

/** A scheduler of one worker that writes down every call that changes it, so that the same calls can be made again. */
export class RecordedScheduler extends Scheduler {
  readonly #log: DecisionLog;

  constructor({ policy }: Pick<SchedulerOptions, "policy">, log: DecisionLog) {
    super({ types: [], policy });
    this.#log = log;
  }

  override addTypes(types: readonly CellType[]): number {
    const first = super.addTypes(types);
    // The constructor of the class adds none, and there is no log yet.
    if (types.length > 0) this.#log.addTypes(first, types);
    return first;
  }

  override removeTypes(first: number, count: number): void {
    super.removeTypes(first, count);
    this.#log.removeTypes(first, count);
  }

  override add(options: SubgraphOptions): number {
    this.#log.add(options);
    return super.add(options);
  }

  override addRun(
    type: number,
    steps: number,
    priority: number,
    arrival: number,
    deadlineMs: number,
    after = -1,
    other = -1,
  ): number {
    this.#log.addRun(type, steps, priority, arrival, deadlineMs, after, other);
    return super.addRun(type, steps, priority, arrival, deadlineMs, after, other);
  }

  override extend(id: number, steps: number): void {
    this.#log.extend(id, steps);
    super.extend(id, steps);
  }

  override finish(id: number): boolean {
    this.#log.change("finish", id);
    return super.finish(id);
  }

  override seal(id: number): boolean {
    this.#log.change("seal", id);
    return super.seal(id);
  }

  override pause(id: number): void {
    this.#log.change("pause", id);
    super.pause(id);
  }

  override resume(id: number): void {
    this.#log.change("resume", id);
    super.resume(id);
  }

  override remove(id: number): boolean {
    this.#log.change("remove", id);
    return super.remove(id);
  }

  override settle(id: number): void {
    this.#log.change("settle", id);
    super.settle(id);
  }

  override next(worker: number): Task | undefined {
    const task = super.next(worker);
    if (task) this.#log.began(task);
    else this.#log.idle();
    return task;
  }

  /** `done` makes no other call that changes anything: it would stand behind the task's end. */
  override complete(task: Task, done: (subgraph: number) => void): void {
    this.#log.completed();
    super.complete(task, done);
  }
}
