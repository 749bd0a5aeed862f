import type { Values } from "../../kernels/kernel.ts";
import type { EngineRun } from "./request.ts";

/** How much of a run the step loop has to look at. */
export const LOUD = 0;
/** A run between its first and last step whose outputs nobody wants. */
export const QUIET = 1;
/** The run of a request that is no object; see `Chains` and `Trees`. */
export const CHAIN = 2;
export const TREE = 3;

/**
 * Runs whose steps before the last concern nobody, as columns by the number of their subgraph. After a cell has run, the
 * caches hold its weights, and every object that a row must visit costs more than all arithmetic on it; columns of
 * numbers are near each other and fetched side by side.
 */
export class QuietRuns {
  /** LOUD, QUIET, CHAIN or TREE. */
  kind = new Uint8Array(INITIAL);
  /** -1 for none yet. */
  slot = new Int32Array(INITIAL);
  /** Steps that have run, and steps in all. */
  done = new Int32Array(INITIAL);
  steps = new Int32Array(INITIAL);
  /** By input of the cell. */
  readonly #inputs: InputColumns[] = [];

  /** Where one input's values are, by subgraph. */
  input(input: number): InputColumns {
    let columns = this.#inputs[input];
    if (!columns) {
      columns = { values: [], first: new Int32Array(this.kind.length) };
      this.#inputs[input] = columns;
    }
    return columns;
  }

  /** A run has had its first step. */
  enter(run: EngineRun): void {
    const { subgraph, inputs } = run;
    this.add(subgraph, QUIET, run.slot, run.done, run.steps);
    for (let input = 0; input < inputs.length; input++) this.give(subgraph, input, inputs[input]!, 0);
  }

  /** Puts what was counted here back into the run. */
  leave(run: EngineRun): void {
    const { subgraph, inputs } = run;
    if (this.kind[subgraph] === LOUD) return;
    run.done = this.done[subgraph]!;
    run.position = run.done;
    this.remove(subgraph, inputs.length);
  }

  /** Every subgraph has its place here, whatever its kind. */
  makeRoom(subgraph: number): void {
    while (subgraph >= this.kind.length) this.#grow();
  }

  add(subgraph: number, kind: number, slot: number, done: number, steps: number): void {
    this.makeRoom(subgraph);
    this.kind[subgraph] = kind;
    this.slot[subgraph] = slot;
    this.done[subgraph] = done;
    this.steps[subgraph] = steps;
  }

  /** Says where a run's values of an input begin. */
  give(subgraph: number, input: number, values: Values, first: number): void {
    const columns = this.input(input);
    columns.values[subgraph] = values;
    columns.first[subgraph] = first;
  }

  remove(subgraph: number, inputs: number): void {
    this.kind[subgraph] = LOUD;
    for (let input = 0; input < inputs; input++) this.input(input).values[subgraph] = NOTHING;
  }

  #grow(): void {
    const length = this.kind.length * 2;
    this.kind = grown(this.kind, new Uint8Array(length));
    this.slot = grown(this.slot, new Int32Array(length));
    this.done = grown(this.done, new Int32Array(length));
    this.steps = grown(this.steps, new Int32Array(length));
    for (const columns of this.#inputs) columns.first = grown(columns.first, new Int32Array(length));
  }
}

export interface InputColumns {
  /** What holds the values of all steps. */
  readonly values: Values[];
  /** The place in it of the first step's first value. */
  first: Int32Array;
}

const INITIAL = 1024;
const NOTHING = new Float32Array(0);

export function grown<T extends { set(values: T): void }>(from: T, to: T): T {
  to.set(from);
  return to;
}
