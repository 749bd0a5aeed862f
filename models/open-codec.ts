import { openBrackets } from "./brackets.ts";
import type { Codec, OpenCodec } from "./codec.ts";
import { openSymbols } from "./symbol-codec.ts";
import { openTokenizer } from "./tokenizer-codec.ts";

/** Makes a codec ready to use. Rejects with INVALID_REQUEST where its package is missing or its file is no tokenizer. */
export async function openCodec(codec: Codec): Promise<OpenCodec> {
  if (codec.kind === "brackets") return openBrackets(codec);
  return codec.kind === "tokenizer" ? openTokenizer(codec) : openSymbols(codec);
}
