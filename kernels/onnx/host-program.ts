import { sizeOf } from "../../src/core/tensor.ts";
import type { KernelTask, Values } from "../kernel.ts";
import type { StateRows } from "../state-rows.ts";
import type { Port } from "./cell-graph.ts";
import { formFor, type LoadedCell, type Program, stepSizesOf, tensorOn, valuesFor } from "./program.ts";
import type { Session, Tensors } from "./session.ts";

/** One cell's sessions and buffers, with its states in host memory. */
export class HostProgram implements Program {
  readonly inputs: readonly Values[];
  /** Of the last task; a next state is given where it lies in its bank. */
  outputs: readonly Values[];
  readonly #outputs: readonly Values[];
  readonly stepSizes: readonly number[];
  readonly #loaded: LoadedCell;
  readonly #index: number;
  readonly #states: readonly StateRows[];
  /** By read, then by state: where rows that do not stay in their bank are gathered; none for a chain. */
  readonly #gathered: readonly (readonly Float32Array[])[];
  /** Tensors of a call by steps, bank and rows, made once. */
  readonly #calls = new Map<number, Call>();

  /** `index`: the cell's place in the banks; `states`: where its states live. */
  constructor(loaded: LoadedCell, index: number, states: readonly StateRows[]) {
    const { cell, maxBatch } = loaded;
    this.#loaded = loaded;
    this.#index = index;
    this.#states = states;
    this.inputs = cell.inputs.map((spec) => valuesFor(spec, maxBatch));
    this.#outputs = cell.outputs.map((spec) => valuesFor(spec, maxBatch));
    this.outputs = this.#outputs;
    this.stepSizes = stepSizesOf(loaded);
    this.#gathered = this.#stays
      ? []
      : Array.from({ length: cell.reads }, () =>
          cell.states.map(({ shape }) => new Float32Array(maxBatch * sizeOf(shape))),
        );
  }

  get bytes(): number {
    const buffers = [...this.inputs, ...this.#outputs, ...this.#gathered.flat()];
    return buffers.reduce((sum, { byteLength }) => sum + byteLength, 0);
  }

  run(task: KernelTask): void | Promise<void> {
    const { rows, steps, reads, writes } = task;
    const states = this.#states;
    for (let i = 0; i < states.length; i++) {
      if (this.#stays) states[i]!.align(this.#index, reads, rows);
      for (let read = 0; read < this.#gathered.length; read++) {
        states[i]!.gather(this.#gathered[read]![i]!, reads, this.#loaded.cell.reads, read, rows);
      }
      if (this.#loaded.cell.writes) states[i]!.vacate(this.#index);
    }
    const call = this.#call(rows, steps);
    this.outputs = call.outputs;
    const pending = call.session.run(call.feeds, call.fetches);
    if (pending) return pending.then(() => this.#commit(writes, rows));
    this.#commit(writes, rows);
  }

  async dispose(): Promise<void> {
    for (const { session } of this.#loaded.forms) await session.dispose();
  }

  /** Whether rows stay in the cell's own banks from task to task. */
  get #stays(): boolean {
    return this.#loaded.cell.reads === 1 && this.#loaded.cell.writes;
  }

  #commit(writes: Int32Array, rows: number): void {
    if (this.#loaded.cell.writes) for (const state of this.#states) state.commit(this.#index, writes, rows);
  }

  #call(rows: number, steps: number): Call {
    const side = this.#states[0]?.side(this.#index) ?? 0;
    const key = (rows * 1024 + steps) * 2 + side;
    let call = this.#calls.get(key);
    if (!call) {
      call = this.#makeCall(rows, steps, side);
      this.#calls.set(key, call);
    }
    return call;
  }

  #makeCall(rows: number, steps: number, side: 0 | 1): Call {
    const { graph, session } = formFor(this.#loaded, rows, steps);
    const feeds: Tensors = {};
    const fetches: Tensors = {};
    const add = (to: Tensors, port: Port, values: Values) => {
      to[port.name] = tensorOn(values, port, rows, steps);
    };
    graph.inputs.forEach((port, i) => add(feeds, port, this.inputs[i]!));
    const other = side === 0 ? 1 : 0;
    graph.reads.forEach((ports, read) => {
      ports.forEach((port, i) => {
        add(feeds, port, this.#stays ? this.#states[i]!.bank(this.#index, side) : this.#gathered[read]![i]!);
      });
    });
    graph.writes.forEach((port, i) => add(fetches, port, this.#states[i]!.bank(this.#index, other)));
    const outputs = graph.outputs.map((port, i) => {
      const state = graph.writes.findIndex(({ name }) => name === port.name);
      if (state >= 0) return this.#states[state]!.bank(this.#index, other);
      add(fetches, port, this.#outputs[i]!);
      return this.#outputs[i]!;
    });
    return { session, feeds, fetches, outputs };
  }
}

interface Call {
  readonly session: Session;
  readonly feeds: Tensors;
  readonly fetches: Tensors;
  /** As `cell.outputs`. */
  readonly outputs: readonly Values[];
}
