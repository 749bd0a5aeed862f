import { Fault } from "../src/core/faults.ts";

/** What a table needs of a `Profile`. */
export interface ProfileSource {
  readonly model: { readonly name: string };
  readonly cells: readonly {
    readonly cell: string;
    readonly lane: "cellular" | "graph";
    readonly settings: readonly {
      readonly threads: number;
      readonly stepsPerCall: number;
      readonly size?: number | undefined;
      readonly points: readonly Point[];
    }[];
  }[];
}

export interface TableOptions {
  /** @default the only cell of the profile, else an error that names them */
  readonly cell?: string;
  /** @default 1 */
  readonly threads?: number;
  /** @default 1 */
  readonly stepsPerCall?: number;
}

/**
 * Measured time of one call by rows and, for a graph, size. Between two points time is a straight line in both; nothing is
 * assumed to be monotone, and nothing is guessed beyond what was measured.
 */
export class ProfileTable {
  readonly cell: string;
  readonly lane: "cellular" | "graph";
  readonly threads: number;
  /** Ascending in size; one curve of size 1 where the profile knows no sizes. */
  readonly #curves: readonly { readonly size: number; readonly points: readonly Point[] }[];

  /** Throws INVALID_REQUEST where the profile has no such cell or setting. */
  constructor(profile: ProfileSource, options: TableOptions = {}) {
    const { threads = 1, stepsPerCall = 1 } = options;
    const name = profile.model.name;
    const names = profile.cells.map(({ cell }) => cell);
    if (options.cell === undefined && names.length > 1) {
      const message = `the profile of '${name}' has cells ${names.join(", ")}: say which one`;
      throw new Fault("INVALID_REQUEST", message);
    }
    const cell = profile.cells.find((one) => one.cell === (options.cell ?? names[0]));
    if (!cell) {
      const message = `the profile of '${name}' has no cell '${options.cell}', it has ${names.join(", ")}`;
      throw new Fault("INVALID_REQUEST", message);
    }
    this.cell = cell.cell;
    this.lane = cell.lane;
    this.threads = threads;
    this.#curves = cell.settings
      .filter((setting) => setting.threads === threads && setting.stepsPerCall === stepsPerCall)
      .map(({ size = 1, points }) => ({ size, points: points.toSorted((a, b) => a.rows - b.rows) }))
      .sort((a, b) => a.size - b.size);
    if (this.#curves.length === 0) {
      const message = `the profile of cell '${cell.cell}' has nothing for ${threads} threads and ${stepsPerCall} steps per call`;
      throw new Fault("INVALID_REQUEST", message);
    }
  }

  /** Most rows that were measured at every size. */
  get maxRows(): number {
    return Math.min(...this.#curves.map(({ points }) => points.at(-1)!.rows));
  }

  /** Largest size that was measured. */
  get maxSize(): number {
    return this.#curves.at(-1)!.size;
  }

  /** Whether time depends on size. */
  get hasSizes(): boolean {
    return this.#curves.length > 1;
  }

  /**
   * Microseconds of one call. A size below the least that was measured takes as long as that; more rows or a larger size than
   * were measured throw INVALID_REQUEST.
   */
  us(rows: number, size = 1): number {
    if (!this.hasSizes) return this.#alongRows(this.#curves[0]!, rows);
    if (size > this.maxSize) {
      const message = `the profile of cell '${this.cell}' has sizes up to ${this.maxSize}, not ${size}: profile larger ones`;
      throw new Fault("INVALID_REQUEST", message);
    }
    const above = this.#curves.findIndex((curve) => curve.size >= size);
    const [from, to] = [this.#curves[Math.max(0, above - 1)]!, this.#curves[above]!];
    if (from === to) return this.#alongRows(to, rows);
    const share = (size - from.size) / (to.size - from.size);
    return between(this.#alongRows(from, rows), this.#alongRows(to, rows), share);
  }

  #alongRows(
    { points, size }: { readonly size: number; readonly points: readonly Point[] },
    rows: number,
  ): number {
    const above = points.findIndex((point) => point.rows >= rows);
    if (above < 0) {
      const most = points.at(-1)!.rows;
      const where = this.hasSizes ? ` at size ${size}` : "";
      const message = `the profile of cell '${this.cell}' has points up to ${most} rows${where}, not ${rows}: profile more rows or plan for fewer`;
      throw new Fault("INVALID_REQUEST", message);
    }
    const to = points[above]!;
    const from = points[above - 1];
    if (!from) return to.us;
    return between(from.us, to.us, (rows - from.rows) / (to.rows - from.rows));
  }
}

interface Point {
  readonly rows: number;
  readonly us: number;
}

function between(from: number, to: number, share: number): number {
  return from + (to - from) * share;
}
