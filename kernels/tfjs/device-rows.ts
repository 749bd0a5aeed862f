import type { Tensor2D } from "@tensorflow/tfjs-core";
import type { Tfjs } from "./namespace.ts";

/**
 * Where the rows of one state live, in tensors that stay on the device.
 *
 * A tensor of rows is never written again, so a row's home is a block (what one task wrote, or one row from the host) and
 * its row there. A block goes once no slot lives in it. A slot that waits keeps a whole block alive: blocks of which little
 * is used are put together when they hold more than twice what lives in them.
 */
export class DeviceRows {
  readonly #tf: Tfjs;
  readonly #size: number;
  /** By slot; none where it is zero. */
  readonly #homes: (Block | undefined)[] = [];
  #row = new Int32Array(0);
  readonly #blocks = new Set<Block>();
  #rows = 0;
  #live = 0;

  constructor(tf: Tfjs, size: number) {
    this.#tf = tf;
    this.#size = size;
  }

  /** Of the blocks that are kept, also where not all of their rows live. */
  get bytes(): number {
    return 4 * this.#rows * this.#size;
  }

  reserve(count: number): void {
    if (count <= this.#row.length) return;
    const row = new Int32Array(count);
    row.set(this.#row);
    this.#row = row;
    while (this.#homes.length < count) this.#homes.push(undefined);
  }

  /** `[rows, size]`: row `r` is the state of slot `slots[r * stride + offset]`. */
  gather(slots: Int32Array, stride: number, offset: number, rows: number): Tensor2D {
    const tf = this.#tf;
    const parts = new Map<Block | undefined, number[]>();
    for (let r = 0; r < rows; r++) {
      const home = this.#homes[slots[r * stride + offset]!];
      const part = parts.get(home);
      if (part) part.push(r);
      else parts.set(home, [r]);
    }
    const pieces: Tensor2D[] = [];
    const order = new Int32Array(rows);
    let at = 0;
    for (const [home, wanted] of parts) {
      const from = Int32Array.from(wanted, (r) => this.#row[slots[r * stride + offset]!]!);
      pieces.push(home ? this.#take(home, from) : tf.zeros([wanted.length, this.#size]));
      for (const r of wanted) order[r] = at++;
    }
    if (pieces.length === 1) return pieces[0]!;
    return tf.gather(tf.concat(pieces, 0), tf.tensor1d(order, "int32"));
  }

  /** The inverse of `gather` for slots that differ: row `r` is from now on the state of slot `slots[r]`. Keeps the tensor. */
  scatter(slots: Int32Array, rows: number, values: Tensor2D): void {
    for (let r = 0; r < rows; r++) this.clear(slots[r]!);
    const block: Block = { values, live: rows };
    this.#blocks.add(block);
    this.#rows += rows;
    this.#live += rows;
    for (let r = 0; r < rows; r++) {
      this.#homes[slots[r]!] = block;
      this.#row[slots[r]!] = r;
    }
    if (this.#rows > 2 * this.#live + FEW || this.#blocks.size > MOST_BLOCKS) this.#compact();
  }

  clear(slot: number): void {
    const home = this.#homes[slot];
    if (!home) return;
    this.#homes[slot] = undefined;
    this.#live--;
    home.live--;
    if (home.live === 0) this.#drop(home);
  }

  read(slot: number, into: Float32Array, offset: number): void {
    const home = this.#homes[slot];
    if (!home) {
      into.fill(0, offset, offset + this.#size);
      return;
    }
    const row = this.#tf.slice(home.values, [this.#row[slot]!, 0], [1, this.#size]);
    into.set(row.dataSync(), offset);
    row.dispose();
  }

  write(slot: number, values: Float32Array): void {
    this.scatter(Int32Array.of(slot), 1, this.#tf.tensor2d(values.slice(), [1, this.#size], "float32"));
  }

  dispose(): void {
    for (const { values } of this.#blocks) values.dispose();
    this.#blocks.clear();
    this.#homes.fill(undefined);
  }

  #take({ values }: Block, rows: Int32Array): Tensor2D {
    const isAll = rows.length === values.shape[0] && rows.every((row, at) => row === at);
    return isAll ? values.clone() : this.#tf.gather(values, this.#tf.tensor1d(rows, "int32"));
  }

  #drop(block: Block): void {
    this.#blocks.delete(block);
    this.#rows -= block.values.shape[0];
    block.values.dispose();
  }

  /** Puts all rows that live into one block. */
  #compact(): void {
    const slots = Int32Array.from(this.#homes.keys()).filter((slot) => this.#homes[slot]);
    if (slots.length === 0) return;
    const together = this.#tf.tidy(() => this.gather(slots, 1, 0, slots.length));
    this.scatter(slots, slots.length, together);
  }
}

interface Block {
  readonly values: Tensor2D;
  /** Slots that live here. */
  live: number;
}

/** A block of so few rows that nothing is gained by putting it away. */
const FEW = 256;
/** A gather takes one operation for each block. */
const MOST_BLOCKS = 64;
