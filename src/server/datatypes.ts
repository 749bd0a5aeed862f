import type { DType } from "../core/tensor.ts";

/** An element type of the Open Inference Protocol and what it becomes here. */
export interface Datatype {
  /** Of one value, little-endian. */
  readonly bytes: number;
  readonly to: DType;
  readonly read: (view: DataView, at: number) => number;
  /** Smallest and largest integer; absent where any number is tried, and `to` decides. */
  readonly range?: readonly [bigint, bigint];
  /** Whether JSON may carry it; half floats travel only as bytes. */
  readonly inJson: boolean;
}

/** All datatypes but BYTES, which is text. Cells compute with float32 and int32 only. */
export const datatypes: Readonly<Record<string, Datatype>> = {
  FP16: { bytes: 2, to: "float32", read: (view, at) => half(view.getUint16(at, true)), inJson: false },
  BF16: { bytes: 2, to: "float32", read: (view, at) => brain(view.getUint16(at, true)), inJson: false },
  FP32: { bytes: 4, to: "float32", read: (view, at) => view.getFloat32(at, true), inJson: true },
  FP64: { bytes: 8, to: "float32", read: (view, at) => view.getFloat64(at, true), inJson: true },
  INT8: integer(1, true, (view, at) => view.getInt8(at)),
  INT16: integer(2, true, (view, at) => view.getInt16(at, true)),
  INT32: integer(4, true, (view, at) => view.getInt32(at, true)),
  INT64: integer(8, true, (view, at) => Number(view.getBigInt64(at, true))),
  UINT8: integer(1, false, (view, at) => view.getUint8(at)),
  UINT16: integer(2, false, (view, at) => view.getUint16(at, true)),
  UINT32: integer(4, false, (view, at) => view.getUint32(at, true)),
  UINT64: integer(8, false, (view, at) => Number(view.getBigUint64(at, true))),
  BOOL: { bytes: 1, to: "int32", read: (view, at) => view.getUint8(at), range: [0n, 1n], inJson: true },
};

/** The datatype of that name, or undefined. */
export function datatypeOf(name: string): Datatype | undefined {
  return Object.hasOwn(datatypes, name) ? datatypes[name] : undefined;
}

/** What tensors of ours are called on the wire. */
export const wireNames = { float32: "FP32", int32: "INT32", text: "BYTES" } as const;

function integer(bytes: number, signed: boolean, read: Datatype["read"]): Datatype {
  const bits = BigInt(8 * bytes);
  const range = signed
    ? ([-(1n << (bits - 1n)), (1n << (bits - 1n)) - 1n] as const)
    : ([0n, (1n << bits) - 1n] as const);
  return { bytes, to: "int32", read, range, inJson: true };
}

/** IEEE 754 binary16: 1 sign, 5 exponent and 10 fraction bits. */
function half(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 0x1f;
  const fraction = bits & 0x3ff;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 0x1f) return fraction ? Number.NaN : sign * Number.POSITIVE_INFINITY;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

const word = new DataView(new ArrayBuffer(4));

/** bfloat16: the upper half of a binary32. */
function brain(bits: number): number {
  word.setUint32(0, bits * 0x10000);
  return word.getFloat32(0);
}
