import { Fault } from "../core/faults.ts";
import type { ModelInfo, Values } from "../runtime/types.ts";
import { wireNames } from "./datatypes.ts";
import type { ClientInputs } from "./messages.ts";
import { inputOf } from "./oip/plain-inputs.ts";
import { readInputs } from "./oip/read-tensors.ts";
import type { InputTensor, TensorSource } from "./oip/types.ts";
import type { WireTensor, WireValues } from "./protocol.ts";

/** Where the values of a binary frame come from, in order. */
export interface BinaryData {
  take(bytes: number): Uint8Array;
}

/** The values of a message for a model. Throws INVALID_INPUT that names the input and the value. */
export function readValues(model: ModelInfo, inputs: ClientInputs, binary: BinaryData | undefined): Values {
  const tensors = Object.entries(inputs).map(([name, value]): InputTensor => {
    if (typeof value === "string") return inputOf({ name, type: "text", shape: [] }, value);
    if (!isTensor(value)) return inputOf(specOf(model, name), value);
    const { datatype, shape } = value;
    return { name, datatype, shape, source: sourceOf(name, value, binary) };
  });
  return readInputs(model, tensors).values;
}

type ClientValue = ClientInputs[string];
type ClientTensor = Exclude<ClientValue, string | readonly unknown[]>;

function isTensor(value: Exclude<ClientValue, string>): value is ClientTensor {
  return !Array.isArray(value);
}

/** What a plain list stands for; any tensor where the model has no such input, which is then refused by name. */
function specOf({ inputs }: ModelInfo, name: string): ModelInfo["inputs"][number] {
  return inputs.find((one) => one.name === name) ?? { name, type: "float32", shape: [] };
}

function sourceOf(
  name: string,
  { data, parameters }: ClientTensor,
  binary: BinaryData | undefined,
): TensorSource {
  const refuse = (why: string) => new Fault("INVALID_INPUT", `input '${name}' ${why}`);
  if (data && !parameters) return { kind: "values", values: data };
  if (data || !parameters) throw refuse("needs either data or a binary_data_size");
  if (!binary) throw refuse("has a binary_data_size in a text frame");
  return { kind: "bytes", bytes: binary.take(parameters.binary_data_size) };
}

/** Values for a client, and the bytes that follow them in a binary frame. */
export function writeValues(values: Values, chunks: Uint8Array[] | undefined): WireValues {
  const wire: Record<string, WireTensor | string> = {};
  for (const name in values) {
    const value = values[name]!;
    if (typeof value === "string") {
      wire[name] = value;
      continue;
    }
    const { shape, data } = value;
    const datatype = wireNames[value.dtype];
    if (chunks) {
      chunks.push(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
      wire[name] = { datatype, shape, parameters: { binary_data_size: data.byteLength } };
    } else wire[name] = { datatype, shape, data: Array.from(data) };
  }
  return wire;
}
