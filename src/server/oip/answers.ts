import { Fault } from "../../core/faults.ts";
import { sizeOf, type Tensor } from "../../core/tensor.ts";
import type { ModelInfo, StepOutput, Value, Values } from "../../runtime/types.ts";
import type { OutputTensor } from "./types.ts";

/** Names of the outputs to answer with, in order: those that are wanted, else all. Throws INVALID_REQUEST. */
export function wantedOutputs(model: ModelInfo, wanted: readonly string[] | undefined): readonly string[] {
  const names = model.outputs.map(({ name }) => name);
  if (!wanted || wanted.length === 0) return names;
  for (const name of wanted) {
    if (names.includes(name)) continue;
    throw new Fault(
      "INVALID_REQUEST",
      `unexpected inference output '${name}' for model '${model.name}', which has ${names.join(", ")}`,
    );
  }
  return [...new Set(wanted)];
}

/** The outputs of a request, or of one step of one. With `isBatch` every shape gets the client's batch axis of 1 again. */
export function outputsOf(values: Values, names: readonly string[], isBatch: boolean): OutputTensor[] {
  return names.flatMap((name) => {
    const value = values[name];
    return value === undefined ? [] : [outputOf(name, value, isBatch)];
  });
}

function outputOf(name: string, value: Value, isBatch: boolean): OutputTensor {
  if (typeof value === "string") return { name, shape: isBatch ? [1, 1] : [1], texts: [value] };
  return { name, tensor: isBatch ? reshaped(value, [1, ...value.shape]) : value };
}

/** The outputs of the steps of a session, each with a leading axis of steps; as many as there were steps. */
export function stackedOutputs(
  steps: readonly StepOutput[],
  names: readonly string[],
  isBatch: boolean,
): OutputTensor[] {
  const batch = isBatch ? [1] : [];
  return names.flatMap((name): OutputTensor[] => {
    const values = steps.flatMap(({ outputs }) => (outputs[name] === undefined ? [] : [outputs[name]]));
    const texts = values.filter((value) => typeof value === "string");
    if (texts.length > 0) return [{ name, shape: [...batch, texts.length], texts }];
    const tensors = values.filter((value) => typeof value !== "string");
    const first = tensors[0];
    if (!first) return [];
    return [{ name, tensor: reshaped(stacked(first, tensors), [...batch, tensors.length, ...first.shape]) }];
  });
}

function stacked(first: Tensor, tensors: readonly Tensor[]): Tensor {
  const size = sizeOf(first.shape);
  const data =
    first.dtype === "float32"
      ? new Float32Array(size * tensors.length)
      : new Int32Array(size * tensors.length);
  tensors.forEach((tensor, at) => data.set(tensor.data, at * size));
  return { dtype: first.dtype, shape: first.shape, data } as Tensor;
}

function reshaped({ dtype, data }: Tensor, shape: readonly number[]): Tensor {
  return { dtype, shape, data } as Tensor;
}
