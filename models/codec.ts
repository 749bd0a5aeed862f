import { Fault } from "../src/core/faults.ts";

/** How text becomes tokens and tokens become text. Plain data, so that it can be sent to an engine's thread. */
export type Codec =
  /** One token per character (code point); the index in `symbols` is the token. `lowerCase` folds the text first. */
  | { readonly kind: "characters"; readonly symbols: readonly string[]; readonly lowerCase?: boolean }
  /** Symbols with spaces between them. */
  | { readonly kind: "symbols"; readonly symbols: readonly string[] };

/** Throws INVALID_INPUT for a symbol the model does not know. */
export function encode(codec: Codec, text: string): Int32Array {
  const folded = codec.kind === "characters" && codec.lowerCase ? text.toLowerCase() : text;
  const parts = codec.kind === "characters" ? [...folded] : folded.split(" ").filter((part) => part !== "");
  const index = indexOf(codec);
  return Int32Array.from(parts, (part) => {
    const token = index.get(part);
    if (token === undefined) {
      throw new Fault("INVALID_INPUT", `${JSON.stringify(part)} is not among the model's symbols`);
    }
    return token;
  });
}

export function decode(codec: Codec, tokens: ArrayLike<number>): string {
  return Array.from(tokens, (token) => codec.symbols[token] ?? "\uFFFD").join(
    codec.kind === "characters" ? "" : " ",
  );
}

const indexes = new WeakMap<Codec, Map<string, number>>();

function indexOf(codec: Codec): Map<string, number> {
  let index = indexes.get(codec);
  if (!index) {
    index = new Map(codec.symbols.map((symbol, token) => [symbol, token]));
    indexes.set(codec, index);
  }
  return index;
}
