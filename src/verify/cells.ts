import { type Kernel, stateLayout, type Values } from "../../kernels/kernel.ts";
import type { CellSpec } from "../core/cell.ts";
import { sizeOf } from "../core/tensor.ts";

/** What one check of one cell found. */
export interface Finding {
  readonly cell: string;
  readonly check: (typeof checks)[number];
  /** Largest difference to the row alone, relative where values are above 1; 0 where every bit is the same. */
  readonly difference: number;
  /** The place of the largest difference, for people. */
  readonly where?: string;
}

/** In what company a row must give what it gives alone. */
export const checks = [
  "in batches",
  "in another order",
  "beside NaN",
  "on reused slots",
  "several steps per call",
  "padded beside longer ones",
] as const;

/** What goes into one row of one step, and what came out of it. */
interface Row {
  readonly inputs: readonly number[][];
  /** By slot read. */
  readonly states: readonly Float32Array[];
}
type Outcome = ReadonlyMap<string, ArrayLike<number>>;

/** Rows of a task beyond which a kernel has no further ways to go. */
const ROWS = 32;
const BATCHES = [2, 3, 5, 7, 8, 12, 13, 31, 32];

/**
 * Runs a cell on random rows, each alone and then in company, and compares. `random` gives numbers from 0 to 1.
 * Uses the kernel's first slots, and leaves them clear.
 */
export async function checkCell(kernel: Kernel, cell: number, random: () => number): Promise<Finding[]> {
  const bench = new Bench(kernel, cell);
  const count = Math.min(ROWS, kernel.maxBatch);
  const rows = Array.from({ length: count }, () => bench.randomRow(random));
  const alone: Outcome[] = [];
  for (const row of rows) alone.push((await bench.run([row], 1))[0]!);
  const { name } = kernel.cells[cell]!;
  const findings: Finding[] = [];
  const report = (check: Finding["check"], worst: Worst) =>
    findings.push({
      cell: name,
      check,
      difference: worst.difference,
      ...(worst.where ? { where: worst.where } : {}),
    });

  const batched = new Worst();
  for (const size of BATCHES.filter((one) => one <= count)) {
    const outcomes = await bench.run(rows.slice(0, size), 1);
    outcomes.forEach((outcome, row) => batched.compare(alone[row]!, outcome, `row ${row} of ${size}`));
  }
  report("in batches", batched);

  const turned = new Worst();
  const order = rows.map((_, row) => row).sort((a, b) => ((a * 7) % count) - ((b * 7) % count) || b - a);
  const shuffled = await bench.run(
    order.map((row) => rows[row]!),
    1,
  );
  order.forEach((row, at) => turned.compare(alone[row]!, shuffled[at]!, `row ${row} at place ${at}`));
  report("in another order", turned);

  const poisoned = new Worst();
  const beside = await bench.run(
    rows.map((row, at) => (at % 2 === 0 ? row : bench.poisoned(row))),
    1,
  );
  beside.forEach((outcome, row) => {
    if (row % 2 === 0) poisoned.compare(alone[row]!, outcome, `row ${row} of ${count}`);
  });
  report("beside NaN", poisoned);

  if (bench.reads > 0) {
    const reused = new Worst();
    const fresh = await bench.run([bench.begun(rows[0]!)], 1);
    for (let round = 0; round < 2; round++) {
      await bench.run(rows, 1);
      bench.clear();
      const [outcome] = await bench.run([bench.begun(rows[0]!)], 1, "left as they are");
      reused.compare(fresh[0]!, outcome!, "a cleared slot");
    }
    report("on reused slots", reused);
  }

  const sizes = kernel.stepSizes(cell).filter((steps) => steps > 1 && steps <= kernel.maxBatch);
  if (sizes.length > 0) {
    const ahead = new Worst();
    for (const steps of sizes) {
      const sequence = Array.from({ length: steps }, (_, step) => rows[step % count]!);
      const together = (await bench.runSteps(sequence, "in one call")).at(-1)!;
      const single = (await bench.runSteps(sequence, "in single calls")).at(-1)!;
      ahead.compare(single, together, `${steps} steps`);
    }
    report("several steps per call", ahead);
  }
  bench.clear();
  return findings;
}

/** Puts rows on slots, runs tasks, and takes out what they gave. */
class Bench {
  readonly #kernel: Kernel;
  readonly #cell: number;
  readonly #spec: CellSpec;
  readonly #stateSize: number;
  readonly #tokens: number;

  constructor(kernel: Kernel, cell: number) {
    this.#kernel = kernel;
    this.#cell = cell;
    this.#spec = kernel.cells[cell]!;
    this.#stateSize = stateLayout(kernel.cells).reduce((sum, { size }) => sum + size, 0);
    const { body } = this.#spec;
    this.#tokens = "embedding" in body && body.embedding ? body.embedding.rows : 2;
    kernel.reserve(3 * Math.min(ROWS, kernel.maxBatch));
  }

  get reads(): number {
    return this.#spec.reads;
  }

