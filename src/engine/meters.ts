import type { PacketReader, PacketWriter } from "./packet.ts";

/** What one engine has counted of one cell, or of one model that is a whole graph. */
export interface CellMeters {
  readonly model: string;
  readonly cell: string;
  /** Tasks by their rows: `buckets[i]` had more than `2 ** (i - 1)` and at most `2 ** i`. */
  readonly buckets: readonly number[];
  readonly tasks: number;
  readonly rows: number;
  /** Milliseconds from a task's hand-over to the kernel until its outputs were taken. */
  readonly busyMs: number;
  /** Runs that hold a row place, and runs that wait for one. */
  readonly running: number;
  readonly waiting: number;
}

/** What one engine has counted since it was started. */
export interface EngineMeters {
  readonly cells: readonly CellMeters[];
  /** Slots that hold the state of a request, or of a token that was known at load; by model. */
  readonly slots: readonly { readonly model: string; readonly used: number }[];
  /** Decisions of the scheduler that gave a task, and the milliseconds that all of them took. */
  readonly decisions: number;
  readonly scheduleMs: number;
  /** Requests and sessions that do not run because their reader is slow. */
  readonly paused: number;
}

/** Tasks of one cell: counted at every task, so it is arithmetic on numbers in place. */
export class TaskMeter {
  readonly buckets = new Float64Array(MOST_BUCKETS);
  tasks = 0;
  rows = 0;
  busyMs = 0;

  add(rows: number, ms: number): void {
    const bucket = Math.min(MOST_BUCKETS - 1, 32 - Math.clz32(rows - 1));
    this.buckets[bucket] = this.buckets[bucket]! + 1;
    this.tasks++;
    this.rows += rows;
    this.busyMs += ms;
  }
}

/** Adds up what was counted of several versions of a model: numbers, and numbers of lists place by place. */
export function sumBy<Counted extends object>(
  all: readonly Counted[],
  key: (one: Counted) => string,
): readonly Counted[] {
  const sums = new Map<string, Counted>();
  for (const one of all) {
    const sum = sums.get(key(one));
    sums.set(key(one), sum ? added(sum, one) : one);
  }
  return [...sums.values()];
}

function added<Counted extends object>(a: Counted, b: Counted): Counted {
  const entries = Object.entries(a).map(([name, value]) => {
    const other = b[name as keyof Counted];
    if (typeof value === "number") return [name, value + (other as number)];
    if (Array.isArray(value)) return [name, value.map((one, i) => one + (other as readonly number[])[i]!)];
    return [name, value];
  });
  return Object.fromEntries(entries) as Counted;
}

/** Up to 2^16 rows, more than a task may have. */
const MOST_BUCKETS = 17;

/** Writes meters for `readMeters`. */
export function writeMeters(to: PacketWriter, meters: EngineMeters): void {
  const { cells, slots, decisions, scheduleMs, paused } = meters;
  to.int(cells.length);
  for (const { model, cell, buckets, tasks, rows, busyMs, running, waiting } of cells) {
    to.text(model);
    to.text(cell);
    for (const count of buckets) to.double(count);
    for (const value of [tasks, rows, busyMs, running, waiting]) to.double(value);
  }
  to.int(slots.length);
  for (const { model, used } of slots) {
    to.text(model);
    to.double(used);
  }
  for (const value of [decisions, scheduleMs, paused]) to.double(value);
}

/** The inverse of `writeMeters`. */
export function readMeters(from: PacketReader): EngineMeters {
  const cells = Array.from({ length: from.int() }, () => ({
    model: from.text(),
    cell: from.text(),
    buckets: Array.from({ length: MOST_BUCKETS }, () => from.double()),
    tasks: from.double(),
    rows: from.double(),
    busyMs: from.double(),
    running: from.double(),
    waiting: from.double(),
  }));
  const slots = Array.from({ length: from.int() }, () => ({ model: from.text(), used: from.double() }));
  return { cells, slots, decisions: from.double(), scheduleMs: from.double(), paused: from.double() };
}
