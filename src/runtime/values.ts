import type { OpenCodec } from "../../models/codec.ts";
import type { ModelDefinition } from "../../models/definition.ts";
import { Fault } from "../core/faults.ts";
import { checkTensor, int32, type Tensor } from "../core/tensor.ts";
import type { ServedModel } from "./served-model.ts";
import type { Value, ValueSpec, Values } from "./types.ts";

const MAX_INPUT_STEPS = 10_000;

/**
 * The tensors of a request, by input of the model; text is encoded, and where `steps` is set a value of one step gets its
 * leading axis. Throws INVALID_INPUT or TOO_LARGE, naming the input.
 */
export function tensorsOf(served: ServedModel, values: Values, steps: boolean): Tensor[] {
  const { definition: model } = served;
  const texts = served.texts.inputs;
  const most = model.maxInputSteps ?? MAX_INPUT_STEPS;
  const tensors: Tensor[] = [];
  for (const [name, value] of Object.entries(values)) {
    const text = texts.find((one) => one.name === name);
    if (typeof value === "string" && !text) {
      throw new Fault(
        "INVALID_INPUT",
        `input '${name}' is text, model '${model.name}' takes ${namesOf(model)}`,
      );
    }
    const at = model.inputs.findIndex((input) => input.name === (text?.tensor ?? name));
    const spec = model.inputs[at];
    if (!spec) {
      throw new Fault(
        "INVALID_INPUT",
        `model '${model.name}' has no input '${name}', it takes ${namesOf(model)}`,
      );
    }
    if (tensors[at]) {
      const whole = `'${spec.name}' of model '${model.name}'`;
      throw new Fault("INVALID_INPUT", `input '${name}' gives ${whole}, which another input gives already`);
    }
    let tensor = typeof value === "string" ? encoded(model, text!.codec, value, tensors) : value;
    if (steps && tensor.shape.length === spec.shape.length - 1) {
      tensor = { ...tensor, shape: [1, ...tensor.shape] } as Tensor;
    }
    checkTensor(tensor, spec);
    checkFinite(tensor, name);
    if (tensor.shape[0]! > most) {
      throw new Fault(
        "TOO_LARGE",
        `input '${name}' has ${tensor.shape[0]} steps, model '${model.name}' takes ${most}`,
      );
    }
    tensors[at] = tensor;
  }
  model.inputs.forEach((spec, at) => {
    if (tensors[at]) return;
    const name = texts.find(({ tensor }) => tensor === spec.name)?.name ?? spec.name;
    throw new Fault("INVALID_INPUT", `input '${name}' of model '${model.name}' is missing`);
  });
  return tensors;
}

/** One output of the model as its callers see it: name and value. */
export function outputValue(
  { definition, texts }: ServedModel,
  output: number,
  tensor: Tensor,
): readonly [string, Value] {
  const { name } = definition.outputs[output]!;
  const text = texts.outputs.find((one) => one.tensor === name);
  return text ? [text.name, text.codec.decode(tensor.data)] : [name, tensor];
}

export function inputSpecs({ inputs, text }: ModelDefinition): ValueSpec[] {
  return inputs.flatMap(({ name, dtype, shape }): ValueSpec[] => {
    const own = text?.inputs.find(({ tensor }) => tensor === name);
    if (own) return [{ name: own.name, type: "text", shape: [] }];
    // The text of a tree in brackets holds its shape too.
    if (text?.inputs.some(({ codec }) => codec.kind === "brackets" && codec.tree === name)) return [];
    return [{ name, type: dtype, shape }];
  });
}

export function outputSpecs({ outputs, text }: ModelDefinition): ValueSpec[] {
  return outputs.map(({ name, dtype, shape }) => {
    const codec = text?.outputs.find(({ tensor }) => tensor === name);
    return codec ? { name: codec.name, type: "text", shape: [] } : { name, type: dtype, shape };
  });
}

/** The tokens of a text; the shape of a tree goes to its own place among the tensors. */
function encoded(model: ModelDefinition, codec: OpenCodec, text: string, tensors: Tensor[]): Tensor {
  if (!codec.tree) {
    const tokens = codec.encode(text, model.maxInputSteps ?? MAX_INPUT_STEPS);
    return int32([tokens.length], tokens);
  }
  const { tensor, encode } = codec.tree;
  const at = model.inputs.findIndex(({ name }) => name === tensor);
  const { tokens, tree } = encode(text, model.inputs[at]!);
  tensors[at] = tree;
  return int32([tokens.length], tokens);
}

/** Whether all values are numbers: anything else times 0 is none, and so is the sum. Takes a third of the time of asking each. */
function hasOnlyNumbers(values: Float32Array): boolean {
  let [a, b, c, d] = [0, 0, 0, 0];
  const whole = values.length & ~3;
  for (let i = 0; i < whole; i += 4) {
    a += values[i]! * 0;
    b += values[i + 1]! * 0;
    c += values[i + 2]! * 0;
    d += values[i + 3]! * 0;
  }
  for (let i = whole; i < values.length; i++) a += values[i]! * 0;
  return a + b + c + d === 0;
}

function checkFinite({ dtype, data }: Tensor, name: string): void {
  if (dtype === "int32" || hasOnlyNumbers(data)) return;
  for (let i = 0; i < data.length; i++) {
    if (!Number.isFinite(data[i]))
      throw new Fault("INVALID_INPUT", `input '${name}' holds ${data[i]} at ${i}`);
  }
}

function namesOf(model: ModelDefinition): string {
  return inputSpecs(model)
    .map(({ name, type, shape }) => `'${name}' (${type}${type === "text" ? "" : ` [${shape.join(", ")}]`})`)
    .join(", ");
}
