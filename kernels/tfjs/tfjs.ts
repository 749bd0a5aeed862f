import type { Tensor, Tensor2D } from "@tensorflow/tfjs-core";
import type { CellSpec } from "../../src/core/cell.ts";
import { sizeOf, type TensorSpec } from "../../src/core/tensor.ts";
import { DeviceRows } from "../device-rows.ts";
import { type Kernel, type KernelFactory, type KernelTask, stateLayout, type Values } from "../kernel.ts";
import { rowsAreIndependent } from "../row-check.ts";
import { readSlot, writeSlot } from "../slot-states.ts";
import type { Tfjs } from "./namespace.ts";
import { DeviceWeights, type Step, stepOf } from "./steps.ts";
import { tfjsRows } from "./tfjs-rows.ts";

export interface TfjsOptions {
  /** Most rows times steps of one task; 1 or more. @default 256 */
  readonly maxBatch?: number;
  /** Largest relative difference to float64 of one step; raise it for devices with less than float32. @default 1e-5 */
  readonly tolerance?: number;
}

/**
 * Runs cells on the active backend of a tfjs namespace, with operations of tfjs-core alone. States stay in tensors from step
 * to step; what a step gives to callers is read with `data()`, once. Cells that are ONNX graphs are refused.
 *
 * Every operation costs some 20 us on the calling thread in Node, whatever its size, so small models are faster with the
 * onnx kernel.
 */
export function createTfjsKernel(tf: Tfjs, options: TfjsOptions = {}): KernelFactory {
  return async (cells) => {
    await tf.ready();
    const kernel = new TfjsKernel(tf, cells, options);
    kernel.rowsAreIndependent = await rowsAreIndependent(kernel);
    return kernel;
  };
}

class TfjsKernel implements Kernel {
  readonly name = "tfjs";
  readonly cells: readonly CellSpec[];
  readonly tolerance: number;
  readonly maxBatch: number;
  rowsAreIndependent = false;
  readonly #tf: Tfjs;
  readonly #weights: DeviceWeights;
  readonly #steps: readonly Step[];
  readonly #layout: ReturnType<typeof stateLayout>;
  /** As the layout. */
  readonly #states: readonly DeviceRows<Tensor2D>[];
  readonly #inputs: readonly (readonly Values[])[];
  readonly #outputs: readonly (readonly Values[])[];

  constructor(tf: Tfjs, cells: readonly CellSpec[], { maxBatch = 256, tolerance = 1e-5 }: TfjsOptions) {
    this.#tf = tf;
    this.cells = cells;
    this.tolerance = tolerance;
    this.maxBatch = maxBatch;
    this.#layout = stateLayout(cells);
    this.#states = this.#layout.map(({ size }) => new DeviceRows(tfjsRows(tf), size));
    this.#weights = new DeviceWeights(tf);
    this.#steps = cells.map((cell) => stepOf(this.#weights, cell));
    this.#inputs = cells.map(({ inputs }) => inputs.map((spec) => room(spec, maxBatch)));
    this.#outputs = cells.map(({ outputs }) => outputs.map((spec) => room(spec, maxBatch)));
  }

  /** On the device and in the places of inputs and outputs. */
  get bytes(): number {
    const places = [...this.#inputs, ...this.#outputs].flat();
    const onDevice = this.#states.reduce((sum, { bytes }) => sum + bytes, this.#weights.bytes);
    return places.reduce((sum, { byteLength }) => sum + byteLength, onDevice);
  }

  reserve(count: number): void {
    for (const rows of this.#states) rows.reserve(count);
  }

  stepSizes(cell: number): readonly number[] {
    return this.cells[cell]!.writes && this.cells[cell]!.reads === 1 ? STEP_SIZES : [1];
  }

  stage(cell: number): readonly Values[] {
    return this.#inputs[cell]!;
  }

  run(task: KernelTask): void | Promise<void> {
    const { cell, rows, steps, writes } = task;
    const spec = this.cells[cell]!;
    const results = this.#tf.tidy(() => {
      let states: readonly (readonly Tensor2D[])[] = this.#gather(task);
      const given: Tensor[][] = spec.outputs.map(() => []);
      for (let step = 0; step < steps; step++) {
        const { next, outputs } = this.#steps[cell]!(this.#staged(cell, rows, step), states);
        if (spec.writes) states = [next];
        outputs.forEach((output, i) => {
          given[i]!.push(output);
        });
      }
      const outputs = given.map((parts) => (parts.length === 1 ? parts[0]! : this.#tf.concat(parts, 0)));
      // An output may be a state, or two may be one tensor; each is disposed on its own.
      return {
        next: spec.writes ? states[0]!.map((state) => state.clone() as Tensor2D) : [],
        outputs: outputs.map((output) => output.clone()),
      };
    });
    spec.states.forEach(({ name }, i) => {
      const next = results.next[i];
      if (next) this.#stateOf(name).scatter(writes, rows, next);
    });
    if (results.outputs.length > 0) return this.#fetch(cell, results.outputs);
  }

  outputs(cell: number): readonly Values[] {
    return this.#outputs[cell]!;
  }

  clear(slot: number): void {
    for (const rows of this.#states) rows.clear(slot);
  }

  read(slot: number): Float32Array {
    return readSlot(this.#layout, this.#states, slot);
  }

  write(slot: number, states: Float32Array): void {
    writeSlot(this.#layout, this.#states, slot, states);
  }

  dispose(): void {
    for (const rows of this.#states) rows.dispose();
    this.#weights.dispose();
  }

  #gather({ cell, rows, reads }: KernelTask): Tensor2D[][] {
    const { reads: count, states } = this.cells[cell]!;
    return Array.from({ length: count }, (_, read) =>
      states.map(({ name }) => this.#stateOf(name).gather(reads, count, read, rows)),
    );
  }

  /** The inputs of one step, copied: the staging place is written again before a device may have read it. */
  #staged(cell: number, rows: number, step: number): Tensor[] {
    return this.cells[cell]!.inputs.map(({ shape, dtype }, i) => {
      const size = sizeOf(shape);
      const values = this.#inputs[cell]![i]!.slice(step * rows * size, (step + 1) * rows * size);
      return this.#tf.tensor(values, [rows, ...shape], dtype);
    });
  }

  async #fetch(cell: number, outputs: readonly Tensor[]): Promise<void> {
    try {
      const values = await Promise.all(outputs.map((output) => output.data()));
      values.forEach((some, i) => {
        this.#outputs[cell]![i]!.set(some as Values);
      });
    } finally {
      for (const output of outputs) output.dispose();
    }
  }

  #stateOf(name: string): DeviceRows<Tensor2D> {
    return this.#states[this.#layout.findIndex((state) => state.name === name)]!;
  }
}

/** What a call saves is one wait for the device. */
const STEP_SIZES = [1, 2, 4, 8];

function room({ dtype, shape }: TensorSpec, rows: number): Values {
  const length = rows * sizeOf(shape);
  return dtype === "int32" ? new Int32Array(length) : new Float32Array(length);
}
