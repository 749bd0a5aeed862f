import { z } from "zod";
import { Fault } from "../src/core/faults.ts";
import type { OpenCodec, TokenizerCodec } from "./codec.ts";
import { streamOf } from "./text-stream.ts";

/** What we use of `@huggingface/tokenizers`; its own types cannot be resolved from an ES module. */
interface Library {
  readonly Tokenizer: new (json: object, config: object) => Tokenizer;
}

interface Tokenizer {
  encode(
    text: string,
    options: { readonly add_special_tokens: boolean },
  ): { readonly ids: readonly (number | undefined)[]; readonly tokens: readonly string[] };
  decode(tokens: readonly number[], options: { readonly clean_up_tokenization_spaces: boolean }): string;
  id_to_token(token: number): string | undefined;
  get_vocab(withAddedTokens: boolean): ReadonlyMap<string, number>;
  get_added_tokens_decoder(): ReadonlyMap<number, { readonly special: boolean }>;
}

/**
 * A `tokenizer.json`, ready to use. `load` imports the library, which is installed only where a model wants it. Rejects
 * with INVALID_REQUEST where it is missing, or where it cannot read the file.
 */
export async function openTokenizer(
  { json, addSpecialTokens = true, skipSpecialTokens = true }: TokenizerCodec,
  load: () => Promise<Library> = () => import("@huggingface/tokenizers") as Promise<Library>,
): Promise<OpenCodec> {
  const library = await load().catch((cause: NodeJS.ErrnoException) => {
    const isMissing = cause.code === "ERR_MODULE_NOT_FOUND";
    const why = isMissing ? "which is not installed: npm install @huggingface/tokenizers" : cause.message;
    throw new Fault(
      "INVALID_REQUEST",
      `a codec 'tokenizer' needs the package @huggingface/tokenizers, ${why}`,
      {
        cause,
      },
    );
  });
  const tokenizer = read(library, json);
  const vocabulary = tokenizer.get_vocab(true);
  let longest = 1;
  for (const token of vocabulary.keys()) longest = Math.max(longest, token.length);
  const special = new Set<number>();
  for (const [token, { special: isSpecial }] of tokenizer.get_added_tokens_decoder()) {
    if (isSpecial && skipSpecialTokens) special.add(token);
  }
  const isShown = (token: number) => !special.has(token) && tokenizer.id_to_token(token) !== undefined;
  const decode = (tokens: readonly number[]) =>
    tokens.length === 0 ? "" : tokenizer.decode(tokens, { clean_up_tokenization_spaces: false });
  return {
    size: vocabulary.size,
    encode: (text, most) => {
      if (text.length > most * longest) {
        throw new Fault("TOO_LARGE", `a text of ${text.length} characters has more than ${most} tokens`);
      }
      const { ids, tokens } = tokenizer.encode(text, { add_special_tokens: addSpecialTokens });
      return Int32Array.from(ids, (id, at) => {
        if (id !== undefined) return id;
        throw new Fault("INVALID_INPUT", `${JSON.stringify(tokens[at])} is not among the model's tokens`);
      });
    },
    decode: (tokens) => decode(Array.from(tokens).filter(isShown)),
    stream: () => {
      const { push, end } = streamOf(decode);
      return { push: (tokens) => push(Array.from(tokens).filter(isShown)), end };
    },
  };
}

function read({ Tokenizer }: Library, json: string): Tokenizer {
  const parsed = TokenizerFile.safeParse(parse(json));
  if (!parsed.success) {
    throw new Fault("INVALID_REQUEST", `the file is no tokenizer.json: ${z.prettifyError(parsed.error)}`);
  }
  try {
    return new Tokenizer(parsed.data, {});
  } catch (cause) {
    throw new Fault("INVALID_REQUEST", `the tokenizer.json cannot be used: ${(cause as Error).message}`, {
      cause,
    });
  }
}

function parse(json: string): unknown {
  try {
    return JSON.parse(json);
  } catch (cause) {
    throw new Fault("INVALID_REQUEST", `the tokenizer.json is no JSON: ${(cause as Error).message}`, {
      cause,
    });
  }
}

/** What every file has; the library checks the parts that it uses. */
const TokenizerFile = z.looseObject({
  model: z.looseObject({ type: z.enum(["BPE", "WordPiece", "Unigram"]) }),
  added_tokens: z.array(z.looseObject({ id: z.number().int().min(0), content: z.string() })).default([]),
  normalizer: z.unknown().default(null),
  pre_tokenizer: z.unknown().default(null),
  post_processor: z.unknown().default(null),
  decoder: z.unknown().default(null),
});
