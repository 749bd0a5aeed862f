import { closeSync, fstatSync, openSync, writeSync } from "node:fs";
import { tooLarge } from "../core/recording.ts";

export interface RecordingFileSettings {
  readonly path: string;
  /** Names the pieces of one writer among those of others. */
  readonly life: number;
  /** Bytes that the file may have, with what others write to it. @default no limit */
  readonly limit?: number;
  /** Called once where the file cannot be written any more, or would be too large; nothing is recorded from then on. */
  readonly failed: (error: Error) => void;
}

/**
 * The end of a file that several threads write to: lines are gathered and appended in pieces of whole lines. Digits go straight
 * into a buffer, so that a line costs some tens of nanoseconds and no garbage.
 */
export class RecordingFile {
  readonly #settings: RecordingFileSettings;
  #file: number | undefined;
  #bytes = Buffer.allocUnsafe(2 * PIECE_BYTES);
  #length = 0;
  #pieces = 0;

  /** Throws where the file cannot be opened for appending. */
  constructor(settings: RecordingFileSettings) {
    this.#settings = settings;
    this.#file = openSync(settings.path, "a");
  }

  /** Whether there are so many lines that it is time to write them. */
  get isFull(): boolean {
    return this.#length >= PIECE_BYTES;
  }

  /** Begins a line; `letter` is a character's code. */
  begin(letter: number): void {
    if (this.#length === 0) {
      this.#put(AT);
      this.#digits(this.#settings.life);
      this.int(this.#pieces++);
      this.#put(NEW_LINE);
    }
    this.#put(letter);
  }

  /** A whole number of 0 or more. */
  int(value: number): void {
    this.#put(SPACE);
    this.#digits(value);
  }

  text(text: string): void {
    const bytes = Buffer.byteLength(text);
    this.#makeRoom(bytes + 1);
    this.#put(SPACE);
    this.#length += this.#bytes.write(text, this.#length);
  }

  /** Exactly; `-` for infinity. */
  double(value: number): void {
    if (value !== Number.POSITIVE_INFINITY) {
      this.text(String(value));
      return;
    }
    this.#put(SPACE);
    this.#put(DASH);
  }

  end(): void {
    this.#put(NEW_LINE);
  }

  /** Writes the lines that have ended, between two lines. */
  flush(): void {
    const end = this.#length;
    this.#length = 0;
    if (this.#file === undefined) return;
    const { path, limit = Number.POSITIVE_INFINITY } = this.#settings;
    try {
      if (fstatSync(this.#file).size + end > limit) this.#fail(tooLarge(path, limit));
      else for (let at = 0; at < end; ) at += writeSync(this.#file, this.#bytes, at, end - at);
    } catch (error) {
      this.#fail(`${path} cannot be written: ${(error as Error).message}`);
    }
  }

  #fail(message: string): void {
    this.close();
    this.#settings.failed(new Error(message));
  }

  close(): void {
    if (this.#file !== undefined) closeSync(this.#file);
    this.#file = undefined;
  }

  #put(code: number): void {
    if (this.#length + LONGEST_NUMBER > this.#bytes.length) this.#makeRoom(LONGEST_NUMBER);
    this.#bytes[this.#length++] = code;
  }

  #digits(value: number): void {
    this.#makeRoom(LONGEST_NUMBER);
    let count = 1;
    for (let rest = value; rest >= 10; rest = Math.floor(rest / 10)) count++;
    let rest = value;
    for (let at = this.#length + count - 1; at >= this.#length; at--) {
      const next = Math.floor(rest / 10);
      this.#bytes[at] = ZERO + (rest - 10 * next);
      rest = next;
    }
    this.#length += count;
  }

  #makeRoom(bytes: number): void {
    if (this.#length + bytes <= this.#bytes.length) return;
    const grown = Buffer.allocUnsafe(2 * (this.#length + bytes));
    this.#bytes.copy(grown, 0, 0, this.#length);
    this.#bytes = grown;
  }
}

const PIECE_BYTES = 1 << 16;
/** Digits of the largest whole number, and a sign. */
const LONGEST_NUMBER = 20;
const [AT, SPACE, DASH, NEW_LINE, ZERO] = [64, 32, 45, 10, 48];
