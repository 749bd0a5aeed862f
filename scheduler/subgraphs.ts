export interface SubgraphOptions {
  readonly type: number;
  /** Cells in a row, each after the one before; for an open subgraph those whose input is known. */
  readonly steps: number;
  /** Whether more cells may be added by `extend` until `finish`. */
  readonly open?: boolean;
  /** Whether several steps may run in one call: all of their input is known. @default true */
  readonly stepsAhead?: boolean;
  /** Class, 1 first. */
  readonly priority: number;
  /** On the caller's clock; `Infinity` for none. Orders rows within a class. */
  readonly deadlineMs: number;
  /** Arrival number of the request. */
  readonly arrival: number;
  /** Subgraphs that must be done before. */
  readonly after?: readonly number[];
}

/** All subgraphs as columns of numbers, so that a million that wait cost some 60 bytes each and a step allocates none. */
export class Subgraphs {
  type = new Uint16Array(INITIAL);
  /** See the states in scheduler.ts. */
  state = new Uint8Array(INITIAL);
  open = new Uint8Array(INITIAL);
  stepsAhead = new Uint8Array(INITIAL);
  dead = new Uint8Array(INITIAL);
  priority = new Uint8Array(INITIAL);
  /** Cells that are known and not submitted. */
  remaining = new Int32Array(INITIAL);
  /** Tasks that are submitted and have not completed. */
  inFlight = new Int32Array(INITIAL);
  /** Subgraphs before this one that are not done. */
  pending = new Int32Array(INITIAL);
  /** Queue entries and lists of dependents that name it; its number is not given to another while there is one. */
  entries = new Int32Array(INITIAL);
  worker = new Int16Array(INITIAL);
  /** Its row among the places of its worker. */
  place = new Int32Array(INITIAL);
  deadline = new Float64Array(INITIAL);
  arrival = new Float64Array(INITIAL);
  /** The one that waits for it, or -1; more of them are in `#others`. */
  dependent = new Int32Array(INITIAL);
  readonly #others = new Map<number, number[]>();
  readonly #free: number[] = [];
  #next = 0;

  add(options: SubgraphOptions): number {
    const { type, steps, priority, arrival, deadlineMs } = options;
    const id = this.addRun(type, steps, priority, arrival, deadlineMs);
    this.open[id] = options.open ? 1 : 0;
    this.stepsAhead[id] = options.stepsAhead === false ? 0 : 1;
    return id;
  }

  /** Adds one whose steps are all known. */
  addRun(type: number, steps: number, priority: number, arrival: number, deadlineMs: number): number {
    const id = this.#free.pop() ?? this.#next++;
    if (id >= this.type.length) this.#grow();
    this.type[id] = type;
    this.state[id] = 0;
    this.open[id] = 0;
    this.stepsAhead[id] = 1;
    this.dead[id] = 0;
    this.priority[id] = priority;
    this.remaining[id] = steps;
    this.inFlight[id] = 0;
    this.pending[id] = 0;
    this.entries[id] = 0;
    this.deadline[id] = deadlineMs;
    this.arrival[id] = arrival;
    this.dependent[id] = -1;
    return id;
  }

  /** `next` waits for `id`. */
  link(id: number, next: number): void {
    if (this.dependent[id] === -1) this.dependent[id] = next;
    else {
      const others = this.#others.get(id);
      if (others) others.push(next);
      else this.#others.set(id, [next]);
    }
    this.pending[next] = this.pending[next]! + 1;
    this.entries[next] = this.entries[next]! + 1;
  }

  /** Calls `tell` with each that waits for `id`. */
  eachDependent(id: number, tell: (next: number) => void): void {
    const first = this.dependent[id]!;
    if (first === -1) return;
    tell(first);
    if (this.#others.size > 0) this.#others.get(id)?.forEach(tell);
  }

  /** Nobody waits for `id` any more. */
  unlink(id: number): void {
    this.dependent[id] = -1;
    if (this.#others.size > 0) this.#others.delete(id);
  }

  /** Whether `a` goes before `b`: by class, then deadline, then arrival. */
  before(a: number, b: number): boolean {
    if (this.priority[a] !== this.priority[b]) return this.priority[a]! < this.priority[b]!;
    if (this.deadline[a] !== this.deadline[b]) return this.deadline[a]! < this.deadline[b]!;
    if (this.arrival[a] !== this.arrival[b]) return this.arrival[a]! < this.arrival[b]!;
    return a < b;
  }

  recycle(id: number): void {
    this.unlink(id);
    this.#free.push(id);
  }

  #grow(): void {
    this.type = grown(this.type, new Uint16Array(this.type.length * 2));
    this.state = grown(this.state, new Uint8Array(this.state.length * 2));
    this.open = grown(this.open, new Uint8Array(this.open.length * 2));
    this.stepsAhead = grown(this.stepsAhead, new Uint8Array(this.stepsAhead.length * 2));
    this.dead = grown(this.dead, new Uint8Array(this.dead.length * 2));
    this.priority = grown(this.priority, new Uint8Array(this.priority.length * 2));
    this.remaining = grown(this.remaining, new Int32Array(this.remaining.length * 2));
    this.inFlight = grown(this.inFlight, new Int32Array(this.inFlight.length * 2));
    this.pending = grown(this.pending, new Int32Array(this.pending.length * 2));
    this.entries = grown(this.entries, new Int32Array(this.entries.length * 2));
    this.worker = grown(this.worker, new Int16Array(this.worker.length * 2));
    this.place = grown(this.place, new Int32Array(this.place.length * 2));
    this.deadline = grown(this.deadline, new Float64Array(this.deadline.length * 2));
    this.dependent = grown(this.dependent, new Int32Array(this.dependent.length * 2));
    this.arrival = grown(this.arrival, new Float64Array(this.arrival.length * 2));
  }
}

const INITIAL = 1024;

function grown<T extends { set(values: T): void }>(from: T, to: T): T {
  to.set(from);
  return to;
}
