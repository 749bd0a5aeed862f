/**
 * The latest samples of a stream, addressed by their place in it. Grows and shrinks with what is kept.
 *
 * ```
 *            first          last
 * stream  ...  |--- kept ---|
 * memory    ...|############|....   moved to the front when the end is reached
 * ```
 */
export class AudioBuffer {
  #data = new Float32Array(LEAST);
  /** Place in the stream of `#data[0]`. */
  #base = 0;
  #first = 0;
  #last = 0;

  /** Samples that were appended so far; the place of the next one. */
  get length(): number {
    return this.#last;
  }

  append(samples: Float32Array): void {
    if (this.#last - this.#base + samples.length > this.#data.length) this.#move(samples.length);
    this.#data.set(samples, this.#last - this.#base);
    this.#last += samples.length;
  }

  /** Forgets all samples before `first`. */
  keepFrom(first: number): void {
    this.#first = Math.max(this.#first, Math.min(first, this.#last));
  }

  /** A view that holds until the next `append`. Asserts that the samples are kept. */
  view(from: number, to: number): Float32Array {
    if (from < this.#first || to > this.#last) throw new Error(`samples ${from} to ${to} are not kept`);
    return this.#data.subarray(from - this.#base, to - this.#base);
  }

  #move(more: number): void {
    const kept = this.#data.subarray(this.#first - this.#base, this.#last - this.#base);
    const wanted = kept.length + more;
    const fits =
      wanted <= this.#data.length && (wanted * 8 > this.#data.length || this.#data.length === LEAST);
    if (fits) this.#data.copyWithin(0, kept.byteOffset >> 2, (kept.byteOffset >> 2) + kept.length);
    else {
      const data = new Float32Array(Math.max(LEAST, wanted * 2));
      data.set(kept);
      this.#data = data;
    }
    this.#base = this.#first;
  }
}

/** Samples that every stream has room for: 128 ms at 16 kHz. */
const LEAST = 2048;
