import { Fault } from "../core/faults.ts";
import type { Tensor } from "../core/tensor.ts";
import type { Value, Values } from "../runtime/types.ts";
import type { WireTensor, WireValues } from "./protocol.ts";

/** Element types of the Open Inference Protocol: bytes per value, how one is read, and what it becomes here. */
const datatypes: Record<string, Datatype> = {
  FP32: { bytes: 4, to: "float32", read: (view, at) => view.getFloat32(at, true) },
  FP64: { bytes: 8, to: "float32", read: (view, at) => view.getFloat64(at, true) },
  INT8: { bytes: 1, to: "int32", read: (view, at) => view.getInt8(at) },
  INT16: { bytes: 2, to: "int32", read: (view, at) => view.getInt16(at, true) },
  INT32: { bytes: 4, to: "int32", read: (view, at) => view.getInt32(at, true) },
  INT64: { bytes: 8, to: "int32", read: (view, at) => Number(view.getBigInt64(at, true)) },
  UINT8: { bytes: 1, to: "int32", read: (view, at) => view.getUint8(at) },
  UINT16: { bytes: 2, to: "int32", read: (view, at) => view.getUint16(at, true) },
  UINT32: { bytes: 4, to: "int32", read: (view, at) => view.getUint32(at, true) },
  UINT64: { bytes: 8, to: "int32", read: (view, at) => Number(view.getBigUint64(at, true)) },
  BOOL: { bytes: 1, to: "int32", read: (view, at) => view.getUint8(at) },
};

interface Datatype {
  readonly bytes: number;
  readonly to: "float32" | "int32";
  readonly read: (view: DataView, at: number) => number;
}

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
  const type = Object.hasOwn(datatypes, datatype) ? datatypes[datatype]! : undefined;
  if (!type) {
    throw refuse(`has datatype '${datatype}', expected one of ${Object.keys(datatypes).join(", ")}`);
  }
  const count = shape.reduce((product, dim) => product * dim, 1);
  const given = data ? data.length : (parameters?.binary_data_size ?? 0) / type.bytes;
  if ((data === undefined) === (parameters === undefined))
    throw refuse("needs either data or a binary_data_size");
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
    const datatype = value.dtype === "float32" ? "FP32" : "INT32";
    if (chunks) {
      chunks.push(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
      wire[name] = { datatype, shape, parameters: { binary_data_size: data.byteLength } };
    } else wire[name] = { datatype, shape, data: Array.from(data) };
  }
  return wire;
}
