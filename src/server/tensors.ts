import { Fault } from "../core/faults.ts";
import type { Tensor } from "../core/tensor.ts";
import type { Value, Values } from "../runtime/types.ts";
import { datatypeOf, datatypes, wireNames } from "./datatypes.ts";
import type { WireTensor, WireValues } from "./protocol.ts";

/** Where the values of a binary frame come from, in order. */
export interface BinaryData {
  take(bytes: number): DataView;
}

type WireInputs = Readonly<
  Record<
    string,
    | string
    | {
        readonly datatype: string;
        readonly shape: readonly number[];
        readonly data?: readonly (number | boolean)[] | undefined;
        readonly parameters?: { readonly binary_data_size: number } | undefined;
      }
  >
>;

/** The values of a message. Throws INVALID_INPUT that names the input and the value. */
export function readValues(inputs: WireInputs, binary: BinaryData | undefined): Values {
  const values: Record<string, Value> = {};
  for (const [name, value] of Object.entries(inputs)) {
    values[name] = typeof value === "string" ? value : readTensor(name, value, binary);
  }
  return values;
}

function readTensor(
  name: string,
  wire: Exclude<WireInputs[string], string>,
  binary: BinaryData | undefined,
): Tensor {
  const refuse = (why: string) => new Fault("INVALID_INPUT", `input '${name}' ${why}`);
  const { datatype, shape, data, parameters } = wire;
  const type = datatypeOf(datatype);
  if (!type) {
    throw refuse(`has datatype '${datatype}', expected one of ${Object.keys(datatypes).join(", ")}`);
  }
  const count = shape.reduce((product, dim) => product * dim, 1);
  const given = data ? data.length : (parameters?.binary_data_size ?? 0) / type.bytes;
  if ((data === undefined) === (parameters === undefined))
    throw refuse("needs either data or a binary_data_size");
  if (data && !type.inJson) throw refuse(`is ${datatype}, which only a binary frame can carry`);
  if (given !== count) throw refuse(`has ${given} values, its shape [${shape.join(", ")}] needs ${count}`);
  const view = parameters ? takeBinary(name, parameters.binary_data_size, binary) : undefined;
  const values = type.to === "float32" ? new Float32Array(count) : new Int32Array(count);
  for (let i = 0; i < count; i++) {
    const value = view ? type.read(view, i * type.bytes) : Number(data![i]);
    const fits = type.to === "float32" ? Number.isFinite(Math.fround(value)) : value === (value | 0);
    if (!fits) throw refuse(`holds ${value} at ${i}, which is no finite ${type.to}`);
    values[i] = value;
  }
  return { dtype: type.to, shape, data: values } as Tensor;
}

function takeBinary(name: string, bytes: number, binary: BinaryData | undefined): DataView {
  if (binary) return binary.take(bytes);
  throw new Fault("INVALID_INPUT", `input '${name}' has a binary_data_size in a text frame`);
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
