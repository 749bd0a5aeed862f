import type { Session, Tensors } from "../onnx/session.ts";
import { loadNative, nativeStatus } from "./load.ts";

/** As `Operation::Kind` in `addon/device.h`. */
export const operations = {
  move: 0,
  dense: 1,
  relu: 2,
  sigmoid: 3,
  tanh: 4,
  square: 5,
  root: 6,
  add: 7,
  multiply: 8,
  scale: 9,
  lstmGates: 10,
} as const;

/** `count` columns of a row; what each of the others means depends on the operation, see `addon/device.h`. */
export interface Run {
  readonly from: number;
  /** @default 1 */
  readonly step?: number;
  readonly count: number;
  readonly to: number;
  /** @default 0 */
  readonly other?: number;
}

export interface Operation {
  readonly kind: keyof typeof operations;
  readonly runs: readonly Run[];
  /** Of `dense`: `[depth, width]`. */
  readonly matrix?: { readonly depth: number; readonly width: number; readonly values: Float32Array };
  /** What `dense` adds, or to what is there where there is none; the one factor of `add`; those of `scale`, one for each value. */
  readonly vector?: Float32Array;
}

/** The columns of a tensor of the session. */
export interface ProgramPort {
  readonly name: string;
  readonly column: number;
  readonly width: number;
}

/** A step as operations on rows of `columns` values, each row for itself. */
export interface RowProgram {
  readonly columns: number;
  readonly inputs: readonly ProgramPort[];
  readonly outputs: readonly ProgramPort[];
  readonly operations: readonly Operation[];
}

/** Bits of the widest vectors that programs can use here; 0 where they cannot run: without the addon, or on other processors. */
export function programBits(): number {
  return nativeStatus().vectorBits;
}

/** A program as what runs a cell's tasks, with vectors of 256 or 512 bits. Throws where `programBits` is less. */
export function programSession(program: RowProgram, vectorBits = programBits()): Session {
  const native = loadNative();
  if (!native) throw new Error("the native addon is not there");
  const { inputs, outputs, columns } = program;
  const ports = (of: readonly ProgramPort[]) =>
    Int32Array.from(of.flatMap(({ column, width }) => [column, width]));
  const { handle, bytes } = native.openProgram({
    columns,
    vectorBits,
    inputs: ports(inputs),
    outputs: ports(outputs),
    operations: program.operations.map(({ kind, runs, matrix, vector = NOTHING }) => ({
      kind: operations[kind],
      runs: Int32Array.from(
        runs.flatMap(({ from, step = 1, count, to, other = 0 }) => [from, step, count, to, other]),
      ),
      depth: matrix?.depth ?? 0,
      width: matrix?.width ?? 0,
      weights: matrix?.values ?? NOTHING,
      vector,
    })),
  });
  const run = (feeds: Tensors, fetches: Tensors) => {
    const rows = feeds[inputs[0]!.name]!.dims[0]!;
    const arrays = [
      ...inputs.map(({ name }) => feeds[name]!.data as Float32Array),
      ...outputs.map(({ name }) => fetches[name]!.data as Float32Array),
    ];
    native.runProgram(handle, rows, arrays);
  };
  return {
    bytes,
    run,
    infer: () => {
      throw new Error("a program writes where it is told");
    },
    dispose: () => native.closeProgram(handle),
  };
}

const NOTHING = new Float32Array(0);
