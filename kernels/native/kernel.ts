import type { CellSpec } from "../../src/core/cell.ts";
import { Fault } from "../../src/core/faults.ts";
import { type Kernel, type KernelFactory, type KernelTask, stateLayout, type Values } from "../kernel.ts";
import { rowsAreIndependent } from "../row-check.ts";
import { canRunNatively, nativeCell } from "./cells.ts";
import { type DeviceChoice, deviceSpec, type Handle, type Native, type Numbers, nativeFor } from "./load.ts";

export interface NativeOptions extends DeviceChoice {
  /** Most rows times steps of one task; 1 or more. @default 256 */
  readonly maxBatch?: number;
}

/**
 * Runs cells in float32 by the addon of `addon/`: states, weights and tables stay on the device, inputs and outputs are memory
 * that both sides reach. Throws MODEL_NOT_READY with what to do where the device or the addon is not there, and INVALID_REQUEST
 * for cells that are ONNX graphs.
 */
export function createNativeKernel(options: NativeOptions): KernelFactory {
  return async (cells) => {
    const kernel = new NativeKernel(nativeFor(options), cells, options);
    kernel.rowsAreIndependent = !kernel.hasLibrary && (await rowsAreIndependent(kernel));
    return kernel;
  };
}

class NativeKernel implements Kernel {
  readonly name: string;
  readonly cells: readonly CellSpec[];
  readonly tolerance: number;
  readonly maxBatch: number;
  rowsAreIndependent = false;
  /** Whether a library multiplies many rows. */
  readonly hasLibrary: boolean;
  readonly #native: Native;
  readonly #handle: Handle;
  readonly #hidden: number;
  readonly #hasC: boolean;
  readonly #inputs: readonly (readonly Values[])[];
  readonly #outputs: readonly (readonly Values[])[];
  /** Of weights, tables, inputs and outputs. */
  #fixedBytes: number;
  #slots = 0;

  constructor(native: Native, cells: readonly CellSpec[], options: NativeOptions) {
    const { device, numbers = "fp32", maxBatch = 256 } = options;
    const refused = cells.find((cell) => !canRunNatively(cell));
    if (refused) {
      throw new Fault(
        "INVALID_REQUEST",
        `cell '${refused.name}' is of kind '${refused.body.kind}', which the native kernel cannot compute: serve it with the onnx kernel`,
      );
    }
    this.tolerance = TOLERANCES[numbers];
    this.cells = cells;
    this.maxBatch = maxBatch;
    this.#native = native;
    const layout = stateLayout(cells);
    this.#hidden = layout[0]!.size;
    this.#hasC = layout.length === 2;
    const converted = cells.map(nativeCell);
    const { handle, places, productLibrary } = native.open({
      ...deviceSpec(options),
      hidden: this.#hidden,
      maxBatch,
      cells: converted,
    });
    this.#handle = handle;
    this.hasLibrary = productLibrary > 0;
    this.name = [
      "native",
      device,
      ...(numbers === "fp32" ? [] : [numbers]),
      ...(this.hasLibrary ? ["cublasLt"] : []),
    ].join("/");
    this.#fixedBytes = bytesOf(converted) + bytesOf(places);
    this.#inputs = places.map(({ input }, cell) =>
      cells[cell]!.inputs.map(({ dtype }) =>
        dtype === "int32" ? new Int32Array(input!) : new Float32Array(input!),
      ),
    );
    this.#outputs = places.map((of, cell) =>
      cells[cell]!.outputs.map(({ name }) =>
        name === "token" ? new Int32Array(of.token!) : new Float32Array(of[name as "h" | "c" | "logits"]!),
      ),
    );
  }

  /** Of a slot there are h and c, each twice on the CPU. */
  get bytes(): number {
    return this.#fixedBytes + this.#slots * 2 * 2 * 4 * this.#hidden;
  }

  reserve(count: number): void {
    if (count <= this.#slots) return;
    this.#native.reserve(this.#handle, count);
    this.#slots = count;
  }

  stepSizes(cell: number): readonly number[] {
    const { reads, writes } = this.cells[cell]!;
    return reads === 1 && writes ? STEP_SIZES : [1];
  }

  stage(cell: number): readonly Values[] {
    return this.#inputs[cell]!;
  }

  run({ cell, rows, steps, reads, writes }: KernelTask): void {
    this.#native.run(this.#handle, cell, rows, steps, reads, writes);
  }

  outputs(cell: number): readonly Values[] {
    return this.#outputs[cell]!;
  }

  clear(slot: number): void {
    this.#native.clear(this.#handle, slot);
  }

  freeze(first: number, count: number): void {
    this.#fixedBytes += this.#native.freeze(this.#handle, first, count);
  }

  read(slot: number): Float32Array {
    const both = new Float32Array(2 * this.#hidden);
    this.#native.read(this.#handle, slot, both);
    return this.#hasC ? both : both.slice(0, this.#hidden);
  }

  write(slot: number, states: Float32Array): void {
    const both = new Float32Array(2 * this.#hidden);
    both.set(states);
    this.#native.write(this.#handle, slot, both);
  }

  dispose(): void {
    this.#native.close(this.#handle);
  }
}

/** Of one step, relative; that of bf16 has 8 bits of each operand. */
const TOLERANCES: Readonly<Record<Numbers, number>> = { fp32: 1e-5, tf32: 1e-3, bf16: 1e-2 };

/** A call of several steps saves the way into the addon and back. */
const STEP_SIZES = [1, 2, 4, 8];

function bytesOf(objects: readonly object[]): number {
  return objects
    .flatMap((object) => Object.values(object))
    .reduce((sum: number, value) => {
      const isMemory = value instanceof ArrayBuffer || ArrayBuffer.isView(value);
      return sum + (isMemory ? value.byteLength : 0);
    }, 0);
}
