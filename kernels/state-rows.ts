/**
 * Where the rows of one state live, in plain host memory.
 *
 * A row is in the slab (one place per slot) or resident in a bank. Every cell that writes the state has two banks of
 * `maxBatch` rows: a task reads from one and writes to the other, and what it wrote is the next task's input as it
 * stands. So a chain whose rows keep their places copies nothing, and a row that joins, leaves or moves is copied alone.
 * A slot's row is copied to the slab only when the bank it lives in is about to be overwritten.
 */
export class StateRows {
  readonly #size: number;
  readonly #maxBatch: number;
  readonly #banks: Bank[];
  /** By cell: which of its two banks was written last. */
  readonly #latest: Uint8Array;
  #slab = new Float32Array(0);
  /** By slot: ZERO, SLAB or the number of a bank. */
  #home = new Int16Array(0);
  /** By slot: its row in that bank. */
  #row = new Int32Array(0);

  /** A state of `size` values per row, for `cells` cells with at most `maxBatch` rows. */
  constructor(size: number, cells: number, maxBatch: number) {
    this.#size = size;
    this.#maxBatch = maxBatch;
    this.#banks = Array.from({ length: 2 * cells }, () => ({
      values: NOTHING,
      slots: new Int32Array(0),
      rows: 0,
    }));
    this.#latest = new Uint8Array(cells);
  }

  /** What its rows take. */
  get bytes(): number {
    const places = this.#home.byteLength + this.#row.byteLength;
    return this.#banks.reduce((sum, { values }) => sum + values.byteLength, this.#slab.byteLength + places);
  }

  /** Which of a cell's two banks the next task reads; it writes the other. */
  side(cell: number): 0 | 1 {
    return this.#latest[cell] as 0 | 1;
  }

  /** The values of a bank, `[maxBatch, size]`; the same array for as long as the object lives. */
  bank(cell: number, side: 0 | 1): Float32Array {
    return this.#bank(2 * cell + side).values;
  }

  reserve(count: number): void {
    if (count <= this.#home.length) return;
    const slab = new Float32Array(count * this.#size);
    slab.set(this.#slab);
    this.#slab = slab;
    const home = new Int16Array(count).fill(ZERO);
    home.set(this.#home);
    this.#home = home;
    const row = new Int32Array(count);
    row.set(this.#row);
    this.#row = row;
  }

  /** Brings the state of slot `slots[r]` into row `r` of the bank that the cell's next task reads. */
  align(cell: number, slots: Int32Array, rows: number): void {
    const at = 2 * cell + this.#latest[cell]!;
    const bank = this.#bank(at);
    const home = this.#home;
    const row = this.#row;
    for (let r = 0; r < rows; r++) {
      const slot = slots[r]!;
      if (home[slot] === at && row[slot] === r) continue;
      if (r < bank.rows) this.#park(bank, at, r);
      this.#copy(slot, bank.values, r);
    }
  }

  /** Copies the state of slot `slots[r * stride + offset]` into row `r` of `into`. */
  gather(into: Float32Array, slots: Int32Array, stride: number, offset: number, rows: number): void {
    for (let r = 0; r < rows; r++) this.#copy(slots[r * stride + offset]!, into, r);
  }

  /** Makes the bank that the cell's next task writes free to be overwritten. */
  vacate(cell: number): void {
    const at = 2 * cell + (1 - this.#latest[cell]!);
    const bank = this.#bank(at);
    for (let r = 0; r < bank.rows; r++) this.#park(bank, at, r);
    bank.rows = 0;
  }

  /** Says that the task has written: row `r` of the bank is now the state of slot `slots[r]`. */
  commit(cell: number, slots: Int32Array, rows: number): void {
    const side = 1 - this.#latest[cell]!;
    const at = 2 * cell + side;
    const bank = this.#bank(at);
    for (let r = 0; r < rows; r++) {
      const slot = slots[r]!;
      this.#home[slot] = at;
      this.#row[slot] = r;
      bank.slots[r] = slot;
    }
    bank.rows = rows;
    this.#latest[cell] = side;
  }

  clear(slot: number): void {
    this.#home[slot] = ZERO;
  }

  read(slot: number, into: Float32Array, offset: number): void {
    const home = this.#home[slot]!;
    if (home === ZERO) into.fill(0, offset, offset + this.#size);
    else into.set(this.#view(slot), offset);
  }

  write(slot: number, values: Float32Array): void {
    this.#home[slot] = SLAB;
    this.#slab.set(values, slot * this.#size);
  }

  /** Copies the live state in row `r` of a bank to the slab. */
  #park(bank: Bank, at: number, r: number): void {
    const slot = bank.slots[r]!;
    if (this.#home[slot] !== at || this.#row[slot] !== r) return;
    this.#slab.set(this.#view(slot), slot * this.#size);
    this.#home[slot] = SLAB;
  }

  #copy(slot: number, into: Float32Array, r: number): void {
    if (this.#home[slot] === ZERO) into.fill(0, r * this.#size, (r + 1) * this.#size);
    else into.set(this.#view(slot), r * this.#size);
  }

  #view(slot: number): Float32Array {
    const home = this.#home[slot]!;
    const size = this.#size;
    if (home === SLAB) return this.#slab.subarray(slot * size, (slot + 1) * size);
    const row = this.#row[slot]!;
    return this.#banks[home]!.values.subarray(row * size, (row + 1) * size);
  }

  #bank(at: number): Bank {
    const bank = this.#banks[at]!;
    if (bank.values === NOTHING) {
      bank.values = new Float32Array(this.#maxBatch * this.#size);
      bank.slots = new Int32Array(this.#maxBatch);
    }
    return bank;
  }
}

interface Bank {
  values: Float32Array;
  /** The slot whose state was written to a row; it lives there for as long as its home says so. */
  slots: Int32Array;
  /** Rows that were written last time. */
  rows: number;
}

/** Was cleared or never written. */
const ZERO = -2;
const SLAB = -1;
const NOTHING = new Float32Array(0);
