import { Fault } from "../src/core/faults.ts";
import type { OpenCodec, SymbolCodec } from "./codec.ts";

/** A list of symbols, ready to use. Throws INVALID_REQUEST where its `unknown` is not in it. */
export function openSymbols({ kind, symbols, lowerCase = false, unknown }: SymbolCodec): OpenCodec {
  const index = new Map(symbols.map((symbol, token) => [symbol, token]));
  const other = unknown === undefined ? undefined : index.get(unknown);
  if (unknown !== undefined && other === undefined) {
    throw new Fault(
      "INVALID_REQUEST",
      `the unknown symbol ${JSON.stringify(unknown)} is not among the symbols`,
    );
  }
  const decode = (tokens: ArrayLike<number>) =>
    Array.from(tokens, (token) => symbols[token] ?? "\uFFFD").join(kind === "characters" ? "" : " ");
  return {
    size: symbols.length,
    encode: (text) => {
      const folded = lowerCase ? text.toLowerCase() : text;
      const parts = kind === "characters" ? [...folded] : folded.split(" ").filter((part) => part !== "");
      return Int32Array.from(parts, (part) => {
        const token = index.get(part) ?? other;
        if (token !== undefined) return token;
        throw new Fault("INVALID_INPUT", `${JSON.stringify(part)} is not among the model's symbols`);
      });
    },
    decode,
    // A symbol is whole in itself; those with spaces between them come without, one by one.
    stream: () => ({ push: decode, end: () => "" }),
  };
}
