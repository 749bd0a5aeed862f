import type { CellType, Task } from "../../scheduler/scheduler.ts";
import type { SubgraphOptions } from "../../scheduler/subgraphs.ts";
import type { Clock } from "../core/clock.ts";
import { letterOf, type RecordedBuffers, type RecordedType, type RunChange } from "../core/recording.ts";
import type { RecordingFile } from "./recording-file.ts";

/** Writes what an engine's scheduler and buffers were told and what they decided, as src/core/recording.ts has it. */
export class DecisionLog {
  readonly #file: RecordingFile;
  readonly #clock: Clock;
  readonly #startMs: number;
  /** Of the last `t` line, in microseconds. */
  #time = NONE;
  #arrival = NONE;
  #writtenMs: number;
  #wasIdle = false;
  /** By type: rows of its last task. */
  readonly #rows: Int32Array[] = [];

  /** `epochMs` is the time of day when the clock says 0. */
  constructor(file: RecordingFile, clock: Clock, { policy, epochMs }: { policy: string; epochMs: number }) {
    this.#file = file;
    this.#clock = clock;
    this.#startMs = clock.now();
    this.#writtenMs = this.#startMs;
    const settings = { policy, startMs: this.#startMs, epochMs: epochMs + this.#startMs };
    this.#json(code.life, settings);
    file.flush();
  }

  addTypes(first: number, types: readonly CellType[]): void {
    types.forEach(({ maxBatch }, i) => {
      this.#rows[first + i] = new Int32Array(maxBatch).fill(NONE);
    });
    this.#tellTime();
    this.#json(code.types, { types: types.map(recordedType) });
  }

  removeTypes(first: number, count: number): void {
    this.#line(code.typesGone, first, count);
  }

  add({ type, steps, open, stepsAhead, priority, deadlineMs, arrival, after = [] }: SubgraphOptions): void {
    const kind = (open ? OPEN : 0) + (stepsAhead === false ? NOT_AHEAD : 0);
    this.#beginRun(type, steps, kind, priority, arrival, deadlineMs);
    for (const before of after) this.#file.int(before);
    this.#file.end();
  }

  addRun(
    type: number,
    steps: number,
    priority: number,
    arrival: number,
    deadlineMs: number,
    after: number,
    other: number,
  ): void {
    this.#beginRun(type, steps, 0, priority, arrival, deadlineMs);
    if (after >= 0) this.#file.int(after);
    if (other >= 0) this.#file.int(other);
    this.#file.end();
  }

  extend(run: number, steps: number): void {
    this.#line(code.extend, run, steps);
  }

  change(kind: Exclude<RunChange, "extend">, run: number): void {
    this.#line(code[kind], run);
  }

  /** Nothing was ready. Written once, however often it is asked. */
  idle(): void {
    if (this.#wasIdle) return;
    this.#file.begin(code.idle);
    this.#file.end();
    this.#wasIdle = true;
  }

  began({ type, rows, steps, subgraphs }: Task): void {
    const file = this.#file;
    const before = this.#rows[type]!;
    this.#wasIdle = false;
    file.begin(code.task);
    file.int(this.#now());
    file.int(type);
    file.int(rows);
    file.int(steps);
    for (let row = 0; row < rows; row++) {
      const run = subgraphs[row]!;
      if (before[row] === run) continue;
      before[row] = run;
      file.int(row);
      file.int(run);
    }
    file.end();
  }

  completed(): void {
    this.#at(code.complete);
  }

  setBuffers(buffers: RecordedBuffers): void {
    this.#tellTime();
    this.#json(code.buffers, buffers);
  }

  waits(graph: number, { id, size, priority, deadlineMs }: WaitingRequest, now: number): void {
    const file = this.#file;
    file.begin(code.waits);
    file.int(graph);
    file.int(id);
    file.double(size);
    file.int(priority);
    file.double(deadlineMs);
    file.double(now);
    file.end();
  }

  leaves(graph: number, request: number): void {
    this.#tellTime();
    this.#file.begin(code.leaves);
    this.#file.int(graph);
    this.#file.int(request);
    this.#file.end();
  }

  batch(graph: number, isIdle: boolean, now: number, requests: readonly number[]): void {
    const file = this.#file;
    file.begin(code.batch);
    file.int(graph);
    file.int(isIdle ? 1 : 0);
    file.double(now);
    for (const request of requests) file.int(request);
    file.end();
  }

  batchDone(): void {
    this.#at(code.batchDone);
  }

  /** Writes to the file what has been gathered, if there is much of it or it is a while ago; between two steps. */
  flushIfDue(): void {
    const now = this.#clock.now();
    if (!this.#file.isFull && now - this.#writtenMs < LONGEST_GATHERING_MS) return;
    this.#writtenMs = now;
    this.#file.flush();
  }

  close(): void {
    this.#file.flush();
    this.#file.close();
  }

  #now(): number {
    return Math.round((this.#clock.now() - this.#startMs) * 1000);
  }

  /** Tells it where it is at least so much later than the last that was told. */
  #tellTime(leastUs = 1): void {
    const time = this.#now();
    if (time - this.#time < leastUs) return;
    this.#time = time;
    this.#file.begin(code.time);
    this.#file.int(time);
    this.#file.end();
  }

  #beginRun(
    type: number,
    steps: number,
    kind: number,
    priority: number,
    arrival: number,
    deadlineMs: number,
  ): void {
    const file = this.#file;
    // All runs that a request begins with come at the same time.
    if (arrival !== this.#arrival) this.#tellTime();
    this.#arrival = arrival;
    this.#begin(code.add);
    file.int(type);
    file.int(steps);
    file.int(kind);
    file.int(priority);
    file.int(arrival);
    file.double(deadlineMs);
  }

  #begin(letter: number): void {
    this.#wasIdle = false;
    this.#file.begin(letter);
  }

  #line(letter: number, first: number, second?: number): void {
    this.#tellTime(COARSE_US);
    this.#begin(letter);
    this.#file.int(first);
    if (second !== undefined) this.#file.int(second);
    this.#file.end();
  }

  #at(letter: number): void {
    this.#file.begin(letter);
    this.#file.int(this.#now());
    this.#file.end();
  }

  #json(letter: number, value: unknown): void {
    this.#file.begin(letter);
    this.#file.text(JSON.stringify(value));
    this.#file.end();
  }
}

export interface WaitingRequest {
  readonly id: number;
  readonly size: number;
  readonly priority: number;
  readonly deadlineMs: number;
}

const NONE = -1;
/** What a run is besides its numbers: more steps may follow; only its next step is ever known. */
const OPEN = 1;
const NOT_AHEAD = 2;
/** A search changes many runs in a row, and nobody asks when to the microsecond. */
const COARSE_US = 100;
/** A server that dies loses at most what was decided in this time, or a piece of the file. */
const LONGEST_GATHERING_MS = 500;

const code = Object.fromEntries(
  Object.entries(letterOf).map(([what, letter]) => [what, letter.charCodeAt(0)]),
) as Readonly<Record<keyof typeof letterOf, number>>;

function recordedType({ name, family = 0, cost, maxStepCells, ...type }: CellType): RecordedType {
  const { priority, maxBatch, stepSizes, maxStepRows } = type;
  return {
    name,
    family,
    priority,
    maxBatch,
    ...(stepSizes ? { stepSizes } : {}),
    ...(maxStepRows === undefined ? {} : { maxStepRows }),
    ...(maxStepCells === undefined || maxStepCells === Number.POSITIVE_INFINITY ? {} : { maxStepCells }),
    ...(cost ? { cost: cost.points } : {}),
  };
}
