import type { CellSpec } from "../../src/core/cell.ts";
import { Fault } from "../../src/core/faults.ts";
import { type Kernel, type KernelFactory, type KernelTask, stateLayout, type Values } from "../kernel.ts";
import { rowsAreIndependent } from "../row-check.ts";
import { canRunNatively, nativeCell } from "./cells.ts";
import { type DeviceSpec, type Handle, loadNative, type Native, nativeStatus } from "./native.ts";

export interface CudaOptions {
  /** Number of the GPU. @default 0 */
  readonly card?: number;
  /** Most rows of one task; 1 or more. @default 512 */
  readonly maxBatch?: number;
  /** `host` computes the same in plain C++, for tests without a GPU. @default "cuda" */
  readonly device?: DeviceSpec["device"];
}

/**
 * Runs cells in float32 on an NVIDIA GPU by the addon of `native/`: states, weights and tables stay on the device, inputs and
 * outputs are pinned memory. Throws MODEL_NOT_READY with what to do where there is no GPU or no addon, and INVALID_REQUEST for
 * cells that are ONNX graphs.
 */
export function createCudaKernel(options: CudaOptions = {}): KernelFactory {
  return async (cells) => {
    const native = loadNative();
    const { reason, message } = nativeStatus();
    if (!native || (reason !== "ok" && options.device !== "host"))
      throw new Fault("MODEL_NOT_READY", message);
    const kernel = new CudaKernel(native, cells, options);
    kernel.rowsAreIndependent = await rowsAreIndependent(kernel);
    return kernel;
  };
}

class CudaKernel implements Kernel {
  readonly name = "cuda";
  readonly cells: readonly CellSpec[];
  readonly tolerance = 1e-5;
  readonly maxBatch: number;
  rowsAreIndependent = false;
  readonly #native: Native;
  readonly #handle: Handle;
  readonly #hidden: number;
  readonly #hasC: boolean;
  readonly #inputs: readonly (readonly Values[])[];
  readonly #outputs: readonly (readonly Values[])[];
  #slots = 0;

  constructor(native: Native, cells: readonly CellSpec[], options: CudaOptions) {
    const { card = 0, maxBatch = 512, device = "cuda" } = options;
    const refused = cells.find((cell) => !canRunNatively(cell));
    if (refused) {
      throw new Fault(
        "INVALID_REQUEST",
        `cell '${refused.name}' is of kind '${refused.body.kind}', which the CUDA kernel cannot compute: serve its model with '--device cpu'`,
      );
    }
    this.cells = cells;
    this.maxBatch = maxBatch;
    this.#native = native;
    const layout = stateLayout(cells);
    this.#hidden = layout[0]!.size;
    this.#hasC = layout.length === 2;
    const { handle, places } = native.open({
      device,
      card,
      hidden: this.#hidden,
      maxBatch,
      cells: cells.map(nativeCell),
    });
    this.#handle = handle;
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

  reserve(count: number): void {
    if (count <= this.#slots) return;
    this.#native.reserve(this.#handle, count);
    this.#slots = count;
  }

  stepSizes(): readonly number[] {
    return [1];
  }

  stage(cell: number): readonly Values[] {
    return this.#inputs[cell]!;
  }

  run({ cell, rows, reads, writes }: KernelTask): void {
    this.#native.run(this.#handle, cell, rows, reads, writes);
  }

  outputs(cell: number): readonly Values[] {
    return this.#outputs[cell]!;
  }

  clear(slot: number): void {
    this.#native.clear(this.#handle, slot);
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
