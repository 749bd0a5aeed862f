import type { Codec, OpenCodec } from "./codec.ts";
import { openSymbols } from "./symbol-codec.ts";
import { openTokenizer } from "./tokenizer-codec.ts";

/** Makes a codec ready to use. Rejects with INVALID_REQUEST where its package is missing or its file is no tokenizer. */
export async function openCodec(codec: Codec): Promise<OpenCodec> {
  return codec.kind === "tokenizer" ? openTokenizer(codec) : openSymbols(codec);
}
