import type { WireTensor, WireValues } from "../server/protocol.ts";
import { ClientError } from "./errors.ts";

/** By datatype of the Open Inference Protocol, the array that holds its values. */
const arrays = {
  FP32: Float32Array,
  FP64: Float64Array,
  INT8: Int8Array,
  INT16: Int16Array,
  INT32: Int32Array,
  INT64: BigInt64Array,
  UINT8: Uint8Array,
  UINT16: Uint16Array,
  UINT32: Uint32Array,
  UINT64: BigUint64Array,
  BOOL: Uint8Array,
} as const;

type Datatype = keyof typeof arrays;
export type TensorData =
  | Float32Array
  | Float64Array
  | Int8Array
  | Int16Array
  | Int32Array
  | BigInt64Array
  | Uint8Array
  | Uint16Array
  | Uint32Array
  | BigUint64Array;

/** Row-major values; the kind of array says the datatype, `shape` multiplies to its length. */
export interface Tensor {
  readonly shape: readonly number[];
  readonly data: TensorData;
}

/** What goes into or comes out of a model: tensors, or text where the model declares it. */
export type Values = Readonly<Record<string, Tensor | string>>;

/** Values for the wire; bytes of tensors are appended to `chunks`. Throws INVALID_INPUT that names the input. */
export function writeValues(values: Values, chunks: Uint8Array[]): WireValues {
  const wire: Record<string, WireTensor | string> = {};
  for (const [name, value] of Object.entries(values)) {
    if (typeof value === "string") {
      wire[name] = value;
      continue;
    }
    const { shape, data } = value;
    const size = shape.reduce((product, dim) => product * dim, 1);
    if (size !== data.length) {
      const message = `input '${name}' has ${data.length} values, its shape [${shape.join(", ")}] needs ${size}`;
      throw new ClientError("INVALID_INPUT", message);
    }
    chunks.push(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
    wire[name] = {
      datatype: datatypeOf(name, data),
      shape,
      parameters: { binary_data_size: data.byteLength },
    };
  }
  return wire;
}

/** Values from the wire; `bytes` are those behind the JSON of a binary frame. */
export function readValues(wire: WireValues, bytes: ArrayBuffer | undefined): Values {
  const values: Record<string, Tensor | string> = {};
  let at = 0;
  for (const [name, value] of Object.entries(wire)) {
    if (typeof value === "string") {
      values[name] = value;
      continue;
    }
    const { datatype, shape, data, parameters } = value;
    if (!Object.hasOwn(arrays, datatype)) {
      const message = `output '${name}' has datatype '${datatype}', which this client cannot hold`;
      throw new ClientError("UNSUPPORTED", message);
    }
    const array = arrays[datatype as Datatype];
    if (data) values[name] = { shape, data: fromJson(array, data) };
    else {
      const end = at + (parameters?.binary_data_size ?? 0);
      // A copy, since the values of a frame need not lie where an array of theirs may begin.
      values[name] = { shape, data: new array((bytes ?? new ArrayBuffer(0)).slice(at, end)) };
      at = end;
    }
  }
  return values;
}

/** Steps `from` to `from + steps` of values that have a leading axis of steps. */
export function sliceSteps(values: Values, from: number, steps: number): Values {
  return mapTensors(values, ({ shape, data }) => {
    const size = shape.slice(1).reduce((product, dim) => product * dim, 1);
    return { shape: [steps, ...shape.slice(1)], data: data.subarray(from * size, (from + steps) * size) };
  });
}

/** A copy with a leading axis of steps, which is added where `isOne` step comes without it. */
export function copySteps(values: Values, isOne: boolean): Values {
  return mapTensors(values, ({ shape, data }) => ({
    shape: isOne ? [1, ...shape] : shape,
    data: data.slice(),
  }));
}

function mapTensors(values: Values, map: (tensor: Tensor) => Tensor): Values {
  return Object.fromEntries(
    Object.entries(values).map(([name, value]) => [name, typeof value === "string" ? value : map(value)]),
  );
}

function datatypeOf(name: string, data: TensorData): Datatype {
  for (const [datatype, array] of Object.entries(arrays)) {
    if (data instanceof array) return datatype as Datatype;
  }
  throw new ClientError(
    "INVALID_INPUT",
    `input '${name}' is no typed array that the protocol has a datatype for`,
  );
}

function fromJson(array: (typeof arrays)[Datatype], data: readonly (number | boolean)[]): TensorData {
  if (array === BigInt64Array || array === BigUint64Array) return array.from(data.map(BigInt));
  return (array as typeof Float32Array).from(data.map(Number));
}
