import type { ClientError } from "./errors.ts";

/** Places in a session's input, each with somebody who waits until all before it was processed. */
export class Markers {
  readonly #waiting = new Map<number, (error?: ClientError) => void>();
  #last = 0;

  /** Those that were not reached. */
  get size(): number {
    return this.#waiting.size;
  }

  /** Puts one behind the others; resolves once it is reached. */
  place(): Promise<void> {
    const marker = ++this.#last;
    const reached = new Promise<void>((resolve, reject) => {
      this.#waiting.set(marker, (error) => (error ? reject(error) : resolve()));
    });
    // It may be settled before anybody waits.
    reached.catch(() => {});
    return reached;
  }

  /** The first that was not reached and is behind `marker`. */
  nextAfter(marker: number): number | undefined {
    for (const one of this.#waiting.keys()) if (one > marker) return one;
    return undefined;
  }

  reach(marker: number): void {
    this.#waiting.get(marker)?.();
    this.#waiting.delete(marker);
  }

  /** None will be reached: the session has ended, well where there is no error. */
  settle(error: ClientError | undefined): void {
    for (const reached of this.#waiting.values()) reached(error);
    this.#waiting.clear();
  }
}
