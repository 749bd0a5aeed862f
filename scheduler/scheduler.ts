import type { CostCurve } from "./cost-curve.ts";
import type { Policy, ReadyGroup } from "./policy.ts";
import { type SubgraphOptions, Subgraphs } from "./subgraphs.ts";
import { WaitingQueue } from "./waiting-queue.ts";

/** A kind of cell: rows of one type can share a task. */
export interface CellType {
  readonly name: string;
  /** Types of one model have the same number; models take turns. @default 0 */
  readonly family?: number;
  /** Later in a request's graph is higher: a decoder before an encoder. */
  readonly priority: number;
  /** Most rows in one task; 1 or more. */
  readonly maxBatch: number;
  /** Fewest rows of a task that is not the first of a decision. @default 1 */
  readonly minBatch?: number;
  /** Numbers of steps that one call can take, ascending from 1. @default [1] */
  readonly stepSizes?: readonly number[];
  /** Most rows for which more than one step per call pays. @default 0 */
  readonly maxStepRows?: number;
  /** Most rows times steps of one call. @default no limit */
  readonly maxStepCells?: number;
  /** Where it was measured: small tasks are cut at the kernel's row quantum. */
  readonly cost?: CostCurve;
}

export interface SchedulerOptions {
  readonly types: readonly CellType[];
  readonly policy: Policy;
  /** Devices that take tasks; 1 or more. @default 1 */
  readonly workers?: number;
  /** Most tasks that one decision may submit (BatchMaker's MaxTasksToSubmit). @default 1 */
  readonly maxTasksToSubmit?: number;
}

/** One batched cell for one worker. */
export interface Task {
  readonly type: number;
  readonly worker: number;
  readonly rows: number;
  readonly steps: number;
  /**
   * The subgraphs, one per row; the first `rows` entries count, until the task is completed. Rows that stay keep their
   * place from task to task.
   */
  readonly subgraphs: Int32Array;
}

/**
 * Decides which cells run together, now. Pure: no I/O, no timers, no promises.
 *
 * A subgraph is a run of cells of one type, each after the one before. It is released when the subgraphs it depends on
 * are done, waits by class, deadline and arrival for a row place on a worker, and keeps that place until it is done, cut
 * or outranked by a higher class. Gao et al., "Low Latency RNN Inference with Cellular Batching", EuroSys 2018, section 4.
 */
export class Scheduler {
  /** By number; `REMOVED` where there is none any more. */
  readonly #types: CellType[] = [];
  readonly #policy: Policy;
  readonly #maxTasks: number;
  readonly #workers: number;
  readonly #table = new Subgraphs();
  readonly #waiting: WaitingQueue[] = [];
  /** By type: subgraphs that wait; its queue may also hold entries of some that left. */
  readonly #waitingCount: number[] = [];
  #waitingInAll = 0;
  #size = 0;
  /** By type, then by worker: the subgraphs that hold a row place. */
  readonly #places: Places[][] = [];
  readonly #running: number[] = [];
  /** By type: lists of completed tasks, for the next ones. */
  readonly #spare: Int32Array[][] = [];
  /** By type: decisions that passed it over. By family: decisions so far when it was last chosen. */
  readonly #waited: number[] = [];
  readonly #familyChosen = new Map<number, number>();
  #decisions = 0;

  constructor(options: SchedulerOptions) {
    this.#policy = options.policy;
    this.#maxTasks = options.maxTasksToSubmit ?? 1;
    this.#workers = options.workers ?? 1;
    this.addTypes(options.types);
  }

  /** Adds types with numbers that follow each other, those of removed types first; answers the first. */
  addTypes(types: readonly CellType[]): number {
    let first = 0;
    const isFree = (at: number) => at >= this.#types.length || this.#types[at] === REMOVED;
    while (!types.every((_, i) => isFree(first + i))) first++;
    types.forEach((type, i) => {
      const at = first + i;
      this.#types[at] = type;
      this.#waiting[at] = new WaitingQueue((a, b) => this.#table.before(a, b));
      this.#waitingCount[at] = 0;
      this.#running[at] = 0;
      this.#spare[at] = [];
      this.#waited[at] = 0;
      this.#places[at] = Array.from({ length: this.#workers }, () => new Places(type.maxBatch));
    });
    return first;
  }

