import type { TextStream } from "../../models/codec.ts";
import type { Tensor } from "../core/tensor.ts";
import type { ServedModel } from "./served-model.ts";
import type { StepOutput, Value } from "./types.ts";

/** The texts of one request as they come step by step. */
export class StepTexts {
  readonly #model: ServedModel;
  /** By name of the text. */
  readonly #streams = new Map<string, TextStream>();
  #steps = 0;

  constructor(model: ServedModel) {
    this.#model = model;
  }

  /** One output of a step as its callers see it: name and value. */
  value(step: number, output: number, tensor: Tensor): readonly [string, Value] {
    const { definition, texts } = this.#model;
    this.#steps = step + 1;
    const { name } = definition.outputs[output]!;
    const text = texts.outputs.find((one) => one.tensor === name);
    if (!text) return [name, tensor];
    let stream = this.#streams.get(text.name);
    if (!stream) {
      stream = text.codec.stream();
      this.#streams.set(text.name, stream);
    }
    return [text.name, stream.push(tensor.data)];
  }

  /** One step more with what was held back, where something was: the bytes of a character that was never finished. */
  rest(): StepOutput | undefined {
    const rest = [...this.#streams].map(([name, stream]) => [name, stream.end()] as const);
    const outputs = Object.fromEntries(rest.filter(([, text]) => text !== ""));
    return Object.keys(outputs).length === 0 ? undefined : { step: this.#steps, outputs };
  }
}
