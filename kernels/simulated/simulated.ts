import type { CellSpec } from "../../src/core/cell.ts";
import type { ManualClock } from "../../src/core/clock.ts";
import { sizeOf } from "../../src/core/tensor.ts";
import { type Kernel, type KernelTask, stateLayout, type Values } from "../kernel.ts";

export interface SimulatedOptions {
  /** @default 256 */
  readonly maxBatch?: number;
  /** Moves the clock by what a task takes. */
  readonly time?: {
    readonly clock: ManualClock;
    readonly milliseconds: (cell: number, rows: number, steps: number) => number;
  };
}

/**
 * Computes no mathematics: a slot holds a checksum of the steps and inputs that its row has seen, so that a row that is
 * lost, repeated or swapped shows. Takes the time that it is told.
 */
export class SimulatedKernel implements Kernel {
  readonly name = "simulated";
  readonly cells: readonly CellSpec[];
  readonly tolerance = 0;
  readonly rowsAreIndependent = true;
  readonly maxBatch: number;
  readonly #time: SimulatedOptions["time"];
  readonly #inputs: Values[][];
  readonly #outputs: Values[][];
  readonly #size: number;
  #slots = new Int32Array(0);

  constructor(cells: readonly CellSpec[], { maxBatch = 256, time }: SimulatedOptions = {}) {
    this.cells = cells;
    this.maxBatch = maxBatch;
    this.#time = time;
    const room = (specs: CellSpec["inputs"]) =>
      specs.map(({ dtype, shape }) =>
        dtype === "int32"
          ? new Int32Array(maxBatch * sizeOf(shape))
          : new Float32Array(maxBatch * sizeOf(shape)),
      );
    this.#inputs = cells.map(({ inputs }) => room(inputs));
    this.#outputs = cells.map(({ outputs }) => room(outputs));
    this.#size = stateLayout(cells).reduce((sum, { size }) => sum + size, 0);
  }

  get bytes(): number {
    const buffers = [...this.#inputs, ...this.#outputs].flat();
    return buffers.reduce((sum, { byteLength }) => sum + byteLength, this.#slots.byteLength);
  }

  reserve(count: number): void {
    if (count <= this.#slots.length) return;
    const slots = new Int32Array(count);
    slots.set(this.#slots);
    this.#slots = slots;
  }

  stepSizes(): readonly number[] {
    return STEP_SIZES;
  }

  stage(cell: number): readonly Values[] {
    return this.#inputs[cell]!;
  }

  run({ cell, rows, steps, reads, writes }: KernelTask): void {
    const spec = this.cells[cell]!;
    const input = this.#inputs[cell]![0];
    const outputs = this.#outputs[cell]!;
    const size = input ? sizeOf(spec.inputs[0]!.shape) : 0;
    for (let row = 0; row < rows; row++) {
      let sum = 1;
      for (let read = 0; read < spec.reads; read++) {
        sum = (sum * 31 + this.#slots[reads[row * spec.reads + read]!]!) & MASK;
      }
      for (let step = 0; step < steps; step++) {
        const at = step * rows + row;
        if (step > 0) sum = (31 + sum) & MASK;
        if (input) sum = (sum * 31 + (input[at * size]! | 0) + 1) & MASK;
        for (let output = 0; output < outputs.length; output++) {
          outputs[output]![at * sizeOf(spec.outputs[output]!.shape)] = sum;
        }
      }
      if (spec.writes) this.#slots[writes[row]!] = sum;
    }
    this.#time?.clock.advance(this.#time.milliseconds(cell, rows, steps));
  }

  outputs(cell: number): readonly Values[] {
    return this.#outputs[cell]!;
  }

  clear(slot: number): void {
    this.#slots[slot] = 0;
  }

  read(slot: number): Float32Array {
    const states = new Float32Array(this.#size);
    if (this.#size > 0) states[0] = this.#slots[slot]!;
    return states;
  }

  write(slot: number, states: Float32Array): void {
    this.#slots[slot] = states[0] ?? 0;
  }

  dispose(): void {}
}

/** A checksum stays exact in float32. */
const MASK = 0xfffff;
const STEP_SIZES = [1, 2, 4, 8];