  /** Forgets `count` types from `first` on, none of which has a subgraph left. */
  removeTypes(first: number, count: number): void {
    for (let type = first; type < first + count; type++) {
      this.#waiting[type]!.filter((id) => {
        this.#dropEntry(id);
        return false;
      });
      this.#familyChosen.delete(this.#types[type]!.family ?? 0);
      this.#types[type] = REMOVED;
      this.#spare[type] = [];
      this.#places[type] = Array.from({ length: this.#workers }, () => NO_PLACES);
    }
  }

  /** Subgraphs that are known and not done. */
  get size(): number {
    return this.#size;
  }

  /** Subgraphs of all types that could run and have no row place. */
  get waiting(): number {
    return this.#waitingInAll;
  }

  /** Adds a subgraph; answers its number, which is free for another once it is done or removed. */
  add(options: SubgraphOptions): number {
    const id = this.#table.add(options);
    this.#size++;
    for (const other of options.after ?? []) this.#table.link(other, id);
    if (this.#table.pending[id] === 0) this.#release(id);
    return id;
  }

  /** `add` for a subgraph of known cells after two others at most (-1 for none), without an object for its options. */
  addRun(
    type: number,
    steps: number,
    priority: number,
    arrival: number,
    deadlineMs: number,
    after = -1,
    other = -1,
  ): number {
    const id = this.#table.addRun(type, steps, priority, arrival, deadlineMs);
    this.#size++;
    if (after >= 0) this.#table.link(after, id);
    if (other >= 0) this.#table.link(other, id);
    if (this.#table.pending[id] === 0) this.#wait(id);
    return id;
  }

  /** More cells for an open subgraph. */
  extend(id: number, steps: number): void {
    const table = this.#table;
    table.remaining[id] = table.remaining[id]! + steps;
    if (table.state[id] === STARVED) this.#wait(id);
  }

  /** No more cells than those submitted; it is done when they are. Answers whether it is done already. */
  finish(id: number): boolean {
    const table = this.#table;
    table.open[id] = 0;
    table.remaining[id] = 0;
    this.#leave(id);
    return table.inFlight[id] === 0;
  }

  /** No `extend` will follow; what is known still runs. Answers whether it is done already. */
  seal(id: number): boolean {
    this.#table.open[id] = 0;
    return this.#table.remaining[id] === 0 && this.#table.inFlight[id] === 0;
  }

  /** Takes a subgraph out of scheduling, or puts it back: it keeps its state and its place in arrival order. */
  pause(id: number): void {
    if (this.#table.state[id] === PAUSED) return;
    this.#leave(id);
    this.#table.state[id] = PAUSED;
  }

  resume(id: number): void {
    if (this.#table.state[id] !== PAUSED) return;
    this.#table.state[id] = HELD;
    if (this.#table.pending[id] === 0) this.#release(id);
  }

  /**
   * Forgets a subgraph whose request ended: none of its cells is submitted again. Answers whether none is in flight, so
   * that its slots are free; else `complete` reports it as done when the last one is. What waits for it never runs and
   * is to be removed too.
   */
  remove(id: number): boolean {
    const table = this.#table;
    table.open[id] = 0;
    table.remaining[id] = 0;
    table.eachDependent(id, (next) => this.#dropEntry(next));
    table.unlink(id);
    this.#leave(id);
    if (table.inFlight[id] !== 0) return false;
    this.#free(id);
    return true;
  }

  /** Forgets a subgraph that `finish` or `seal` found to be done, and releases what waits for it. */
  settle(id: number): void {
    this.#done(id);
  }

  /** Subgraphs of a type that hold a row place, and those that wait for one. */
  countsOf(type: number): { readonly running: number; readonly waiting: number } {
    const running = this.#places[type]!.reduce((sum, { count }) => sum + count, 0);
    return { running, waiting: this.#waitingOf(type) };
  }

  /** Cells that could run now, over all types. */
  get ready(): number {
    let ready = 0;
    this.#types.forEach((_, type) => {
      ready += this.#waitingOf(type);
      for (const places of this.#places[type]!) ready += places.count;
    });
    return ready;
  }

  /** Tasks for a worker that has none left: up to `maxTasksToSubmit`, of one type. Empty when nothing is ready. */
  schedule(worker: number): Task[] {
    const first = this.next(worker);
    if (!first) return [];
    const tasks = [first];
    const minimum = this.#types[first.type]!.minBatch ?? 1;
    while (tasks.length < this.#maxTasks) {
      if (this.#readyFor(first.type, worker) < minimum) break;
      const task = this.#form(first.type, worker);
      if (!task) break;
      tasks.push(task);
    }
    return tasks;
  }

  /** The next task for a worker; undefined when nothing is ready. */
  next(worker: number): Task | undefined {
    let only = -1;
    let kinds = 0;
    for (let type = 0; type < this.#types.length; type++) {
      if (this.#readyFor(type, worker) === 0) {
        this.#waited[type] = 0;
        continue;
      }
      only = type;
      kinds++;
    }
    if (kinds === 0) return undefined;
    const type = kinds === 1 ? only : this.#choose(worker);
    this.#waited[type] = 0;
    this.#familyChosen.set(this.#types[type]!.family ?? 0, ++this.#decisions);
    return this.#form(type, worker);
  }

  /** Asks the policy which of several types that are ready comes next. */
  #choose(worker: number): number {
    const groups: ReadyGroup[] = [];
    this.#types.forEach(({ maxBatch, priority, family = 0 }, type) => {
      const ready = this.#readyFor(type, worker);
      if (ready === 0) return;
      groups.push({
        type,
        ready,
        maxBatch,
        family,
        priority,
        waited: this.#waited[type]!,
        familyWaited: this.#decisions - (this.#familyChosen.get(family) ?? 0),
        running: this.#running[type]!,
        oldest: this.#oldest(type, worker),
      });
      this.#waited[type] = this.#waited[type]! + 1;
    });
    return this.#policy(groups).type;
  }

  /** Says that a task has run; calls `done` for every subgraph that ended with it. */
  complete(task: Task, done: (subgraph: number) => void): void {
    const { inFlight, remaining, open } = this.#table;
    this.#running[task.type] = this.#running[task.type]! - 1;
    for (let row = 0; row < task.rows; row++) {
      const id = task.subgraphs[row]!;
      const left = inFlight[id]! - 1;
      inFlight[id] = left;
      if (left === 0 && remaining[id] === 0 && open[id] === 0) {
        done(id);
        this.#done(id);
      } else if (left === 0 && this.#table.state[id] === PINNED) this.#wait(id);
    }
    this.#spare[task.type]!.push(task.subgraphs);
  }

  #release(id: number): void {
    if (this.#table.state[id] === PAUSED) return;
    if (this.#table.remaining[id]! > 0) this.#wait(id);
    else this.#table.state[id] = STARVED;
  }

  #wait(id: number): void {
    const table = this.#table;
    if (this.#workers > 1 && table.inFlight[id]! > 0) {
      table.state[id] = PINNED;
      return;
    }
    table.state[id] = WAITING;
    table.entries[id] = table.entries[id]! + 1;
    const type = table.type[id]!;
    this.#countWaiting(type, 1);
    this.#waiting[type]!.push(id);
  }

  /** Gives up a row place or a place in the queue. */
  #leave(id: number): void {
    const table = this.#table;
    const type = table.type[id]!;
    const state = table.state[id];
    table.state[id] = HELD;
    if (state === PLACED) this.#places[type]![table.worker[id]!]!.remove(table.place[id]!, table);
    else if (state === WAITING) {
      this.#countWaiting(type, -1);
      this.#sweep(type);
    }
  }

  #done(id: number): void {
    this.#table.eachDependent(id, this.#beforeIsDone);
    this.#leave(id);
    this.#free(id);
  }

  /** One that a subgraph waited for is done. Bound once: this is called for every cell of a tree. */
  readonly #beforeIsDone = (id: number): void => {
    const table = this.#table;
    const pending = table.pending[id]! - 1;
    table.pending[id] = pending;
    // One that was removed meanwhile is dead, and its number free from here on.
    const isDead = table.dead[id] === 1;
    this.#dropEntry(id);
    if (pending === 0 && !isDead) this.#release(id);
  };

  #free(id: number): void {
    this.#size--;
    this.#table.dead[id] = 1;
    if (this.#table.entries[id] === 0) this.#table.recycle(id);
  }

  /** Drops queue entries of subgraphs that wait no more, once they are most of the queue. */
  #sweep(type: number): void {
    const queue = this.#waiting[type]!;
    if (queue.size < 64 || queue.size < 2 * this.#waitingCount[type]!) return;
    queue.filter((id) => {
      if (this.#isCurrent(id)) return true;
      this.#dropEntry(id);
      return false;
    });
  }

  /** Whether a queue entry speaks of a subgraph that waits. */
  #isCurrent(id: number): boolean {
    return this.#table.state[id] === WAITING && this.#table.entries[id] === 1;
  }

  #dropEntry(id: number): void {
    const table = this.#table;
    table.entries[id] = table.entries[id]! - 1;
    if (table.entries[id] === 0 && table.dead[id] === 1) table.recycle(id);
  }

  #countWaiting(type: number, change: number): void {
    this.#waitingCount[type] = this.#waitingCount[type]! + change;
    this.#waitingInAll += change;
  }

  #waitingOf(type: number): number {
    return this.#waitingCount[type]!;
  }

  /** Brings the first subgraph that waits to the top of a type's queue. */
  #peek(type: number): number | undefined {
    const queue = this.#waiting[type]!;
    for (;;) {
      const id = queue.peek();
      if (id === undefined || this.#isCurrent(id)) return id;
      queue.pop();
      this.#dropEntry(id);
    }
  }

  #readyFor(type: number, worker: number): number {
    let ready = this.#waitingOf(type);
    const places = this.#places[type]!;
    ready += places[worker]!.count;
    for (let other = 0; other < places.length; other++) {
      if (other !== worker) ready += this.#idle(places[other]!);
    }
    return ready;
  }

  /** Rows of another worker that are not in flight and may be taken over. */
  #idle(places: Places): number {
    let idle = 0;
    for (let i = 0; i < places.count; i++) if (this.#table.inFlight[places.rows[i]!] === 0) idle++;
    return idle;
  }

  /** The least arrival number among the rows it could run and the first that waits. */
  #oldest(type: number, worker: number): number {
    const { arrival, inFlight } = this.#table;
    const waiting = this.#peek(type);
    let oldest = waiting === undefined ? Number.POSITIVE_INFINITY : arrival[waiting]!;
    this.#places[type]!.forEach((places, owner) => {
      for (let row = 0; row < places.count; row++) {
        const id = places.rows[row]!;
        if (owner === worker || inFlight[id] === 0) oldest = Math.min(oldest, arrival[id]!);
      }
    });
    return oldest;
  }

  /** Fills the row places of a type on a worker, then submits one cell of every row that holds one. */
  #form(type: number, worker: number): Task | undefined {
    const places = this.#places[type]![worker]!;
    if (this.#places[type]!.length > 1) this.#takeOver(type, worker);
    const ready = places.count + this.#waitingOf(type);
    if (ready === 0) return undefined;
    const { maxBatch, cost } = this.#types[type]!;
    const limit = cost ? Math.min(maxBatch, cost.cut(ready)) : maxBatch;
    while (places.count > limit) this.#displace(places, this.#lowest(places));
    while (places.count < limit && this.#place(type, worker, places));
    this.#preempt(type, worker, places);
    if (places.count === 0) return undefined;
    return this.#submit(type, worker, places);
  }

  #place(type: number, worker: number, places: Places): boolean {
    const id = this.#peek(type);
    if (id === undefined) return false;
    this.#waiting[type]!.pop();
    this.#countWaiting(type, -1);
    const table = this.#table;
    table.entries[id] = table.entries[id]! - 1;
    table.state[id] = PLACED;
    table.worker[id] = worker;
    places.add(id, table);
    return true;
  }

  #displace(places: Places, row: number): void {
    const id = places.rows[row]!;
    places.remove(row, this.#table);
    this.#wait(id);
  }

  /** The row that comes last by class, deadline and arrival. */
  #lowest(places: Places): number {
    let lowest = 0;
    for (let row = 1; row < places.count; row++) {
      if (this.#table.before(places.rows[lowest]!, places.rows[row]!)) lowest = row;
    }
    return lowest;
  }

  /** A waiting subgraph of a higher class takes the place of the lowest row, for as long as there is one. */
  #preempt(type: number, worker: number, places: Places): void {
    const { priority } = this.#table;
    for (;;) {
      const id = this.#peek(type);
      if (id === undefined || places.count === 0 || priority[id]! >= places.highestClass) return;
      const lowest = this.#lowest(places);
      places.highestClass = priority[places.rows[lowest]!]!;
      if (priority[id]! >= places.highestClass) return;
      this.#displace(places, lowest);
      this.#place(type, worker, places);
    }
  }

  /** Takes rows over from a worker that holds more than its share and has them not in flight. */
  #takeOver(type: number, worker: number): void {
    const all = this.#places[type]!;
    const mine = all[worker]!;
    for (let other = 0; other < all.length; other++) {
      const theirs = all[other]!;
      if (other === worker || this.#waitingOf(type) > 0) continue;
      for (let row = theirs.count - 1; row >= 0 && mine.count < Math.max(1, theirs.count); row--) {
        const id = theirs.rows[row]!;
        if (this.#table.inFlight[id] !== 0) continue;
        theirs.remove(row, this.#table);
        this.#table.worker[id] = worker;
        mine.add(id, this.#table);
      }
    }
  }

  #submit(type: number, worker: number, places: Places): Task {
    const table = this.#table;
    const rows = places.count;
    const steps = this.#stepsOf(type, places);
    const subgraphs = this.#spare[type]!.pop() ?? new Int32Array(places.rows.length);
    for (let row = 0; row < rows; row++) subgraphs[row] = places.rows[row]!;
    const { remaining, inFlight, open } = table;
    let drained = 0;
    for (let row = 0; row < rows; row++) {
      const id = subgraphs[row]!;
      inFlight[id] = inFlight[id]! + 1;
      const left = remaining[id]! - steps;
      remaining[id] = left;
      if (left === 0) drained++;
    }
    for (let row = rows - 1; drained > 0; row--) {
      const id = subgraphs[row]!;
      if (remaining[id] !== 0) continue;
      places.remove(row, table);
      table.state[id] = open[id] ? STARVED : HELD;
      drained--;
    }
    this.#running[type] = this.#running[type]! + 1;
    return { type, worker, rows, steps, subgraphs };
  }

  /** As many steps as all rows have known input for, where few rows make more than one step per call pay. */
  #stepsOf(type: number, places: Places): number {
    const { stepSizes, maxStepRows = 0, maxStepCells = Number.POSITIVE_INFINITY } = this.#types[type]!;
    if (!stepSizes || places.count > maxStepRows || this.#waitingOf(type) > 0) return 1;
    let known = Math.floor(maxStepCells / Math.max(1, places.count));
    for (let row = 0; row < places.count; row++) {
      const id = places.rows[row]!;
      known = Math.min(known, this.#table.stepsAhead[id] ? this.#table.remaining[id]! : 1);
    }
    let steps = 1;
    for (const size of stepSizes) if (size <= known) steps = size;
    return steps;
  }
}

/** Waits for input or for subgraphs before it, or has submitted its last cell. */
const HELD = 0;
const WAITING = 1;
const PLACED = 2;
/** Open, and all known cells are submitted. */
const STARVED = 3;
const PAUSED = 4;
/** Could wait, but has tasks in flight on one of several workers and may not run on another. */
const PINNED = 5;

/** The subgraphs that hold the row places of one type on one worker; a leaver's place goes to the last. */
class Places {
  readonly rows: Int32Array;
  count = 0;
  /** No row's class is above this number. */
  highestClass = 0;

  constructor(maxBatch: number) {
    this.rows = new Int32Array(maxBatch);
  }

  add(id: number, table: Subgraphs): void {
    table.place[id] = this.count;
    this.highestClass = Math.max(this.highestClass, table.priority[id]!);
    this.rows[this.count++] = id;
  }

  remove(row: number, table: Subgraphs): void {
    const last = this.rows[--this.count]!;
    this.rows[row] = last;
    table.place[last] = row;
  }
}

/** Stands where a type was removed. */
const REMOVED: CellType = { name: "removed", priority: 0, maxBatch: 1 };
const NO_PLACES = new Places(0);
