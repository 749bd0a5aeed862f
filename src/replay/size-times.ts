/** How many times as long one size takes as another. */
export type Growth = (from: number, to: number) => number;

/**
 * Times of one kind of work by its size. Those of a size come again in the order in which they were, so that slow ones stay as many
 * and as slow. Other sizes lie on straight lines between the means of those that occurred, and are as far from that as
 * those of the nearest were.
 */
export class SizeTimes {
  readonly #times = new Map<number, Times>();
  /** Ascending by size; made when the first is asked for. */
  #sorted: readonly (readonly [size: number, times: Times])[] | undefined;

  /** Nothing is added once the first was asked for. */
  add(size: number, us: number): void {
    const times = this.#times.get(size) ?? { us: [], sum: 0, next: 0 };
    times.us.push(us);
    times.sum += us;
    this.#times.set(size, times);
  }

  /** Microseconds of the next one of a size; `growth` says what is beyond those that occurred. 0 where none did. */
  next(size: number, growth: Growth): number {
    const times = this.#times.get(size);
    if (times) return take(times);
    this.#sorted ??= [...this.#times].sort(([a], [b]) => a - b);
    const above = this.#sorted.findIndex(([other]) => other > size);
    const [low, high] = [this.#sorted.at(above < 0 ? -1 : above - 1), this.#sorted[above]];
    if (!low) return 0;
    if (!high) return take(low[1]) * growth(low[0], size);
    if (above === 0) return take(high[1]) * growth(high[0], size);
    const share = (size - low[0]) / (high[0] - low[0]);
    const mean = meanOf(low[1]) + (meanOf(high[1]) - meanOf(low[1])) * share;
    const nearest = share < 0.5 ? low[1] : high[1];
    return nearest.sum === 0 ? mean : (mean * take(nearest)) / meanOf(nearest);
  }
}

interface Times {
  readonly us: number[];
  sum: number;
  next: number;
}

function take(times: Times): number {
  const us = times.us[times.next]!;
  times.next = (times.next + 1) % times.us.length;
  return us;
}

function meanOf({ us, sum }: Times): number {
  return sum / us.length;
}
