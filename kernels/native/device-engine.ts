import type { CellSpec } from "../../src/core/cell.ts";
import { Fault } from "../../src/core/faults.ts";
import { stateLayout } from "../kernel.ts";
import { allRunNatively, nativeCell } from "./cells.ts";
import { CommandWriter, ring } from "./commands.ts";
import { type DeviceChoice, deviceSpec, type EngineHandle, type Native, nativeFor } from "./load.ts";

export interface DeviceEngineOptions extends DeviceChoice {
  /** Requests that are there at a time, running or waiting; 1 or more. */
  readonly slots: number;
  /** Rows of each cell that run at a time; 1 or more. */
  readonly rows: number;
  /** States of the trees that run at a time: most leaves of all of them. @default 0 */
  readonly treeSlots?: number;
  /** Most tokens that a request generates. @default 0 */
  readonly tokens?: number;
}

/** Hears of a request's end. `begin` and `end` are steps of the engine; `begin` is -1 where no row of it ran. */
export type Ended = (slot: number, reason: number, tokens: number, begin: number, end: number) => void;

/**
 * An engine on a device: it is given commands and numbers of steps, and runs them by itself. Which request joins when a row is
 * free, and when one has ended, is decided there; nothing is done here per step or per row. In each step every row of every cell
 * takes one step, and requests join in the order of their commands. What a request gives is the same bits whatever runs beside
 * it and however steps are submitted, but where `library` multiplies.
 */
export class DeviceEngine {
  /** Commands of the next submission. */
  readonly commands = new CommandWriter();
  /** By slot `[h, c, logits]` of its request's last step: `width` values. */
  readonly outputs: Float32Array;
  readonly width: number;
  /** By slot: `mostTokens` values, as many as its entry says. */
  readonly tokens: Int32Array;
  readonly mostTokens: number;
  readonly #native: Native;
  readonly #handle: EngineHandle;
  readonly #ring: Int32Array;
  readonly #mask: number;
  readonly #free: Int32Array;
  #freeCount: number;
  #read = 0;
  #submitted = 0;
  readonly #waiting: (() => void)[] = [];
  #isClosed = false;

  /** Throws MODEL_NOT_READY where the device or the addon is not there, INVALID_REQUEST for cells that the addon does not compute. */
  static open(cells: readonly CellSpec[], options: DeviceEngineOptions): DeviceEngine {
    if (!allRunNatively(cells)) {
      const names = cells.map(({ name }) => `'${name}'`).join(", ");
      throw new Fault("INVALID_REQUEST", `cells ${names} do not all run natively with states of one size`);
    }
    return new DeviceEngine(nativeFor(options), cells, options);
  }

  private constructor(native: Native, cells: readonly CellSpec[], options: DeviceEngineOptions) {
    const { slots, rows, treeSlots = 0, tokens = 0 } = options;
    const hidden = stateLayout(cells)[0]!.size;
    const converted = cells.map(nativeCell);
    const entries = 2 ** Math.ceil(Math.log2(slots));
    this.#native = native;
    const opened = native.openEngine(
      {
        ...{ ...deviceSpec(options), hidden, slots, rows, treeSlots, tokens, entries },
        maxBatch: rows * STEPS_OF_CALL,
        cells: converted,
      },
      () => this.#woken(),
    );
    this.#handle = opened.handle;
    this.#ring = new Int32Array(opened.ring);
    this.#mask = entries - 1;
    this.outputs = new Float32Array(opened.outputs);
    this.width = 2 * hidden + Math.max(...converted.map(({ classes }) => classes));
    this.tokens = new Int32Array(opened.tokens);
    this.mostTokens = tokens;
    this.#free = Int32Array.from({ length: slots }, (_, i) => slots - 1 - i);
    this.#freeCount = slots;
  }

  /** A slot for a request to be admitted; undefined where all are taken. */
  take(): number | undefined {
    return this.#freeCount > 0 ? this.#free[--this.#freeCount] : undefined;
  }

  /** Gives a slot back whose entry was read; its outputs last until it is taken again. */
  release(slot: number): void {
    this.#free[this.#freeCount++] = slot;
  }

  /**
   * Hands `commands` over, and lets the device take this many steps after them; 0 or more. Returns at once, also while earlier
   * ones run. `ended` is called once the steps are done, or the device has failed. Throws INTERNAL where it had failed before,
   * and for commands of which the device can make nothing; those are forgotten.
   */
  submit(steps: number, ended?: () => void): void {
    this.#check();
    const { words, length } = this.commands;
    this.commands.clear();
    try {
      this.#native.submitEngine(this.#handle, words, length, steps, ended !== undefined);
    } catch (cause) {
      throw new Fault("INTERNAL", (cause as Error).message, { cause });
    }
    this.#submitted++;
    if (!ended) return;
    if (this.#waiting.push(ended) === 1) this.#native.holdEngine(this.#handle, true);
  }

  /** Submissions that are not done. */
  get inFlight(): number {
    return (this.#submitted - Atomics.load(this.#ring, ring.submissions)) | 0;
  }

  /** Counts up and wraps at 32 bits, as all of `ring` in `commands.ts`. */
  counter(word: "steps" | "rows" | "calls" | "waiting"): number {
    return Atomics.load(this.#ring, ring[word]);
  }

  /** Reads what has ended since it was last called, in order, and answers how many there were. Throws INTERNAL where the device has failed. */
  poll(ended: Ended): number {
    const last = Atomics.load(this.#ring, ring.entries);
    const count = (last - this.#read) | 0;
    for (; this.#read !== last; this.#read = (this.#read + 1) | 0) {
      const at = ring.header + (this.#read & this.#mask) * ring.words;
      const words = this.#ring;
      ended(words[at]!, words[at + 1]!, words[at + 2]!, words[at + 3]!, words[at + 4]!);
    }
    if (count === 0) this.#check();
    return count;
  }

  /** Resolves when all that was submitted is done. Rejects where the device fails. */
  async drain(): Promise<void> {
    await new Promise<void>((resolve) => this.submit(0, resolve));
    this.#check();
  }

  /** Waits for the step that runs and gives the device's memory back; nothing may be called afterwards but this. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#native.closeEngine(this.#handle);
    for (const ended of this.#waiting.splice(0)) ended();
  }

  #woken(): void {
    if (this.#isClosed) return;
    const hasFailed = Atomics.load(this.#ring, ring.failed) === 1;
    const ended = this.#waiting.splice(0, hasFailed ? this.#waiting.length : 1);
    if (this.#waiting.length === 0) this.#native.holdEngine(this.#handle, false);
    for (const one of ended) one();
  }

  #check(): void {
    if (this.#isClosed) throw new Fault("INTERNAL", "the device engine was closed");
    if (Atomics.load(this.#ring, ring.failed) === 0) return;
    throw new Fault("INTERNAL", `the device failed: ${this.#native.engineFailure(this.#handle)}`);
  }
}

/** Most steps of one call of a cell with all its rows. */
const STEPS_OF_CALL = 8;
