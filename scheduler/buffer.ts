import { Heap } from "./heap.ts";

/** When a buffer's requests become a batch. */
export interface BufferSettings {
  /** Requests of one batch; 1 or more. */
  readonly maxBatch: number;
  /** Milliseconds from a request's arrival until it goes, in a full batch or not; 0 or more. */
  readonly timeoutMs: number;
  /** Sizes it takes: from the first number up to, but without, the second. */
  readonly sizes: readonly [from: number, to: number];
}

/** Buffers that each take the sizes above those of the one before, up to their own bound; the last may have none. */
export function bySize(
  buffers: readonly { readonly upTo?: number; readonly maxBatch: number; readonly timeoutMs: number }[],
): BufferSettings[] {
  return buffers.map(({ upTo, maxBatch, timeoutMs }, i) => ({
    maxBatch,
    timeoutMs,
    sizes: [i === 0 ? 0 : buffers[i - 1]!.upTo! + 1, upTo === undefined ? Infinity : upTo + 1],
  }));
}

export interface BufferSetOptions {
  /**
   * Which of several due buffers goes first: the one with most requests (most throughput, but under overload a rare size may
   * wait for long), the one whose first request came earliest, or each in turn. @default "oldest"
   */
  readonly order?: "fullest" | "oldest" | "round-robin";
  /** Whether an idle engine takes a batch that is neither full nor late. @default false */
  readonly workConserving?: boolean;
}

/** One request on its way into a batch. */
export interface Waiting {
  /** Unique among those that wait. */
  readonly id: number;
  /** In the unit of `BufferSettings.sizes`. */
  readonly size: number;
  /** A lower number goes first. @default 5 */
  readonly priority?: number;
  /** On the clock; of equal priority the earlier goes first. @default Infinity */
  readonly deadlineMs?: number;
}

export interface Batch {
  readonly buffer: number;
  readonly ids: readonly number[];
}

/**
 * Requests that wait for others of their size, as in BATCH (one buffer) and MBS (several). Knows no time but what it is told;
 * all times are milliseconds on one clock.
 */
export class BufferSet {
  readonly #buffers: readonly Buffer[];
  readonly #order: NonNullable<BufferSetOptions["order"]>;
  readonly #workConserving: boolean;
  readonly #waiting = new Map<number, Entry>();
  #arrivals = 0;
  #turn = 0;

  /** Throws a RangeError that names the setting that is out of bounds. */
  constructor(buffers: readonly BufferSettings[], options: BufferSetOptions = {}) {
    if (buffers.length === 0) throw new RangeError("there are no buffers");
    this.#buffers = buffers.map((settings, i) => new Buffer(settings, i));
    this.#order = options.order ?? "oldest";
    this.#workConserving = options.workConserving ?? false;
  }

  /** Requests that wait. */
  get count(): number {
    return this.#waiting.size;
  }

  /** Requests that wait in one buffer. */
  countOf(buffer: number): number {
    return this.#buffers[buffer]!.count;
  }

  /** The first buffer that takes a size, or -1. */
  bufferOf(size: number): number {
    return this.#buffers.findIndex(({ settings: { sizes } }) => size >= sizes[0] && size < sizes[1]);
  }

