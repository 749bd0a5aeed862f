/**
 * Where the rows of one state live, in arrays that stay on the device.
 *
 * An array of rows is never written again, so a row's home is a block (what one task wrote, or one row from the host) and
 * its row there. A block goes once no slot lives in it. A slot that waits keeps a whole block alive: blocks of which little
 * is used are put together when they hold more than twice what lives in them.
 */
export class DeviceRows<T> {
  readonly #device: RowArrays<T>;
  readonly #size: number;
  /** By slot; none where it is zero. */
  readonly #homes: (Block<T> | undefined)[] = [];
  #row = new Int32Array(0);
  readonly #blocks = new Set<Block<T>>();
  #rows = 0;
  #live = 0;

  /** A state of `size` values per row. */
  constructor(device: RowArrays<T>, size: number) {
    this.#device = device;
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

  /**
   * `[rows, size]`: row `r` is the state of slot `slots[r * stride + offset]`. Where that is what a task wrote, row for row, it is that
   * task's array itself, which lives until the slots are written again.
   */
  gather(slots: Int32Array, stride: number, offset: number, rows: number): T {
    const found = new Map<Block<T> | undefined, number[]>();
    for (let r = 0; r < rows; r++) {
      const home = this.#homes[slots[r * stride + offset]!];
      const part = found.get(home);
      if (part) part.push(r);
      else found.set(home, [r]);
    }
    const parts = [...found].map(([home, wanted]) => ({
      values: home?.values,
      from: Int32Array.from(wanted, (r) => (home ? this.#row[slots[r * stride + offset]!]! : 0)),
      to: Int32Array.from(wanted),
    }));
    const [first] = found.keys();
    const isAll = first && first.rows === rows && parts[0]!.from.every((row, at) => row === at);
    return isAll && parts.length === 1 ? first.values : this.#device.pick(parts, this.#size);
  }

  /** The inverse of `gather` for slots that differ: row `r` is from now on the state of slot `slots[r]`. Keeps the array. */
  scatter(slots: Int32Array, rows: number, values: T): void {
    for (let r = 0; r < rows; r++) this.clear(slots[r]!);
    const block: Block<T> = { values, rows, live: rows };
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
    if (home) into.set(this.#device.row(home.values, this.#row[slot]!, this.#size), offset);
    else into.fill(0, offset, offset + this.#size);
  }

  write(slot: number, values: Float32Array): void {
    this.scatter(Int32Array.of(slot), 1, this.#device.upload(values));
  }

  dispose(): void {
    for (const { values } of this.#blocks) this.#device.dispose(values);
    this.#blocks.clear();
    this.#homes.fill(undefined);
  }

  #drop(block: Block<T>): void {
    this.#blocks.delete(block);
    this.#rows -= block.rows;
    this.#device.dispose(block.values);
  }

  /** Puts all rows that live into one block. There is more than one block, or one with rows to leave out, so it is a new array. */
  #compact(): void {
    const slots = Int32Array.from(this.#homes.keys()).filter((slot) => this.#homes[slot]);
    if (slots.length === 0) return;
    const together = this.#device.tidy(() => this.gather(slots, 1, 0, slots.length));
    this.scatter(slots, slots.length, together);
  }
}

/** What a device does with its arrays of rows, `[rows, size]`. None of it changes an array. */
export interface RowArrays<T> {
  /** Makes an array of rows of others. */
  pick(parts: readonly RowPart<T>[], size: number): T;
  /** Makes an array of one row, of a copy of `values`. */
  upload(values: Float32Array): T;
  /** The values of one row. */
  row(values: T, row: number, size: number): Float32Array;
  /** Gives what `work` gives, and disposes of the other arrays that `pick` made meanwhile. */
  tidy(work: () => T): T;
  dispose(values: T): void;
}

/** Rows of an array, zeros where there is none: row `from[i]` becomes row `to[i]` of another. `to` ascends. */
export interface RowPart<T> {
  readonly values: T | undefined;
  readonly from: Int32Array;
  readonly to: Int32Array;
}

interface Block<T> {
  readonly values: T;
  readonly rows: number;
  /** Slots that live here. */
  live: number;
}

/** A block of so few rows that nothing is gained by putting it away. */
const FEW = 256;
/** A gather takes one operation for each block. */
const MOST_BLOCKS = 64;
