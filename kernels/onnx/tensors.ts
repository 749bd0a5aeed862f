import onnxProto from "onnx-proto";

const { onnx } = onnxProto;

/** What a graph knows beforehand. */
export interface Constant {
  readonly dims: readonly number[];
  readonly values: Float32Array | Float64Array;
}

/** Float32 and whole numbers of 64 and 32 bits among a graph's initializers. */
export function constantsOf({ initializer }: onnxProto.onnx.IGraphProto): ReadonlyMap<string, Constant> {
  const found = new Map<string, Constant>();
  for (const tensor of initializer ?? []) {
    const values = valuesOf(tensor);
    if (values) found.set(tensor.name!, { dims: (tensor.dims ?? []).map(Number), values });
  }
  return found;
}

function valuesOf({
  dataType,
  rawData,
  floatData,
  int64Data,
  int32Data,
}: onnxProto.onnx.ITensorProto): Constant["values"] | undefined {
  const { FLOAT, INT64, INT32 } = onnx.TensorProto.DataType;
  const raw = rawData?.length ? Uint8Array.from(rawData).buffer : undefined;
  if (dataType === FLOAT) return raw ? new Float32Array(raw) : Float32Array.from(floatData ?? []);
  if (dataType === INT64) return Float64Array.from(raw ? new BigInt64Array(raw) : (int64Data ?? []), Number);
  if (dataType === INT32) return Float64Array.from(raw ? new Int32Array(raw) : (int32Data ?? []));
  return undefined;
}

/** Attributes of a node by name. */
export function decoded({ attribute }: onnxProto.onnx.INodeProto) {
  const find = (name: string) => attribute?.find((one) => one.name === name);
  return {
    int: (name: string) => {
      const found = find(name);
      return found && Number(found.i ?? 0);
    },
    ints: (name: string) => find(name)?.ints?.map(Number),
    float: (name: string) => find(name)?.f ?? undefined,
    text: (name: string) => {
      const found = find(name)?.s;
      return found && new TextDecoder().decode(found);
    },
    has: (name: string) => find(name) !== undefined,
  };
}