  /**
   * Lets a request wait, in the buffer for its size where none is named. Throws a RangeError where no buffer takes it or its
   * id waits already.
   */
  add(request: Waiting, now: number, buffer = this.bufferOf(request.size)): void {
    const { id, size, priority = 5, deadlineMs = Number.POSITIVE_INFINITY } = request;
    const into = this.#buffers[buffer];
    if (!into) throw new RangeError(`no buffer takes size ${size}`);
    if (this.#waiting.has(id)) throw new RangeError(`request ${id} waits already`);
    const entry: Entry = {
      id,
      buffer,
      priority,
      deadlineMs,
      arrival: this.#arrivals++,
      since: now,
      isGone: false,
    };
    this.#waiting.set(id, entry);
    into.add(entry);
  }

  /** Takes a request out; answers whether it was there. */
  remove(id: number): boolean {
    const entry = this.#waiting.get(id);
    if (!entry) return false;
    this.#waiting.delete(id);
    this.#buffers[entry.buffer]!.remove(entry);
    return true;
  }

  /** Takes the batch that is to run now: full, late, or (if work-conserving) any where the engine is idle. */
  due(now: number, isIdle: boolean): Batch | undefined {
    const any = isIdle && this.#workConserving;
    let first: Buffer | undefined;
    for (let i = 0; i < this.#buffers.length; i++) {
      const buffer = this.#buffers[(this.#turn + i) % this.#buffers.length]!;
      if (buffer.count === 0 || !(any || buffer.dueMs <= now)) continue;
      if (!first || this.#isBefore(buffer, first)) first = buffer;
    }
    if (!first) return undefined;
    if (this.#order === "round-robin") this.#turn = (first.index + 1) % this.#buffers.length;
    const ids = first.take();
    for (const id of ids) this.#waiting.delete(id);
    return { buffer: first.index, ids };
  }

  /** When the next batch is due whether or not the engine is idle; `Infinity` where nothing waits. */
  nextDue(): number {
    return this.#buffers.reduce((least, { dueMs }) => Math.min(least, dueMs), Number.POSITIVE_INFINITY);
  }

  #isBefore(a: Buffer, b: Buffer): boolean {
    if (this.#order === "fullest") return a.count > b.count;
    return this.#order === "oldest" && a.oldestMs < b.oldestMs;
  }
}

interface Entry {
  readonly id: number;
  readonly buffer: number;
  readonly priority: number;
  readonly deadlineMs: number;
  readonly arrival: number;
  readonly since: number;
  isGone: boolean;
}

/** One buffer: its requests by urgency and by arrival. Those that are gone leave the two orders when they come to the front. */
class Buffer {
  readonly settings: BufferSettings;
  readonly index: number;
  count = 0;
  readonly #byUrgency = new Heap<Entry>(isMoreUrgent);
  readonly #byArrival = new Heap<Entry>((a, b) => a.arrival < b.arrival);

  constructor(settings: BufferSettings, index: number) {
    const { maxBatch, timeoutMs, sizes } = settings;
    if (!Number.isInteger(maxBatch) || maxBatch < 1)
      throw new RangeError(`buffer ${index} has maxBatch ${maxBatch}, it must be an integer of 1 or more`);
    if (!(timeoutMs >= 0))
      throw new RangeError(`buffer ${index} has timeoutMs ${timeoutMs}, it must be 0 or more`);
    if (!(sizes[0] < sizes[1]))
      throw new RangeError(`buffer ${index} takes no size: from ${sizes[0]} to ${sizes[1]}`);
    this.settings = settings;
    this.index = index;
  }

  /** When its first request came, on the clock; `Infinity` where it is empty. */
  get oldestMs(): number {
    for (;;) {
      const entry = this.#byArrival.peek();
      if (!entry) return Number.POSITIVE_INFINITY;
      if (!entry.isGone) return entry.since;
      this.#byArrival.pop();
    }
  }

  get dueMs(): number {
    return this.count >= this.settings.maxBatch
      ? Number.NEGATIVE_INFINITY
      : this.oldestMs + this.settings.timeoutMs;
  }

  add(entry: Entry): void {
    this.#byUrgency.push(entry);
    this.#byArrival.push(entry);
    this.count++;
  }

  remove(entry: Entry): void {
    entry.isGone = true;
    this.count--;
    for (const order of [this.#byUrgency, this.#byArrival])
      if (order.size > 2 * this.count + MOST_GONE) order.filter(({ isGone }) => !isGone);
  }

  take(): number[] {
    const ids: number[] = [];
    while (ids.length < this.settings.maxBatch && this.count > 0) {
      const entry = this.#byUrgency.pop()!;
      if (entry.isGone) continue;
      this.remove(entry);
      ids.push(entry.id);
    }
    return ids;
  }
}

/** Entries that are gone may stand in an order up to this many, besides as many as there are others. */
const MOST_GONE = 1024;

function isMoreUrgent(a: Entry, b: Entry): boolean {
  if (a.priority !== b.priority) return a.priority < b.priority;
  if (a.deadlineMs !== b.deadlineMs) return a.deadlineMs < b.deadlineMs;
  return a.arrival < b.arrival;
}
