import { Heap } from "./heap.ts";

/**
 * Numbers in the order of `before`. Those that come in order, as nearly all do, stand in a ring and cost the same however many
 * wait; others go through a heap. The order of a number must not change while it is here.
 */
export class WaitingQueue {
  readonly #before: (a: number, b: number) => boolean;
  readonly #others: Heap<number>;
  #ring = new Int32Array(INITIAL);
  #first = 0;
  #count = 0;

  constructor(before: (a: number, b: number) => boolean) {
    this.#before = before;
    this.#others = new Heap(before);
  }

  get size(): number {
    return this.#count + this.#others.size;
  }

  push(item: number): void {
    if (this.#count > 0 && !this.#before(this.#at(this.#count - 1), item)) {
      this.#others.push(item);
      return;
    }
    if (this.#count === this.#ring.length) this.#grow();
    this.#ring[(this.#first + this.#count++) & (this.#ring.length - 1)] = item;
  }

  peek(): number | undefined {
    return this.#isRingFirst() ? this.#ring[this.#first] : this.#others.peek();
  }

  pop(): number | undefined {
    if (!this.#isRingFirst()) return this.#others.pop();
    const item = this.#ring[this.#first];
    this.#first = (this.#first + 1) & (this.#ring.length - 1);
    this.#count--;
    return item;
  }

  /** Keeps only the items for which `keep` holds. */
  filter(keep: (item: number) => boolean): void {
    let kept = 0;
    for (let i = 0; i < this.#count; i++) {
      const item = this.#at(i);
      if (keep(item)) this.#ring[(this.#first + kept++) & (this.#ring.length - 1)] = item;
    }
    this.#count = kept;
    this.#others.filter(keep);
  }

  #isRingFirst(): boolean {
    if (this.#count === 0) return false;
    const other = this.#others.peek();
    return other === undefined || this.#before(this.#ring[this.#first]!, other);
  }

  #at(place: number): number {
    return this.#ring[(this.#first + place) & (this.#ring.length - 1)]!;
  }

  #grow(): void {
    const grown = new Int32Array(this.#ring.length * 2);
    for (let i = 0; i < this.#count; i++) grown[i] = this.#at(i);
    this.#ring = grown;
    this.#first = 0;
  }
}

/** A power of two. */
const INITIAL = 64;
