import type { TextStream } from "./codec.ts";

/**
 * Decodes tokens as they come, where the bytes of one character may be spread over several tokens and a token's text may
 * depend on whether it is the first one (a leading space, say). Each time the last few tokens are decoded together, and
 * what is new is given away, up to a character that is still incomplete.
 */
export function streamOf(decode: (tokens: readonly number[]) => string): TextStream {
  let tokens: number[] = [];
  /** How much of the text of `tokens` was given away. */
  let given = 0;
  return {
    push: (next) => {
      tokens = [...tokens, ...Array.from(next)];
      const text = decode(tokens);
      const isWhole = !text.endsWith(INCOMPLETE);
      const certain = isWhole ? text : text.slice(0, -INCOMPLETE.length);
      const fresh = certain.slice(given);
      given = Math.max(given, certain.length);
      if ((isWhole && fresh !== "") || tokens.length >= MOST_TOKENS) {
        tokens = tokens.slice(-CONTEXT);
        const kept = decode(tokens);
        given = kept.endsWith(INCOMPLETE) ? kept.length - INCOMPLETE.length : kept.length;
      }
      return fresh;
    },
    end: () => decode(tokens).slice(given),
  };
}

/** What decoders put where bytes are no character, or not yet. */
const INCOMPLETE = "\uFFFD";
/** Tokens that are decoded again: the three that may hold the bytes of one character before its last, and one to be first. */
const CONTEXT = 4;
/** A character has four bytes at most: so many tokens without one are no character. */
const MOST_TOKENS = 32;
