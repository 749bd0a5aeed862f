import onnxProto from "onnx-proto";
import type { Attribute } from "./expression.ts";
import { refuse } from "./faults.ts";
import type { Constant, ElementType } from "./tensor.ts";

const { onnx } = onnxProto;
const { DataType } = onnx.TensorProto;
const { AttributeType } = onnx.AttributeProto;

/** Names of tensor types in the file format. */
export const dataTypes: Readonly<Record<ElementType, number>> = {
  float32: DataType.FLOAT,
  int64: DataType.INT64,
  int32: DataType.INT32,
  bool: DataType.BOOL,
};

/** Writes an ONNX graph node by node; the first axis of every input and output is `rows`. */
export class GraphWriter {
  readonly #nodes: onnxProto.onnx.INodeProto[] = [];
  readonly #constants: onnxProto.onnx.ITensorProto[] = [];
  readonly #known = new Map<
    Float32Array | Float64Array,
    { readonly name: string; readonly dims: string }[]
  >();
  readonly #inputs: onnxProto.onnx.IValueInfoProto[] = [];
  readonly #outputs: onnxProto.onnx.IValueInfoProto[] = [];
  #names = 0;
  #bytes = 0;

  input(name: string, type: ElementType, dims: readonly number[]): string {
    this.#inputs.push(valueInfo(name, type, dims));
    return name;
  }

  output(name: string, from: string, type: ElementType, dims: readonly number[]): void {
    this.#nodes.push({ opType: "Identity", input: [from], output: [name] });
    this.#outputs.push(valueInfo(name, type, dims));
  }

  /** The same values under the same shape are stored once. */
  constant({ type, dims, data }: Constant): string {
    const shape = `${type} ${dims.join(" ")}`;
    const known = this.#known.get(data) ?? [];
    const found = known.find((one) => one.dims === shape);
    if (found) return found.name;
    const name = this.#name();
    this.#known.set(data, [...known, { name, dims: shape }]);
    const rawData = rawOf(type, data);
    this.#bytes += rawData.byteLength;
    if (this.#bytes > MAX_BYTES) throw refuse(`the weights of one cell take more than ${MAX_BYTES} bytes`);
    this.#constants.push({ name, dataType: dataTypes[type], dims: [...dims], rawData });
    return name;
  }

  floats(dims: readonly number[], data: Float32Array): string {
    return this.constant({ type: "float32", dims, data });
  }

  integers(values: readonly number[]): string {
    return this.constant({ type: "int64", dims: [values.length], data: Float64Array.from(values) });
  }

  /** Adds a node with one output and answers its name. */
  node(op: string, inputs: readonly string[], attributes: Readonly<Record<string, Attribute>> = {}): string {
    return this.nodes(op, inputs, 1, attributes)[0]!;
  }

  nodes(
    op: string,
    inputs: readonly string[],
    count: number,
    attributes: Readonly<Record<string, Attribute>> = {},
  ): string[] {
    const output = Array.from({ length: count }, () => this.#name());
    const attribute = Object.entries(attributes).map(([name, value]) => attributeOf(name, value));
    this.#nodes.push({ opType: op, input: [...inputs], output, attribute });
    return output;
  }

  /** The file, for at least version 18 of the operators, which is what this code writes. */
  encode(opset: number): Uint8Array {
    const version = Math.max(18, opset);
    return onnx.ModelProto.encode({
      irVersion: version > 20 ? 10 : 9,
      producerName: "cellbatch",
      opsetImport: [{ domain: "", version }],
      graph: {
        name: "cell",
        node: this.#nodes,
        initializer: this.#constants,
        input: this.#inputs,
        output: this.#outputs,
      },
    }).finish();
  }

  #name(): string {
    // Nothing outside has a name like this.
    return `cell:${this.#names++}`;
  }
}

/** What one protobuf file can hold, less some room for everything but weights. */
const MAX_BYTES = 2 ** 31 - 2 ** 24;

function rawOf(type: ElementType, data: Float32Array | Float64Array): Uint8Array {
  switch (type) {
    case "float32":
      return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    case "int64":
      return new Uint8Array(BigInt64Array.from(data, (value) => BigInt(Math.trunc(value))).buffer);
    case "int32":
      return new Uint8Array(Int32Array.from(data).buffer);
    case "bool":
      return Uint8Array.from(data, (value) => (value === 0 ? 0 : 1));
  }
}

function valueInfo(name: string, type: ElementType, dims: readonly number[]): onnxProto.onnx.IValueInfoProto {
  const dim = [{ dimParam: "rows" }, ...dims.map((dimValue) => ({ dimValue }))];
  return { name, type: { tensorType: { elemType: dataTypes[type], shape: { dim } } } };
}

function attributeOf(name: string, value: Attribute): onnxProto.onnx.IAttributeProto {
  if (typeof value === "string")
    return { name, type: AttributeType.STRING, s: new TextEncoder().encode(value) };
  if (typeof value === "number") return { name, type: AttributeType.INT, i: value };
  if ("float" in value) return { name, type: AttributeType.FLOAT, f: value.float };
  return { name, type: AttributeType.INTS, ints: [...value] };
}
