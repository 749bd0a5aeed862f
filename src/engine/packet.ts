import type { Tensor } from "../core/tensor.ts";

/** Writes records of numbers, tensors and text into one buffer that is handed to another thread as a whole. */
export class PacketWriter {
  #words = new Int32Array(INITIAL_WORDS);
  #floats = new Float32Array(this.#words.buffer);
  #length = 0;

  get isEmpty(): boolean {
    return this.#length === 0;
  }

  int(value: number): void {
    if (this.#length === this.#words.length) this.#grow(1);
    this.#words[this.#length++] = value;
  }

  double(value: number): void {
    scratch[0] = value;
    this.int(scratchWords[0]!);
    this.int(scratchWords[1]!);
  }

  text(text: string): void {
    const bytes = encoder.encode(text);
    const words = (bytes.length + 3) >> 2;
    this.int(bytes.length);
    if (this.#length + words > this.#words.length) this.#grow(words);
    new Uint8Array(this.#words.buffer).set(bytes, this.#length * 4);
    this.#length += words;
  }

  /** `length` values of `data` from `from`, as a tensor. */
  tensor(shape: readonly number[], data: Float32Array | Int32Array, from = 0, length = data.length): void {
    this.int(data instanceof Int32Array ? 1 : 0);
    this.int(shape.length);
    for (const dim of shape) this.int(dim);
    this.values(data, from, length);
  }

  values(data: Float32Array | Int32Array, from = 0, length = data.length): void {
    this.int(length);
    if (this.#length + length > this.#words.length) this.#grow(length);
    const to = data instanceof Int32Array ? this.#words : this.#floats;
    if (length < FEW) for (let i = 0; i < length; i++) to[this.#length + i] = data[from + i]!;
    else to.set(length === data.length ? data : data.subarray(from, from + length), this.#length);
    this.#length += length;
  }

  /** What was written, in a buffer of its own; the writer is empty again. */
  take(): ArrayBuffer {
    const packet = this.#words.buffer.slice(0, this.#length * 4);
    this.#length = 0;
    return packet;
  }

  #grow(words: number): void {
    const grown = new Int32Array(Math.max(this.#words.length * 2, this.#length + words));
    grown.set(this.#words);
    this.#words = grown;
    this.#floats = new Float32Array(grown.buffer);
  }
}

/** Reads what a `PacketWriter` wrote; tensors are views of the packet. */
export class PacketReader {
  readonly words: Int32Array;
  /** The next word to read. */
  position = 0;
  #floats: Float32Array | undefined;

  constructor(packet: ArrayBuffer) {
    this.words = new Int32Array(packet);
  }

  get isDone(): boolean {
    return this.position >= this.words.length;
  }

  /** The whole packet as floats, by word. */
  get allFloats(): Float32Array {
    this.#floats ??= new Float32Array(this.words.buffer);
    return this.#floats;
  }

  int(): number {
    return this.words[this.position++]!;
  }

  /** Goes past `words` where they come next; answers whether they do. */
  skip(words: Int32Array): boolean {
    for (let i = 0; i < words.length; i++) if (this.words[this.position + i] !== words[i]) return false;
    this.position += words.length;
    return true;
  }

  double(): number {
    scratchWords[0] = this.int();
    scratchWords[1] = this.int();
    return scratch[0]!;
  }

  text(): string {
    const bytes = this.int();
    const view = new Uint8Array(this.words.buffer, this.position * 4, bytes);
    this.position += (bytes + 3) >> 2;
    return decoder.decode(view);
  }

  tensor(): Tensor {
    const isInteger = this.int() === 1;
    const shape = Array.from({ length: this.int() }, () => this.int());
    return isInteger
      ? { dtype: "int32", shape, data: this.ints() }
      : { dtype: "float32", shape, data: this.floats() };
  }

  floats(): Float32Array {
    const length = this.int();
    const view = new Float32Array(this.words.buffer, this.position * 4, length);
    this.position += length;
    return view;
  }

  ints(): Int32Array {
    const length = this.int();
    const view = this.words.subarray(this.position, this.position + length);
    this.position += length;
    return view;
  }
}

const INITIAL_WORDS = 1024;
/** Below this many values a loop is quicker than `set`. */
const FEW = 32;
const encoder = new TextEncoder();
const decoder = new TextDecoder();
const scratch = new Float64Array(1);
const scratchWords = new Int32Array(scratch.buffer);
