/**
 * The tokens of waiting and running requests side by side: a step then fetches one line of memory per row, and no packet is
 * kept for the sake of a few of its words. Blocks are powers of two, and a free one is used again by the next of its size.
 */
export class TokenArena {
  /** Another array after `take` had to make room; the old one keeps what was in it. */
  tokens = new Int32Array(INITIAL);
  #used = 0;
  /** By the logarithm of the size. */
  readonly #free: number[][] = [];

  /** A block for `length` tokens; answers where it begins. */
  take(length: number): number {
    const size = sizeClass(length);
    const free = this.#free[size]?.pop();
    if (free !== undefined) return free;
    const at = this.#used;
    this.#used += 1 << size;
    while (this.#used > this.tokens.length) {
      const grown = new Int32Array(this.tokens.length * 2);
      grown.set(this.tokens);
      this.tokens = grown;
    }
    return at;
  }

  /** The inverse of `take`. */
  give(at: number, length: number): void {
    const size = sizeClass(length);
    this.#free[size] ??= [];
    this.#free[size].push(at);
  }
}

const INITIAL = 4096;
/** Blocks are at least a line of the cache. */
const LEAST = 4;

function sizeClass(length: number): number {
  return Math.max(LEAST, 32 - Math.clz32(length - 1));
}
