/** Says what time it is, in milliseconds from an arbitrary origin; never goes back. */
export interface Clock {
  now(): number;
}

/** The machine's monotonic clock. */
export const wallClock: Clock = { now: () => performance.now() };

/** A clock that stands still until it is moved; for tests and simulation. */
export class ManualClock implements Clock {
  #ms = 0;

  now(): number {
    return this.#ms;
  }

  /** Moves time on by `ms`, which is 0 or more. */
  advance(ms: number): void {
    this.#ms += ms;
  }

  /** Moves time to `ms`, which is not before now. */
  set(ms: number): void {
    this.#ms = Math.max(this.#ms, ms);
  }
}
