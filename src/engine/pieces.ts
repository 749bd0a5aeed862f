/**
 * Work that takes long, done piece by piece on a thread that has steps to run: it awaits `pause` between its pieces, and the
 * thread calls `turn` between its steps.
 */
export class Pieces {
  #working = 0;
  readonly #paused: (() => void)[] = [];
  #restUntilMs = 0;

  /** Whether some work has not ended. */
  get isBusy(): boolean {
    return this.#working > 0;
  }

  /** Does `work`, which is handed `pause`. */
  async begin<T>(work: (pause: () => Promise<void>) => Promise<T>): Promise<T> {
    this.#working++;
    try {
      return await work(() => new Promise((resolve) => this.#paused.push(resolve)));
    } finally {
      this.#working--;
    }
  }

  /**
   * Lets the work go on for one piece; where there are steps to run (`isIdle` is false), only if it has used no more than
   * one part in `SHARE` of the time. What it waits for besides goes on, too.
   */
  async turn(isIdle: boolean): Promise<void> {
    const startMs = performance.now();
    const resume = isIdle || startMs >= this.#restUntilMs ? this.#paused.shift() : undefined;
    resume?.();
    await new Promise((resolve) => setImmediate(resolve));
    const endMs = performance.now();
    if (resume) this.#restUntilMs = endMs + (endMs - startMs) * (SHARE - 1);
  }
}

const SHARE = 4;
