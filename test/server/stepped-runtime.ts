import { SimulatedKernel } from "../../kernels/simulated/simulated.ts";
import type { ModelDefinition } from "../../models/definition.ts";
import { policies } from "../../scheduler/policy.ts";
import { wallClock } from "../../src/core/clock.ts";
import { Engine } from "../../src/engine/engine.ts";
import { type LoadedModel, loadModel } from "../../src/engine/model.ts";
import type { Link, LinkEvents } from "../../src/runtime/link.ts";
import { EngineRuntime } from "../../src/runtime/runtime.ts";

/** A kernel whose tasks last until they are let go. */
class GatedKernel extends SimulatedKernel {
  gate: Promise<void> | undefined;

  override run(task: Parameters<SimulatedKernel["run"]>[0]): Promise<void> | void {
    super.run(task);
    return this.gate;
  }
}

/** A runtime whose engine takes a step when the test says so, and not before. */
export class SteppedRuntime {
  readonly runtime: EngineRuntime;
  readonly #definition: ModelDefinition;
  readonly #rows: number;
  readonly #mail: ArrayBuffer[] = [];
  #engine!: Engine;
  #model!: LoadedModel;
  #kernel!: GatedKernel;
  /** Slots that the model keeps from its load on. */
  #keptSlots = 0;
  #publish: LinkEvents["packet"] = () => {};

  private constructor(definition: ModelDefinition, rows: number) {
    this.#definition = definition;
    this.#rows = rows;
    const sourceOf = async () => ({ definition });
    this.runtime = new EngineRuntime((models, events) => this.#open(models[0]!.number, events), {
      engines: 1,
      maxActive: 100,
      memoryLimit: Number.POSITIVE_INFINITY,
      sourceOf,
      sourceWhileRunning: sourceOf,
    });
  }

  /** At most `rows` rows run at once. */
  static async start(definition: ModelDefinition, rows: number): Promise<SteppedRuntime> {
    const stepped = new SteppedRuntime(definition, rows);
    await stepped.runtime.start([definition]);
    return stepped;
  }

  /** Whether commands wait for the next step. */
  get hasMail(): boolean {
    return this.#mail.length > 0;
  }

  /** Slots that hold the state of a request or session. */
  get slotsInUse(): number {
    return this.#model.slots - this.#model.freeSlots.length - this.#keptSlots;
  }

  /** Requests and sessions that the engine has. */
  get active(): number {
    return this.#engine.active;
  }

  /** Obeys what came, runs a task, says what came of it; answers whether there was a task. */
  async step(): Promise<boolean> {
    for (const packet of this.#mail.splice(0)) this.#engine.receive(packet);
    const ran = await this.#engine.step();
    if (!this.#engine.outbox.isEmpty) this.#publish(this.#engine.outbox.take());
    return ran;
  }

  /** Begins a step that lasts until the answer is called, which resolves when the step is over. */
  stepSlowly(): () => Promise<boolean> {
    let open = () => {};
    this.#kernel.gate = new Promise((resolve) => {
      open = resolve;
    });
    const stepped = this.step();
    this.#kernel.gate = undefined;
    return () => {
      open();
      return stepped;
    };
  }

  async #open(number: number, { packet }: LinkEvents): Promise<Link> {
    this.#publish = packet;
    this.#kernel = new GatedKernel(this.#definition.cells, { maxBatch: this.#rows });
    this.#model = await loadModel(this.#definition, this.#kernel, { maxBatch: this.#rows });
    this.#engine = new Engine({ models: [], policy: policies.cellular, clock: wallClock });
    this.#engine.add(number, this.#model);
    this.#keptSlots = this.#model.slots;
    const fixed = () => Promise.reject(new Error("the models of this runtime are fixed"));
    return {
      loaded: new Map([[number, { cells: [], bytes: 0 }]]),
      load: fixed,
      unload: fixed,
      send: (mail: ArrayBuffer) => this.#mail.push(mail),
      counters: () => ({
        cells: this.#engine.cells,
        tasks: this.#engine.tasks,
        rows: this.#engine.rows,
        bytes: 0,
      }),
      stop: () => this.#engine.dispose(),
    };
  }
}
