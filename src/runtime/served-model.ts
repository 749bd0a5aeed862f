import type { Codec, OpenCodec } from "../../models/codec.ts";
import type { ModelDefinition, TextValue } from "../../models/definition.ts";
import { openCodec } from "../../models/open-codec.ts";
import { Fault } from "../core/faults.ts";

/** A model with its codecs ready. */
export interface ServedModel {
  readonly definition: ModelDefinition;
  readonly texts: { readonly inputs: readonly OpenText[]; readonly outputs: readonly OpenText[] };
}

export interface OpenText {
  readonly name: string;
  readonly tensor: string;
  readonly codec: OpenCodec;
}

/** Opens the codecs of a model. Rejects with INVALID_REQUEST that names the model and the text. */
export async function servedModel(definition: ModelDefinition): Promise<ServedModel> {
  const { name, text } = definition;
  // An input and an output mostly share their codec, which may take megabytes.
  const opened = new Map<string, Promise<OpenCodec>>();
  const openOnce = (codec: Codec): Promise<OpenCodec> => {
    const key = JSON.stringify(codec);
    const open = opened.get(key) ?? openCodec(codec);
    opened.set(key, open);
    return open;
  };
  const openAll = (values: readonly TextValue[] = []) =>
    Promise.all(
      values.map(async (value) => {
        const codec = await openOnce(value.codec).catch((error) => {
          const { code, message } = Fault.from(error);
          throw new Fault(code, `text '${value.name}' of model '${name}': ${message}`, { cause: error });
        });
        return { ...value, codec };
      }),
    );
  return {
    definition,
    texts: { inputs: await openAll(text?.inputs), outputs: await openAll(text?.outputs) },
  };
}
