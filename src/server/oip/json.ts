import { Fault } from "../../core/faults.ts";

/** As in Triton: deeper JSON is refused, so that nobody has to recurse without bound. */
export const MAX_DEPTH = 100;

/**
 * Parses JSON as Open Inference Protocol clients write it: integers beyond 2^53 become `bigint` with all their digits,
 * and the tokens `NaN`, `Infinity` and `-Infinity` are numbers. Throws INVALID_REQUEST, also past `MAX_DEPTH`.
 */
export function parseJson(text: string): unknown {
  checkDepth(text);
  try {
    return needsCare.test(text) ? new Parser(text).parse() : JSON.parse(text);
  } catch (error) {
    if (error instanceof Fault) throw error;
    throw new Fault("INVALID_REQUEST", `failed to parse the request JSON: ${(error as Error).message}`);
  }
}

/** What `JSON.parse` would round or refuse: long integers and tokens. May match inside a string, which only costs time. */
const needsCare = /(?<![\d.])\d{16}|NaN|Infinity/;

function checkDepth(text: string): void {
  let depth = 0;
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code === QUOTE) i = endOfString(text, i);
    else if (code === 0x5b || code === 0x7b) {
      if (++depth > MAX_DEPTH) {
        throw new Fault(
          "INVALID_REQUEST",
          `JSON nesting depth exceeds maximum allowed limit (${MAX_DEPTH}) at character ${i}`,
        );
      }
    } else if (code === 0x5d || code === 0x7d) depth--;
  }
}

const QUOTE = 0x22;
const BACKSLASH = 0x5c;

/** The place of the quote that closes the string which begins at `at`, or the text's end. */
function endOfString(text: string, at: number): number {
  let i = at + 1;
  while (i < text.length && text.charCodeAt(i) !== QUOTE) i += text.charCodeAt(i) === BACKSLASH ? 2 : 1;
  return i;
}

/** A recursive descent over text whose depth was checked; slower than `JSON.parse`, and exact. */
class Parser {
  readonly #text: string;
  #at = 0;

  constructor(text: string) {
    this.#text = text;
  }

  parse(): unknown {
    const value = this.#value();
    this.#space();
    if (this.#at < this.#text.length) throw this.#unexpected();
    return value;
  }

  #value(): unknown {
    this.#space();
    const char = this.#text[this.#at];
    if (char === "{") return this.#object();
    if (char === "[") return this.#array();
    if (char === '"') return this.#string();
    token.lastIndex = this.#at;
    const found = token.exec(this.#text)?.[0];
    if (found === undefined) throw this.#unexpected();
    this.#at += found.length;
    return words.has(found) ? words.get(found) : numberOf(found);
  }

  #object(): Record<string, unknown> {
    const object: Record<string, unknown> = {};
    this.#each("}", () => {
      this.#space();
      if (this.#text[this.#at] !== '"') throw this.#unexpected();
      const key = this.#string();
      this.#expect(":");
      const value = this.#value();
      // An own property even where the key is `__proto__`, as `JSON.parse` has it.
      Object.defineProperty(object, key, { value, enumerable: true, configurable: true, writable: true });
    });
    return object;
  }

  #array(): unknown[] {
    const array: unknown[] = [];
    this.#each("]", () => array.push(this.#value()));
    return array;
  }

  /** Reads what stands between an opening bracket and `close`, with commas between. */
  #each(close: string, read: () => void): void {
    this.#at++;
    this.#space();
    if (this.#text[this.#at] === close) {
      this.#at++;
      return;
    }
    for (;;) {
      read();
      this.#space();
      if (this.#text[this.#at] === close) break;
      this.#expect(",");
    }
    this.#at++;
  }

  #string(): string {
    const end = endOfString(this.#text, this.#at);
    const value = JSON.parse(this.#text.slice(this.#at, end + 1)) as string;
    this.#at = end + 1;
    return value;
  }

  #expect(char: string): void {
    this.#space();
    if (this.#text[this.#at] !== char) throw this.#unexpected();
    this.#at++;
  }

  #space(): void {
    while (" \t\r\n".includes(this.#text[this.#at] ?? "x")) this.#at++;
  }

  #unexpected(): Error {
    const char = this.#text[this.#at];
    return new Error(char ? `unexpected character ${JSON.stringify(char)} at ${this.#at}` : "unexpected end");
  }
}

const token = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false|null|NaN|-?Infinity/y;
const words = new Map<string, unknown>([
  ["true", true],
  ["false", false],
  ["null", null],
  ["NaN", Number.NaN],
  ["Infinity", Number.POSITIVE_INFINITY],
  ["-Infinity", Number.NEGATIVE_INFINITY],
]);

function numberOf(digits: string): number | bigint {
  const value = Number(digits);
  return Number.isSafeInteger(value) || /[.eE]/.test(digits) ? value : BigInt(digits);
}
