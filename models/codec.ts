import type { Tensor, TensorSpec } from "../src/core/tensor.ts";

/** How text becomes tokens and tokens become text. Plain data; `openCodec` makes it ready to use. */
export type Codec = SymbolCodec | TokenizerCodec | BracketsCodec;

/**
 * A list of symbols, in which a symbol's index is its token: one for every `characters` (code point) of the text, or
 * `symbols` with spaces between them.
 */
export interface SymbolCodec {
  readonly kind: "characters" | "symbols";
  readonly symbols: readonly string[];
  /** Folds text to lower case first. @default false */
  readonly lowerCase?: boolean;
  /** The symbol that stands for all that are not in the list. @default none: text with one is refused */
  readonly unknown?: string;
}

/** A `tokenizer.json` of Hugging Face: BPE, WordPiece or Unigram with all that surrounds them. */
export interface TokenizerCodec {
  readonly kind: "tokenizer";
  /** The content of the file. */
  readonly json: string;
  /** Whether the file's own special tokens (such as `[CLS]`) are put around a text. @default true */
  readonly addSpecialTokens?: boolean;
  /** Whether special tokens are left out of decoded text. @default true */
  readonly skipSpecialTokens?: boolean;
}

/**
 * A tree: symbols with spaces between them, in brackets of one character each. A bracket that is among the symbols, alone or
 * with the word that stands at it, is also one. See `encodeTree`. For inputs only.
 */
export interface BracketsCodec {
  readonly kind: "brackets";
  readonly symbols: readonly string[];
  /** The tensor that gets the tree's shape. */
  readonly tree: string;
  readonly open: string;
  readonly close: string;
}

/** A codec that is ready to use. */
export interface OpenCodec {
  /** How many tokens it knows. */
  readonly size: number;
  /** Throws INVALID_INPUT for what it cannot encode, and TOO_LARGE where the text has more than `most` tokens for sure. */
  encode(text: string, most: number): Int32Array;
  decode(tokens: ArrayLike<number>): string;
  /** Of a text that is a tree: the tensor that gets its shape, and what encodes both. */
  readonly tree?: {
    readonly tensor: string;
    encode(text: string, spec: TensorSpec): { readonly tokens: Int32Array; readonly tree: Tensor };
  };
  /** Where tokens come one after the other. */
  stream(): TextStream;
}

/** Decodes tokens as they come; see `stream` of `OpenCodec`. */
export interface TextStream {
  /** What the tokens of one step make certain: "" as long as a character is incomplete. */
  push(tokens: ArrayLike<number>): string;
  /** What was held back when the last token has come. */
  end(): string;
}
