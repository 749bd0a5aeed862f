import { Fault } from "../../core/faults.ts";
import type { ModelInfo, ValueSpec } from "../../runtime/types.ts";
import { inputOf } from "../oip/plain-inputs.ts";
import type { InferAnswer, InputTensor, ParameterValue } from "../oip/types.ts";
import { jsonValuesOf } from "../oip/write-tensors.ts";
import type { Target } from "./infer-json.ts";
import type { GenerateBody } from "./schemas.ts";

/** A generate request as an infer request, and how its answers name their outputs. */
export interface HttpGenerate {
  readonly request: {
    readonly id: string;
    readonly parameters: ReadonlyMap<string, ParameterValue>;
    readonly inputs: readonly InputTensor[];
    readonly outputs: undefined;
  } & Target;
  readonly nameOf: (output: string) => string;
}

/**
 * Reads a generate request: keys that name inputs are inputs, other keys are parameters. `text_input` stands for the one
 * text input of a model, and its answer then says `text_output`. Throws INVALID_REQUEST.
 */
export function readGenerate(target: Target, model: ModelInfo, body: GenerateBody): HttpGenerate {
  const { id = "", parameters: given = {}, ...rest } = body;
  const parameters = new Map(Object.entries(given));
  const inputs: InputTensor[] = [];
  let aliased = false;
  for (const [key, value] of Object.entries(rest)) {
    const alias = key === "text_input" ? onlyText(model.inputs) : undefined;
    const spec = model.inputs.find(({ name }) => name === key) ?? alias;
    if (spec) inputs.push(inputOf(spec, value));
    else if (isScalar(value)) parameters.set(key, value);
    else {
      const names = model.inputs.map(({ name }) => name).join(", ");
      throw new Fault(
        "INVALID_REQUEST",
        `'${key}' is neither an input of model '${model.name}', which takes ${names}, nor a parameter`,
      );
    }
    if (spec && spec.name !== key) aliased = true;
  }
  const text = aliased ? onlyText(model.outputs)?.name : undefined;
  return {
    request: { ...target, id, parameters, inputs, outputs: undefined },
    nameOf: (output) => (output === text ? "text_output" : output),
  };
}

function onlyText(specs: readonly ValueSpec[]): ValueSpec | undefined {
  const texts = specs.filter(({ type }) => type === "text");
  return texts.length === 1 ? texts[0] : undefined;
}

function isScalar(value: unknown): value is ParameterValue {
  return ["string", "number", "boolean", "bigint"].includes(typeof value);
}

/** An answer as one JSON object: text as a string, one value as itself, more as a flat array. */
export function writeGenerated(
  { id, model, version, outputs }: InferAnswer,
  nameOf: HttpGenerate["nameOf"],
): string {
  const written = outputs.map((output) => {
    const values = jsonValuesOf(output);
    const count = "texts" in output ? output.texts.length : output.tensor.data.length;
    return `${JSON.stringify(nameOf(output.name))}:${count === 1 ? values : `[${values}]`}`;
  });
  const head = [
    ...(id === "" ? [] : [`"id":${JSON.stringify(id)}`]),
    `"model_name":${JSON.stringify(model)}`,
    `"model_version":${JSON.stringify(version)}`,
  ];
  return `{${[...head, ...written].join(",")}}`;
}