  randomRow(random: () => number): Row {
    const value = () => 2 * random() - 1;
    return {
      inputs: this.#spec.inputs.map(({ dtype, shape }) =>
        Array.from({ length: sizeOf(shape) }, () =>
          dtype === "int32" ? Math.floor(random() * this.#tokens) : value(),
        ),
      ),
      states: Array.from({ length: this.reads }, () => Float32Array.from({ length: this.#stateSize }, value)),
    };
  }

  poisoned(row: Row): Row {
    return {
      inputs: row.inputs.map((values, i) =>
        this.#spec.inputs[i]!.dtype === "int32" ? values : values.map(() => Number.NaN),
      ),
      states: row.states.map((values) => values.map(() => Number.NaN)),
    };
  }

  /** The row as a request's first: its states are zero. */
  begun(row: Row): Row {
    return { ...row, states: row.states.map(({ length }) => new Float32Array(length)) };
  }

  clear(): void {
    for (let slot = 0; slot < 3 * Math.min(ROWS, this.#kernel.maxBatch); slot++) this.#kernel.clear(slot);
  }

  /** One task of one step. */
  async run(
    rows: readonly Row[],
    steps: 1,
    slots: "written" | "left as they are" = "written",
  ): Promise<Outcome[]> {
    const { reads, writes } = this.#slots(rows.length);
    if (slots === "written") {
      rows.forEach((row, at) => {
        row.states.forEach((states, read) => {
          this.#kernel.write(reads[at * this.reads + read]!, states);
        });
      });
    }
    const staged = this.#kernel.stage(this.#cell, rows.length, steps);
    rows.forEach((row, at) => {
      row.inputs.forEach((values, input) => {
        (staged[input] as Float32Array).set(values, at * values.length);
      });
    });
    await this.#kernel.run({ cell: this.#cell, rows: rows.length, steps, reads, writes });
    return rows.map((_, at) => this.#outcome(at, writes[at]!));
  }

  /** One row over several steps. */
  async runSteps(sequence: readonly Row[], how: "in one call" | "in single calls"): Promise<Outcome[]> {
    const { reads, writes } = this.#slots(1);
    sequence[0]!.states.forEach((states, read) => {
      this.#kernel.write(reads[read]!, states);
    });
    if (how === "in single calls") {
      const outcomes: Outcome[] = [];
      for (const row of sequence) outcomes.push((await this.run([row], 1, "left as they are"))[0]!);
      return outcomes;
    }
    const steps = sequence.length;
    const staged = this.#kernel.stage(this.#cell, 1, steps);
    sequence.forEach(({ inputs }, step) => {
      inputs.forEach((values, input) => {
        (staged[input] as Float32Array).set(values, step * values.length);
      });
    });
    await this.#kernel.run({ cell: this.#cell, rows: 1, steps, reads, writes });
    return sequence.map((_, step) => this.#outcome(step, writes[0]!));
  }

  /** A chain writes the slot it reads; others write slots of their own. */
  #slots(rows: number): { reads: Int32Array; writes: Int32Array } {
    const writes = Int32Array.from({ length: rows }, (_, row) => row);
    if (this.reads === 1) return { reads: writes, writes };
    const reads = Int32Array.from(
      { length: rows * this.reads },
      (_, read) => Math.min(ROWS, this.#kernel.maxBatch) + read,
    );
    return { reads, writes };
  }

  #outcome(row: number, slot: number): Outcome {
    const outcome = new Map<string, Values>();
    this.#kernel.outputs(this.#cell).forEach((values, output) => {
      const { name, shape } = this.#spec.outputs[output]!;
      const size = sizeOf(shape);
      outcome.set(`output '${name}'`, values.slice(row * size, (row + 1) * size));
    });
    if (this.#spec.writes) outcome.set("state", this.#ownStates(slot));
    return outcome;
  }

  /** Of the states that all cells of the model share, those that this one writes. */
  #ownStates(slot: number): Float32Array {
    const all = this.#kernel.read(slot);
    const own: number[] = [];
    let at = 0;
    for (const { name, size } of stateLayout(this.#kernel.cells)) {
      if (this.#spec.states.some((state) => state.name === name)) own.push(...all.subarray(at, at + size));
      at += size;
    }
    return Float32Array.from(own);
  }
}

/** The largest difference so far, and where it was. */
export class Worst {
  difference = 0;
  where: string | undefined;

  compare(expected: Outcome, actual: Outcome, place: string): void {
    for (const [name, values] of expected) {
      const others = actual.get(name)!;
      for (let i = 0; i < values.length; i++) {
        const [a, b] = [values[i]!, others[i]!];
        if (Object.is(a, b)) continue;
        const off = Math.abs(a - b) / Math.max(1, Math.abs(a));
        const difference = Number.isNaN(off) ? Number.POSITIVE_INFINITY : off;
        if (difference <= this.difference) continue;
        this.difference = difference;
        this.where = `${name}[${i}] of ${place}: ${b} instead of ${a}`;
      }
    }
  }
}
