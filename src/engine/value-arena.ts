import type { Values } from "../../kernels/kernel.ts";

/**
 * The inputs of several requests side by side, so that a step finds them near each other and no packet is kept for the sake of
 * a part of it. Blocks are powers of two, and a free one is used again by the next of its size.
 */
export class ValueArena<Array extends Values> {
  /** Another array after `take` had to make room; the old one keeps what was in it. */
  values: Array;
  readonly #make: (length: number) => Array;
  #used = 0;
  /** By the logarithm of the size. */
  readonly #free: number[][] = [];

  constructor(make: (length: number) => Array) {
    this.#make = make;
    this.values = make(INITIAL);
  }

  /** A block for `length` values; answers where it begins. */
  take(length: number): number {
    const size = sizeClass(length);
    const free = this.#free[size]?.pop();
    if (free !== undefined) return free;
    const at = this.#used;
    this.#used += 1 << size;
    if (this.#used > this.values.length) {
      const grown = this.#make(Math.max(this.values.length * 2, this.#used));
      grown.set(this.values);
      this.values = grown;
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
