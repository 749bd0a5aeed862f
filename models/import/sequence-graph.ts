import onnxProto from "onnx-proto";
import type { StoredTensor } from "../safetensors.ts";

const { onnx } = onnxProto;
const { AttributeType } = onnx.AttributeProto;

export const { DataType } = onnx.TensorProto;

type Dim = number | string;
/** Whole numbers and texts as they are; floats say so. */
export type Attribute =
  | number
  | string
  | readonly number[]
  | readonly string[]
  | { readonly float: number }
  | { readonly floats: readonly number[] };

/** Writes, node by node, the ONNX file that another framework would export of a model over whole sequences. */
export class SequenceGraph {
  readonly #nodes: onnxProto.onnx.INodeProto[] = [];
  readonly #constants: onnxProto.onnx.ITensorProto[] = [];
  readonly #inputs: onnxProto.onnx.IValueInfoProto[] = [];
  readonly #outputs: onnxProto.onnx.IValueInfoProto[] = [];
  #names = 0;

  input(name: string, type: number, dims: readonly Dim[]): string {
    this.#inputs.push(valueInfo(name, type, dims));
    return name;
  }

  output(name: string, from: string, dims: readonly Dim[]): void {
    this.#nodes.push({ opType: "Identity", input: [from], output: [name] });
    this.#outputs.push(valueInfo(name, DataType.FLOAT, dims));
  }

  floats({ shape, data }: StoredTensor): string {
    const rawData = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    return this.#constant({ dataType: DataType.FLOAT, dims: [...shape], rawData });
  }

  scalar(value: number): string {
    return this.floats({ shape: [], data: Float32Array.of(value) });
  }

  integers(values: readonly number[]): string {
    const rawData = new Uint8Array(BigInt64Array.from(values, BigInt).buffer);
    return this.#constant({ dataType: DataType.INT64, dims: [values.length], rawData });
  }

  node(op: string, inputs: readonly string[], attributes: Readonly<Record<string, Attribute>> = {}): string {
    return this.nodes(op, inputs, 1, attributes)[0]!;
  }

  nodes(
    op: string,
    inputs: readonly string[],
    count: number,
    attributes: Readonly<Record<string, Attribute>> = {},
  ): string[] {
    const output = Array.from({ length: count }, () => `value${this.#names++}`);
    const attribute = Object.entries(attributes).map(([name, value]) => attributeOf(name, value));
    this.#nodes.push({ opType: op, input: [...inputs], output, attribute });
    return output;
  }

  finish(from: string, name: string, width: number, collect: "last" | "all"): Uint8Array {
    this.output(name, from, collect === "all" ? ["steps", "rows", width] : ["rows", width]);
    return this.encode();
  }

  encode(): Uint8Array {
    return onnx.ModelProto.encode({
      irVersion: 9,
      producerName: "cellbatch",
      opsetImport: [{ domain: "", version: 18 }],
      graph: {
        name: "model",
        node: this.#nodes,
        initializer: this.#constants,
        input: this.#inputs,
        output: this.#outputs,
      },
    }).finish();
  }

  #constant(tensor: onnxProto.onnx.ITensorProto): string {
    const name = `constant${this.#constants.length}`;
    this.#constants.push({ ...tensor, name });
    return name;
  }
}

function valueInfo(name: string, elemType: number, dims: readonly Dim[]): onnxProto.onnx.IValueInfoProto {
  const dim = dims.map((one) => (typeof one === "number" ? { dimValue: one } : { dimParam: one }));
  return { name, type: { tensorType: { elemType, shape: { dim } } } };
}

function attributeOf(name: string, value: Attribute): onnxProto.onnx.IAttributeProto {
  const bytes = (text: string) => new TextEncoder().encode(text);
  if (typeof value === "number") return { name, type: AttributeType.INT, i: value };
  if (typeof value === "string") return { name, type: AttributeType.STRING, s: bytes(value) };
  if ("float" in value) return { name, type: AttributeType.FLOAT, f: value.float };
  if ("floats" in value) return { name, type: AttributeType.FLOATS, floats: [...value.floats] };
  if (typeof value[0] === "string") {
    return { name, type: AttributeType.STRINGS, strings: (value as readonly string[]).map(bytes) };
  }
  return { name, type: AttributeType.INTS, ints: [...(value as readonly number[])] };
}
