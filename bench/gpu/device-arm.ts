import { reason } from "../../kernels/native/commands.ts";
import { DeviceEngine } from "../../kernels/native/device-engine.ts";
import type { Measured, Setting } from "./setting.ts";

/** A device engine that never runs out of requests: each that ends makes room for the next. */
export class DeviceArm {
  readonly #engine: DeviceEngine;
  readonly #setting: Setting;
  #next = 0;
  #joins = 0;
  #jsMs = 0;
  #checksum = 0;
  #isOver = false;
  #turns: Promise<void>[] = [];

  constructor(setting: Setting) {
    const { choice, cell, rows } = setting;
    // Twice the rows wait, more than can end in the submissions that are in flight.
    this.#engine = DeviceEngine.open([cell], { ...choice, rows, slots: 3 * rows });
    this.#setting = setting;
  }

  /** Runs for at least these milliseconds, the first third of them uncounted. */
  async measure(ms: number): Promise<Measured> {
    const engine = this.#engine;
    this.#isOver = false;
    this.#admit();
    this.#turns = Array.from({ length: this.#setting.depth }, () => this.#loop());
    await sleep(ms / 3);
    const read = () => ({
      steps: engine.counter("steps"),
      rows: engine.counter("rows"),
      calls: engine.counter("calls"),
      joins: this.#joins,
      jsMs: this.#jsMs,
      at: performance.now(),
      cpu: process.cpuUsage(),
    });
    const before = read();
    await sleep((ms * 2) / 3);
    const after = read();
    this.#isOver = true;
    await Promise.all(this.#turns);
    const seconds = (after.at - before.at) / 1000;
    const cells = (after.rows - before.rows) | 0;
    const steps = (after.steps - before.steps) | 0;
    const { user, system } = process.cpuUsage(before.cpu);
    return {
      cellsPerSecond: cells / seconds,
      stepUs: (seconds * 1e6) / steps,
      occupancy: cells / steps / this.#setting.rows,
      cpuNsPerCell: ((user + system) * 1000) / cells,
      jsShare: (after.jsMs - before.jsMs) / 1000 / seconds,
      nsPerJoin: ((after.jsMs - before.jsMs) * 1e6) / (after.joins - before.joins),
      checksum: this.#checksum,
    };
  }

  close(): void {
    this.#engine.close();
  }

  /** One of the submissions in flight, again and again. */
  #loop(): Promise<void> {
    return new Promise((resolve) => {
      const turn = () => {
        if (this.#isOver) return resolve();
        const start = performance.now();
        this.#engine.poll(this.#ended);
        this.#admit();
        this.#engine.submit(this.#setting.k, turn);
        this.#jsMs += performance.now() - start;
      };
      this.#engine.submit(this.#setting.k, turn);
    });
  }

  readonly #ended = (slot: number, why: number) => {
    if (why !== reason.complete) throw new Error(`a request ended for reason ${why}`);
    this.#checksum += this.#engine.outputs[slot * this.#engine.width]!;
    this.#engine.release(slot);
  };

  #admit(): void {
    const { requests } = this.#setting;
    for (let slot = this.#engine.take(); slot !== undefined; slot = this.#engine.take()) {
      const inputs = requests[this.#next++ % requests.length]!;
      this.#engine.commands.admit(slot, { cell: 0, steps: inputs.length, inputs });
      this.#joins++;
    }
  }
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
