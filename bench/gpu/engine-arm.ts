import { createNativeKernel } from "../../kernels/native/kernel.ts";
import { policies } from "../../scheduler/policy.ts";
import { chainOf } from "../../src/bench/synthetic.ts";
import { wallClock } from "../../src/core/clock.ts";
import { Engine } from "../../src/engine/engine.ts";
import { command, writeOptions } from "../../src/engine/messages.ts";
import { loadModel } from "../../src/engine/model.ts";
import { PacketWriter } from "../../src/engine/packet.ts";
import type { Measured, Setting } from "./setting.ts";

/** The engine of `src/engine` on the same device, on this thread, with as many requests waiting. Nobody reads its answers. */
export class EngineArm {
  readonly #engine: Engine;
  readonly #setting: Setting;
  readonly #writer = new PacketWriter();
  #next = 0;

  static async open(setting: Setting): Promise<EngineArm> {
    const { choice, cell, rows } = setting;
    const definition = chainOf("lstm", cell);
    const kernel = await createNativeKernel({ ...choice, maxBatch: rows })(definition.cells);
    const model = await loadModel(definition, kernel, { maxBatch: rows });
    const engine = new Engine({ models: [model], policy: policies.cellular, clock: wallClock });
    return new EngineArm(engine, setting);
  }

  private constructor(engine: Engine, setting: Setting) {
    this.#engine = engine;
    this.#setting = setting;
  }

  /** Runs for these milliseconds, the first third of them uncounted. */
  measure(ms: number): Measured {
    this.#runUntil(performance.now() + ms / 3);
    const { cells, tasks } = this.#engine;
    const [start, cpu] = [performance.now(), process.cpuUsage()];
    this.#runUntil(start + (ms * 2) / 3);
    const seconds = (performance.now() - start) / 1000;
    const { user, system } = process.cpuUsage(cpu);
    const [ran, calls] = [this.#engine.cells - cells, this.#engine.tasks - tasks];
    return {
      cellsPerSecond: ran / seconds,
      stepUs: (seconds * 1e6) / calls,
      occupancy: ran / calls / this.#setting.rows,
      cpuNsPerCell: ((user + system) * 1000) / ran,
      checksum: ran,
    };
  }

  #runUntil(end: number): void {
    const { rows } = this.#setting;
    while (performance.now() < end) {
      if (this.#engine.active < 2 * rows) {
        while (this.#engine.active + this.#written < 3 * rows) this.#submit();
        this.#engine.receive(this.#writer.take());
        this.#written = 0;
      }
      this.#engine.step();
      if (!this.#engine.outbox.isEmpty) this.#engine.outbox.take();
    }
  }

  #written = 0;

  #submit(): void {
    const { requests } = this.#setting;
    const tokens = requests[this.#next % requests.length]!;
    this.#writer.int(command.SUBMIT);
    this.#writer.int(this.#next++);
    this.#writer.int(0);
    writeOptions(this.#writer, OPTIONS);
    this.#writer.int(1);
    this.#writer.int(0);
    this.#writer.tensor([tokens.length], tokens);
    this.#written++;
  }
}

const OPTIONS = {
  ...{ priority: 5, timeoutMs: Number.POSITIVE_INFINITY, maxSteps: Number.POSITIVE_INFINITY },
  ...{ temperature: 0, topK: 0, topP: 1, seed: 0, beamWidth: 0, stream: false },
};
