/** How text becomes tokens and tokens become text. Plain data; `openCodec` makes it ready to use. */
export type Codec = SymbolCodec | TokenizerCodec;

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

/** A codec that is ready to use. */
export interface OpenCodec {
  /** How many tokens it knows. */
  readonly size: number;
  /** Throws INVALID_INPUT for what it cannot encode, and TOO_LARGE where the text has more than `most` tokens for sure. */
  encode(text: string, most: number): Int32Array;
  decode(tokens: ArrayLike<number>): string;
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
