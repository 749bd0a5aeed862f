import type { Values } from "../../kernels/kernel.ts";
import type { EngineRun } from "./request.ts";

/**
 * Runs between their first and last step whose outputs nobody wants, as columns by the number of their subgraph. After a
 * cell has run, the caches hold its weights, and every object that a row must visit costs more than all arithmetic on it;
 * columns of numbers are near each other and fetched side by side.
 */
export class QuietRuns {
  isQuiet = new Uint8Array(INITIAL);
  slot = new Int32Array(INITIAL);
  /** Steps that have run, and steps in all. */
  done = new Int32Array(INITIAL);
  steps = new Int32Array(INITIAL);
  /** By input of the cell, then by subgraph: the values of all steps. */
  readonly #inputs: Values[][] = [];

  /** The values of one input, by subgraph. */
  input(input: number): Values[] {
    let values = this.#inputs[input];
    if (!values) {
      values = [];
      this.#inputs[input] = values;
    }
    return values;
  }

  enter(run: EngineRun): void {
    const { subgraph, inputs } = run;
    while (subgraph >= this.isQuiet.length) this.#grow();
    this.isQuiet[subgraph] = 1;
    this.slot[subgraph] = run.slot;
    this.done[subgraph] = run.done;
    this.steps[subgraph] = run.steps;
    for (let input = 0; input < inputs.length; input++) this.input(input)[subgraph] = inputs[input]!;
  }

  /** Puts what was counted here back into the run. */
  leave(run: EngineRun): void {
    const { subgraph, inputs } = run;
    if (this.isQuiet[subgraph] !== 1) return;
    this.isQuiet[subgraph] = 0;
    run.done = this.done[subgraph]!;
    run.position = run.done;
    for (let input = 0; input < inputs.length; input++) this.input(input)[subgraph] = NOTHING;
  }

  #grow(): void {
    this.isQuiet = grown(this.isQuiet, new Uint8Array(this.isQuiet.length * 2));
    this.slot = grown(this.slot, new Int32Array(this.slot.length * 2));
    this.done = grown(this.done, new Int32Array(this.done.length * 2));
    this.steps = grown(this.steps, new Int32Array(this.steps.length * 2));
  }
}

const INITIAL = 1024;
const NOTHING = new Float32Array(0);

function grown<T extends { set(values: T): void }>(from: T, to: T): T {
  to.set(from);
  return to;
}
