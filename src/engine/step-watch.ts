import { event } from "./messages.ts";
import type { PacketWriter } from "./packet.ts";

/** One batched cell that has run. */
export interface WatchedTask {
  /** Indices of the model and of its cell. */
  readonly model: number;
  readonly cell: number;
  readonly startedMs: number;
  readonly endedMs: number;
  readonly rows: number;
  readonly steps: number;
  /** The request of a row. */
  readonly requestOf: (row: number) => number;
}

/**
 * Tells the runtime about steps while somebody watches. At most `PER_SECOND` are told on the average, and the rows of
 * the first `MOST_ROWS` of each, so that watching costs a busy engine little; what was left out is counted.
 */
export class StepWatch {
  readonly #outbox: PacketWriter;
  /** What to add to the engine's clock to get the runtime's. */
  readonly #offsetMs: number;
  #allowance = BURST;
  #refilledMs: number;
  #leftOut = { tasks: 0, cells: 0 };

  /** `theirMs` is what the clock of the runtime said when this one said `nowMs`. */
  constructor(outbox: PacketWriter, nowMs: number, theirMs: number) {
    this.#outbox = outbox;
    this.#offsetMs = theirMs - nowMs;
    this.#refilledMs = nowMs;
  }

  tell({ model, cell, startedMs, endedMs, rows, steps, requestOf }: WatchedTask): void {
    const refill = ((endedMs - this.#refilledMs) * PER_SECOND) / 1000;
    this.#allowance = Math.min(BURST, this.#allowance + refill);
    this.#refilledMs = endedMs;
    if (this.#allowance < 1) {
      this.#leftOut.tasks++;
      this.#leftOut.cells += rows * steps;
      return;
    }
    this.#allowance--;
    const outbox = this.#outbox;
    outbox.int(event.STEP);
    outbox.int(NO_REQUEST);
    outbox.int(model);
    outbox.int(cell);
    outbox.double(startedMs + this.#offsetMs);
    outbox.double(endedMs - startedMs);
    outbox.int(rows);
    outbox.int(steps);
    outbox.int(this.#leftOut.tasks);
    outbox.double(this.#leftOut.cells);
    this.#leftOut = { tasks: 0, cells: 0 };
    const told = Math.min(rows, MOST_ROWS);
    outbox.int(told);
    for (let row = 0; row < told; row++) outbox.int(requestOf(row));
  }
}

/** Steps that may be told at once after a quiet time, and per second. */
const BURST = 400;
const PER_SECOND = 400;
/** Rows of one step whose requests are told. */
const MOST_ROWS = 64;
/** Stands where other records have the number of a request. */
const NO_REQUEST = -1;
