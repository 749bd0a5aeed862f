/** Measured time of one batched cell against its rows. Never assumed to be monotone per row. */
export class CostCurve {
  /** What was measured: `[rows, milliseconds]`, ascending. */
  readonly points: readonly (readonly [number, number])[];
  /** Index is the rows; 0 at index 0. */
  readonly #ms: Float64Array;
  /** Index is the ready rows; how many of them to run. */
  readonly #cut: Int32Array;

  /** `points` are `[rows, milliseconds]`, ascending in rows, the first at 1 row; between them time is a straight line. */
  constructor(points: readonly (readonly [number, number])[]) {
    const most = points.at(-1)?.[0] ?? 0;
    if (points[0]?.[0] !== 1) throw new RangeError(`a cost curve begins at 1 row, not ${points[0]?.[0]}`);
    this.points = points;
    this.#ms = new Float64Array(most + 1);
    points.forEach(([rows, ms], i) => {
      const [fromRows, fromMs] = points[i - 1] ?? [0, ms];
      for (let at = fromRows + 1; at <= rows; at++) {
        this.#ms[at] = fromMs + ((ms - fromMs) * (at - fromRows)) / (rows - fromRows);
      }
    });
    this.#cut = new Int32Array(most + 1);
    let best = 1;
    for (let rows = 1; rows <= most; rows++) {
      if (this.rate(rows) >= this.rate(best) * CUT_GAIN) best = rows;
      this.#cut[rows] = this.rate(rows) * CUT_MARGIN >= this.rate(best) ? rows : best;
    }
  }

  get maxRows(): number {
    return this.#ms.length - 1;
  }

  /** Milliseconds of one task of `rows`, which is at most `maxRows`. */
  ms(rows: number): number {
    return this.#ms[rows]!;
  }

  /** Rows per millisecond. */
  rate(rows: number): number {
    return rows / this.#ms[rows]!;
  }

  /**
   * How many of `ready` rows to run in one task: all of them, or fewer where a smaller task gives clearly more rows per
   * millisecond (a matrix kernel works in quanta of rows, and one row over a quantum can cost as much as a whole one).
   */
  cut(ready: number): number {
    return ready > CUT_ROWS ? ready : this.#cut[Math.min(ready, this.maxRows)]!;
  }

  /**
   * Fewest rows that reach `share` of the best rate: the knee. Only of those that were measured, for a kernel works in quanta and
   * what lies between two points may be the dearest of all. `overheadMs` is what a task costs besides its kernel.
   */
  knee(share: number, overheadMs = 0): number {
    const rate = (rows: number) => rows / (this.#ms[rows]! + overheadMs);
    const best = Math.max(...this.points.map(([rows]) => rate(rows)));
    return this.points.find(([rows]) => rate(rows) >= share * best)?.[0] ?? this.maxRows;
  }
}

/** Above this many rows a quantum is too small a part of a task to matter beside the noise of measuring. */
const CUT_ROWS = 32;
/** A larger task replaces the best smaller one as soon as it is as good. */
const CUT_GAIN = 1;
/** A task is cut only where that gives more than this many times the rows per millisecond: measurements are noisy. */
const CUT_MARGIN = 1.12;
