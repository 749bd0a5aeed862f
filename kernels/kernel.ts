import type { CellSpec } from "../src/core/cell.ts";

/** What runs the cells of one model on one device, and owns the memory of their state rows. */
export interface Kernel {
  readonly name: string;
  readonly cells: readonly CellSpec[];
  /** Largest relative difference to float64 that one step may show. */
  readonly tolerance: number;
  /** Whether a row's float32 result was found to be the same, bit for bit, in batches of every size. */
  readonly rowsAreIndependent: boolean;
  /** Most rows times steps of one task. */
  readonly maxBatch: number;
  /** Bytes of weights, state rows and buffers that it holds now, without what a library below it adds. @default not counted */
  readonly bytes?: number;

  /** Makes room for slots `0 ... count - 1`; keeps what is there. */
  reserve(count: number): void;

  /** Numbers of steps that one call of a cell can take, ascending; always holds 1. */
  stepSizes(cell: number): readonly number[];

  /**
   * Where to put the inputs of the next task of a cell, one array per input: the value of row `r` at step `s` begins at
   * `(s * rows + r) * size`. The same arrays every time, which keep what is put there.
   */
  stage(cell: number, rows: number, steps: number): readonly Values[];

  /** Runs one batched cell. Synchronous where the device is; else a promise. */
  run(task: KernelTask): void | Promise<void>;

  /** The outputs of the last task of a cell, laid out as `stage` says. Valid until its next `run`. */
  outputs(cell: number): readonly Values[];

  /** Forgets what a slot holds: its next reader sees zeros. */
  clear(slot: number): void;

  /**
   * Promises that the slots from `first` on keep what they hold now, so that what follows from their states alone can be
   * computed once. @default nothing is
   */
  freeze?(first: number, count: number): void;

  /** The states of a slot, all in one array in the order of `stateLayout`. */
  read(slot: number): Float32Array;

  /** The inverse of `read`. */
  write(slot: number, states: Float32Array): void;

  dispose(): void | Promise<void>;
}

/** Loads cells onto a device. Throws INVALID_REQUEST for a cell that the kernel cannot compute. */
export type KernelFactory = (cells: readonly CellSpec[], options?: KernelFactoryOptions) => Promise<Kernel>;

export interface KernelFactoryOptions {
  /** To be waited for between pieces of long work, where the kernel can: others use the thread meanwhile. @default no wait */
  readonly pause?: Pause;
}

/** Resolves when work may go on that lends its thread to others. */
export type Pause = () => void | Promise<void>;

export type Values = Float32Array | Int32Array;

/** One batched cell: row `r` reads slots `reads[r * cell.reads ...]` and writes slot `writes[r]`. */
export interface KernelTask {
  readonly cell: number;
  readonly rows: number;
  readonly steps: number;
  /** Holds at least `rows * cell.reads` slots. No slot stands twice in one task where the cell also writes it. */
  readonly reads: Int32Array;
  /** Holds at least `rows` slots where the cell writes; each stands there once. */
  readonly writes: Int32Array;
}

/** The states of a model: the union of its cells' states by name, in order of first use, with their sizes. */
export function stateLayout(cells: readonly CellSpec[]): readonly { name: string; size: number }[] {
  const layout = new Map<string, number>();
  for (const cell of cells) {
    for (const state of cell.states) {
      const size = state.shape.reduce((a, b) => a * b, 1);
      const known = layout.get(state.name);
      if (known !== undefined && known !== size) {
        throw new Error(
          `cell '${cell.name}' has state '${state.name}' of ${size} values, another cell has ${known}`,
        );
      }
      layout.set(state.name, size);
    }
  }
  return [...layout].map(([name, size]) => ({ name, size }));
}
