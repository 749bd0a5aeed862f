import onnxProto from "onnx-proto";
import { bfloat16, float16 } from "../../safetensors.ts";
import { refuse } from "./faults.ts";

const { DataType, DataLocation } = onnxProto.onnx.TensorProto;
type TensorProto = onnxProto.onnx.ITensorProto;

/** What the importer tells apart; narrower floats and integers are widened to these. */
export type ElementType = "float32" | "int64" | "int32" | "bool";

/** A tensor whose values are known when a model is imported, row-major. */
export interface Constant {
  readonly type: ElementType;
  readonly dims: readonly number[];
  /** Integers and booleans are kept as float64, exact below 2^53. */
  readonly data: Float32Array | Float64Array;
}

/** Throws INVALID_REQUEST unless a tensor's values fill its shape. */
export function checkTensor(tensor: TensorProto): void {
  const name = tensor.name ?? "";
  const dims = (tensor.dims ?? []).map(Number);
  const count = sizeOf(dims, name);
  if (tensor.dataLocation === DataLocation.EXTERNAL) {
    throw refuse(`the values of tensor '${name}' lie in another file, which was not given`);
  }
  const type = tensor.dataType ?? 0;
  const raw = tensor.rawData?.length ?? 0;
  if (raw === 0 && type > DataType.BFLOAT16) return;
  const has = raw > 0 ? raw : storedCount(tensor);
  const needs =
    raw > 0
      ? bytesOf(type, count, name)
      : type === DataType.COMPLEX64 || type === DataType.COMPLEX128
        ? 2 * count
        : count;
  if (has !== needs) {
    const unit = raw > 0 ? "bytes" : "values";
    throw refuse(`tensor '${name}' of shape [${dims.join(", ")}] needs ${needs} ${unit}, it has ${has}`);
  }
}

/** Reads a tensor that was checked; undefined where its type is none that can be computed with. */
export function readTensor(tensor: TensorProto): Constant | undefined {
  const dims = (tensor.dims ?? []).map(Number);
  const type = elementType(tensor.dataType ?? 0);
  if (!type) return undefined;
  const raw = tensor.rawData?.length ? readRaw(tensor.dataType!, tensor.rawData) : undefined;
  const data = raw ?? readStored(tensor);
  if (type === "float32")
    return { type, dims, data: data instanceof Float32Array ? data : Float32Array.from(data) };
  return { type, dims, data: data instanceof Float64Array ? data : Float64Array.from(data) };
}

/** What a type of the file becomes; undefined for text, complex numbers and packed types. */
export function elementType(type: number): ElementType | undefined {
  switch (type) {
    case DataType.FLOAT:
    case DataType.FLOAT16:
    case DataType.BFLOAT16:
    case DataType.DOUBLE:
      return "float32";
    case DataType.INT64:
    case DataType.UINT32:
    case DataType.UINT64:
      return "int64";
    case DataType.INT32:
    case DataType.INT16:
    case DataType.INT8:
    case DataType.UINT16:
    case DataType.UINT8:
      return "int32";
    case DataType.BOOL:
      return "bool";
    default:
      return undefined;
  }
}

/** Bytes that a tensor's values take as `rawData`. */
export function bytesOf(type: number, count: number, name: string): number {
  const bits = BITS.get(type);
  if (bits === undefined) throw refuse(`tensor '${name}' has type ${type}, which has no raw form`);
  return Math.ceil((count * bits) / 8);
}

/** Values of a shape; throws where no machine could hold them. */
export function sizeOf(dims: readonly number[], name: string): number {
  let size = 1;
  for (const dim of dims) {
    if (!Number.isSafeInteger(dim) || dim < 0) throw refuse(`tensor '${name}' has an axis of ${dim}`);
    size *= dim;
    if (size > MAX_VALUES) throw refuse(`tensor '${name}' of shape [${dims.join(", ")}] is too large`);
  }
  return size;
}

const MAX_VALUES = 2 ** 31;

/** By type; those of 4 bits are 21 (UINT4), 22 (INT4) and 23 (FLOAT4E2M1), of 8 bits 17 to 20 and 24 (FLOAT8). */
const BITS = new Map<number, number>([
  [DataType.FLOAT, 32],
  [DataType.UINT8, 8],
  [DataType.INT8, 8],
  [DataType.UINT16, 16],
  [DataType.INT16, 16],
  [DataType.INT32, 32],
  [DataType.INT64, 64],
  [DataType.BOOL, 8],
  [DataType.FLOAT16, 16],
  [DataType.DOUBLE, 64],
  [DataType.UINT32, 32],
  [DataType.UINT64, 64],
  [DataType.COMPLEX64, 64],
  [DataType.COMPLEX128, 128],
  [DataType.BFLOAT16, 16],
  ...[17, 18, 19, 20, 24].map((type): [number, number] => [type, 8]),
  ...[21, 22, 23].map((type): [number, number] => [type, 4]),
]);

function storedCount(tensor: TensorProto): number {
  return (
    (tensor.floatData?.length ?? 0) +
    (tensor.int32Data?.length ?? 0) +
    (tensor.int64Data?.length ?? 0) +
    (tensor.doubleData?.length ?? 0) +
    (tensor.uint64Data?.length ?? 0) +
    (tensor.stringData?.length ?? 0)
  );
}

function readStored(tensor: TensorProto): ArrayLike<number> {
  const { dataType, floatData, doubleData, int32Data, int64Data, uint64Data } = tensor;
  if (int32Data?.length) {
    if (dataType === DataType.FLOAT16) return Float32Array.from(int32Data, float16);
    if (dataType === DataType.BFLOAT16) return Float32Array.from(int32Data, bfloat16);
    return int32Data;
  }
  if (int64Data?.length) return Float64Array.from(int64Data, Number);
  if (uint64Data?.length) return Float64Array.from(uint64Data, Number);
  return floatData?.length ? floatData : (doubleData ?? []);
}

/** Values of a tensor's raw form, which is little-endian like every machine that Node.js runs on. */
function readRaw(type: number, raw: Uint8Array): ArrayLike<number> {
  const { buffer } = new Uint8Array(raw);
  switch (type) {
    case DataType.FLOAT:
      return new Float32Array(buffer);
    case DataType.DOUBLE:
      return new Float64Array(buffer);
    case DataType.FLOAT16:
      return Float32Array.from(new Uint16Array(buffer), float16);
    case DataType.BFLOAT16:
      return Float32Array.from(new Uint16Array(buffer), bfloat16);
    case DataType.INT64:
      return Float64Array.from(new BigInt64Array(buffer), Number);
    case DataType.UINT64:
      return Float64Array.from(new BigUint64Array(buffer), Number);
    case DataType.INT32:
      return new Int32Array(buffer);
    case DataType.UINT32:
      return new Uint32Array(buffer);
    case DataType.INT16:
      return new Int16Array(buffer);
    case DataType.UINT16:
      return new Uint16Array(buffer);
    case DataType.INT8:
      return new Int8Array(buffer);
    default:
      return new Uint8Array(buffer);
  }
}
