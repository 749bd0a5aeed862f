import type { Operation, ProgramPort, RowProgram, Run } from "../native/program.ts";

/** One row's value: the column of each of its elements. */
export interface RowValue {
  readonly dims: readonly number[];
  readonly places: readonly number[];
}

/** Columns from `from` on, times a factor. */
export interface Term {
  readonly factor: number;
  readonly from: number;
}

/** Columns and operations of a program in the making; every operation writes columns of its own. */
export class RowColumns {
  readonly operations: Operation[] = [];
  readonly #pieces: Piece[] = [];
  #columns = 0;

  /** New columns side by side; the first of them. */
  take(count: number): number {
    const first = this.#columns;
    this.#pieces.push({ first, count, from: Number.POSITIVE_INFINITY, until: -1 });
    // What belongs to two pieces is never side by side, for they may come to lie anywhere.
    this.#columns += count + 1;
    return first;
  }

  add(operation: Operation): void {
    this.operations.push(operation);
  }

  /** The first of columns that hold `places` side by side, which are copied where they do not lie so already. */
  sideBySide(places: readonly number[]): number {
    const first = places[0]!;
    if (places.every((place, i) => place === first + i)) return first;
    const to = this.take(places.length);
    this.add({ kind: "move", runs: runsOf(places, to) });
    return to;
  }

  /** To `count` columns from `to` on: those from `from` on plus others. */
  sum(count: number, to: number, from: number, { factor, from: other }: Term): void {
    this.add({ kind: "add", runs: [{ from, count, to, other }], vector: Float32Array.of(factor) });
  }

  /** A function of each element of `a`, or of `a` and `b` in turn. The results lie as `a` does. */
  each(kind: Operation["kind"], a: RowValue, b?: RowValue, vector?: Float32Array): RowValue {
    const order = a.places.map((_, i) => i).sort((i, j) => a.places[i]! - a.places[j]!);
    const first = this.take(order.length);
    const places = new Array<number>(order.length);
    const runs: Run[] = [];
    order.forEach((element, i) => {
      places[element] = first + i;
      const [from, other] = [a.places[element]!, b?.places[element] ?? 0];
      const last = runs.at(-1);
      const continues = last && from === last.from + last.count && (!b || other === last.other! + last.count);
      if (continues) runs[runs.length - 1] = { ...last, count: last.count + 1 };
      else runs.push({ from, count: 1, to: first + i, other: b ? other : 0 });
    });
    this.add({ kind, runs, ...(vector ? { vector } : {}) });
    return { dims: a.dims, places };
  }

  /**
   * The program with the columns of what is not needed any more given to what comes later, so that a row stays in the cache.
   * Inputs keep theirs until the end, and outputs from where they are written.
   */
  program(inputs: readonly ProgramPort[], outputs: readonly ProgramPort[]): RowProgram {
    const { operations } = this;
    const owners = new Array<Piece | undefined>(this.#columns);
    for (const piece of this.#pieces) owners.fill(piece, piece.first, piece.first + piece.count);
    const use = (column: number, at: number) => {
      const piece = owners[column]!;
      piece.from = Math.min(piece.from, at);
      piece.until = Math.max(piece.until, at);
    };
    operations.forEach((operation, at) => {
      for (const column of columnsOf(operation)) use(column, at);
    });
    const end = operations.length;
    for (const { column } of inputs) use(column, -1);
    for (const { column } of [...inputs, ...outputs]) use(column, end);
    const { columns, placed } = place(this.#pieces.filter(({ until }) => until >= 0));
    const moved = (column: number) => placed.get(owners[column]!)! + column - owners[column]!.first;
    const port = (one: ProgramPort) => ({ ...one, column: moved(one.column) });
    return {
      columns,
      inputs: inputs.map(port),
      outputs: outputs.map(port),
      operations: operations.map((operation) => ({
        ...operation,
        runs: operation.runs.map((run) => ({
          ...run,
          from: moved(run.from),
          to: moved(run.to),
          ...(readsOther(operation) ? { other: moved(run.other!) } : {}),
        })),
      })),
    };
  }
}

/** Columns that were taken together. */
interface Piece {
  readonly first: number;
  readonly count: number;
  /** The first and the last operation that touches it. */
  from: number;
  until: number;
}

/** Each piece at the lowest columns that are free while it is needed. */
function place(pieces: readonly Piece[]): {
  readonly columns: number;
  readonly placed: ReadonlyMap<Piece, number>;
} {
  const placed = new Map<Piece, number>();
  let columns = 0;
  for (const piece of pieces) {
    const besides = pieces
      .filter((one) => placed.has(one) && one.from <= piece.until && one.until >= piece.from)
      .map((one) => ({ from: placed.get(one)!, to: placed.get(one)! + one.count }))
      .sort((a, b) => a.from - b.from);
    let at = 0;
    for (const { from, to } of besides) {
      if (from - at >= piece.count) break;
      at = Math.max(at, to);
    }
    placed.set(piece, at);
    columns = Math.max(columns, at + piece.count);
  }
  return { columns, placed };
}

function columnsOf(operation: Operation): number[] {
  return operation.runs.flatMap(({ from, to, other }) => [
    from,
    to,
    ...(readsOther(operation) ? [other!] : []),
  ]);
}

function readsOther({ kind }: Operation): boolean {
  return kind === "add" || kind === "multiply" || kind === "lstmGates";
}

/** Columns `places` to `to` and those behind it, in as few runs as there are steps between them. */
function runsOf(places: readonly number[], to: number): Run[] {
  const runs: Run[] = [];
  for (let i = 0; i < places.length; ) {
    const step = i + 1 < places.length ? places[i + 1]! - places[i]! : 1;
    let count = 1;
    while (i + count < places.length && places[i + count]! === places[i + count - 1]! + step) count++;
    runs.push({ from: places[i]!, step, count, to: to + i });
    i += count;
  }
  return runs;
}
