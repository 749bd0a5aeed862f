import { Tensor } from "onnxruntime-node";
import type { CellSpec } from "../../src/core/cell.ts";
import { sizeOf } from "../../src/core/tensor.ts";
import type { CellGraph, Port } from "./cell-graph.ts";
import type { Session, Tensors } from "./session.ts";

/** Rows of the tasks by which forms of a cell are compared: one, the fewest that a saturated engine runs, and the most. */
const TIMED_ROWS = [1, 64, 256];
/** One more, that is no multiple of what kernels work in. */
const CHECKED_ROWS = [3, ...TIMED_ROWS];
/**
 * What values may differ by, relative to those above 1: on average, and each, for sums in another order are far off where noise
 * drives a gate to its steepest place.
 */
const MEAN_ERROR = 1e-6;
const LARGEST_ERROR = 1e-4;
const RUNS = 7;
/** Milliseconds that are enough for one number of rows, once there were `FEWEST_RUNS`. */
const ENOUGH_MS = 25;
const FEWEST_RUNS = 3;

/** A form of a cell with inputs of noise, the same for every form. */
export class Trial {
  readonly #session: Session;
  readonly #calls: ReadonlyMap<number, { readonly feeds: Tensors; readonly fetches: Tensors }>;

  /** `symbols`: kinds of tokens by name of an input. */
  constructor(cell: CellSpec, graph: CellGraph, session: Session, symbols: ReadonlyMap<string, number>) {
    this.#session = session;
    const given = [...graph.outputs, ...graph.writes];
    const dtypes = new Map(graph.outputs.map(({ name }, i) => [name, cell.outputs[i]!.dtype]));
    this.#calls = new Map(
      CHECKED_ROWS.map((rows) => {
        const fetches = Object.fromEntries(
          given.map((port) => [port.name, room(port, rows, dtypes.get(port.name))]),
        );
        return [rows, { feeds: noise(cell, graph, rows, symbols), fetches }];
      }),
    );
  }

  /** Overwritten by the next run of as many rows. */
  async outputs(rows: number): Promise<Tensors> {
    const { feeds, fetches } = this.#calls.get(rows)!;
    await this.#session.run(feeds, fetches);
    return fetches;
  }

  close(): void | Promise<void> {
    return this.#session.dispose();
  }
}

/** Whether two forms give the same at every number of rows. One that does not run does not. */
export async function isSame(expected: Trial, actual: Trial): Promise<boolean> {
  try {
    return await comesOutSame(expected, actual);
  } catch {
    return false;
  }
}

async function comesOutSame(expected: Trial, actual: Trial): Promise<boolean> {
  for (const rows of CHECKED_ROWS) {
    const [wanted, given] = [await expected.outputs(rows), await actual.outputs(rows)];
    const same = Object.entries(wanted).every(([name, { data }]) =>
      isClose(data as Float32Array, given[name]!.data as Float32Array),
    );
    if (!same) return false;
  }
  return true;
}

function isClose(wanted: Float32Array | Int32Array, given: Float32Array | Int32Array): boolean {
  let sum = 0;
  for (let i = 0; i < wanted.length; i++) {
    const error = Math.abs(wanted[i]! - given[i]!) / Math.max(1, Math.abs(wanted[i]!));
    // The comparison is false for what is no number too.
    if (!(error <= LARGEST_ERROR)) return false;
    sum += error;
  }
  return sum <= MEAN_ERROR * wanted.length;
}

/** Time before over after, the geometric mean over the numbers of rows. Runs both in turn, so that what disturbs the machine disturbs both. */
export async function gainOf(before: Trial, after: Trial): Promise<number> {
  let product = 1;
  for (const rows of TIMED_ROWS) {
    const least = [Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY];
    const began = performance.now();
    for (let run = 0; run < RUNS; run++) {
      if (run >= FEWEST_RUNS && performance.now() - began > ENOUGH_MS) break;
      for (const [which, trial] of [before, after].entries()) {
        const start = performance.now();
        await trial.outputs(rows);
        least[which] = Math.min(least[which]!, performance.now() - start);
      }
    }
    product *= least[0]! / least[1]!;
  }
  return product ** (1 / TIMED_ROWS.length);
}

const NO_SYMBOLS: ReadonlyMap<string, number> = new Map();

/** Inputs and states of a task: noise, and tokens of those that an input has; 0 where it is not known how many. */
export function noise(cell: CellSpec, graph: CellGraph, rows: number, symbols = NO_SYMBOLS): Tensors {
  const feeds: Tensors = {};
  const add = ({ name, dims }: Port, dtype: "float32" | "int32") => {
    const shape = dims(rows, 1);
    const length = sizeOf(shape);
    const count = symbols.get(name) ?? 1;
    // Neighbours are far apart, and all tokens come.
    const token = (i: number) => (i * 7919 + rows) % count;
    feeds[name] =
      dtype === "int32"
        ? new Tensor(
            "int32",
            Int32Array.from({ length }, (_, i) => token(i)),
            shape,
          )
        : new Tensor(
            "float32",
            Float32Array.from({ length }, (_, i) => Math.sin(i * 12.9898)),
            shape,
          );
  };
  graph.inputs.forEach((port, i) => add(port, cell.inputs[i]!.dtype));
  for (const port of graph.reads.flat()) add(port, "float32");
  return feeds;
}

function room({ dims }: Port, rows: number, dtype: "float32" | "int32" = "float32"): Tensor {
  const shape = dims(rows, 1);
  const length = sizeOf(shape);
  return dtype === "int32"
    ? new Tensor("int32", new Int32Array(length), shape)
    : new Tensor("float32", new Float32Array(length), shape);
}
