import onnxProto from "onnx-proto";

const { onnx } = onnxProto;
type Attribute = number | readonly number[] | string;

export const FLOAT = onnx.TensorProto.DataType.FLOAT;
export const INT32 = onnx.TensorProto.DataType.INT32;
const INT8 = onnx.TensorProto.DataType.INT8;
const UINT8 = onnx.TensorProto.DataType.UINT8;
export const INT64 = onnx.TensorProto.DataType.INT64;

const AttributeType = onnx.AttributeProto.AttributeType;

/** Writes an ONNX graph node by node. A dimension is a number, or a name where it may have any length. */
export class GraphBuilder {
  readonly #graph: onnxProto.onnx.IGraphProto & {
    node: onnxProto.onnx.INodeProto[];
    initializer: onnxProto.onnx.ITensorProto[];
    input: onnxProto.onnx.IValueInfoProto[];
    output: onnxProto.onnx.IValueInfoProto[];
  } = { name: "cell", node: [], initializer: [], input: [], output: [] };
  readonly #domains = new Set<string>();
  #names = 0;

  input(name: string, type: number, shape: readonly (number | string)[]): string {
    this.#graph.input.push(valueInfo(name, type, shape));
    return name;
  }

  output(name: string, type: number, shape: readonly (number | string)[]): void {
    this.#graph.output.push(valueInfo(name, type, shape));
  }

  /** Gives a value away under another name. It keeps its own only where that is an input or was given away already. */
  give(value: string, name: string, type: number, shape: readonly (number | string)[]): void {
    const { node, input, output } = this.#graph;
    if ([...input, ...output].some((port) => port.name === value)) this.node("Identity", [value], {}, name);
    else {
      const swap = (names: string[] | null | undefined) => names!.map((one) => (one === value ? name : one));
      for (const one of node) {
        one.input = swap(one.input);
        one.output = swap(one.output);
      }
    }
    this.output(name, type, shape);
  }

  weights(dims: readonly number[], data: Float32Array): string {
    return this.#initializer({
      dataType: FLOAT,
      dims: [...dims],
      rawData: new Uint8Array(data.buffer, data.byteOffset, data.byteLength),
    });
  }

  integers(values: readonly number[]): string {
    const data = BigInt64Array.from(values, BigInt);
    return this.#initializer({
      dataType: INT64,
      dims: [values.length],
      rawData: new Uint8Array(data.buffer),
    });
  }

  /** Whole numbers of 8 bits, with a sign or without by the type of `data`. */
  bytes(dims: readonly number[], data: Int8Array | Uint8Array): string {
    return this.#initializer({
      dataType: data instanceof Int8Array ? INT8 : UINT8,
      dims: [...dims],
      rawData: new Uint8Array(data.buffer, data.byteOffset, data.byteLength),
    });
  }

  /** Adds a node with one output and answers its name, which is `name` where given. */
  node(
    op: string,
    inputs: readonly string[],
    attributes: Record<string, Attribute> = {},
    name?: string,
  ): string {
    return this.nodes(op, inputs, 1, attributes, name === undefined ? undefined : [name])[0]!;
  }

  /** Adds a node with several outputs. An operator that is not ONNX's own has its domain before it: `com.microsoft.X`. */
  nodes(
    op: string,
    inputs: readonly string[],
    outputs: number,
    attributes: Record<string, Attribute> = {},
    names?: readonly string[],
  ): string[] {
    const output = names ? [...names] : Array.from({ length: outputs }, () => this.#name());
    const dot = op.lastIndexOf(".");
    const [domain, opType] = [op.slice(0, Math.max(0, dot)), op.slice(dot + 1)];
    if (domain !== "") this.#domains.add(domain);
    const attribute = attributesOf(attributes);
    this.#graph.node.push({ opType, domain, input: [...inputs], output, attribute });
    return output;
  }

  encode(): Uint8Array {
    return onnx.ModelProto.encode({
      irVersion: 9,
      opsetImport: [
        { domain: "", version: 18 },
        ...[...this.#domains].map((domain) => ({ domain, version: 1 })),
      ],
      graph: this.#graph,
    }).finish();
  }

  #initializer(tensor: onnxProto.onnx.ITensorProto): string {
    const name = this.#name();
    this.#graph.initializer.push({ ...tensor, name });
    return name;
  }

  #name(): string {
    return `v${this.#names++}`;
  }
}

export function valueInfo(
  name: string,
  elemType: number,
  shape: readonly (number | string)[],
): onnxProto.onnx.IValueInfoProto {
  const dim = shape.map((size) => {
    if (typeof size === "string") return { dimParam: size };
    return size < 0 ? {} : { dimValue: size };
  });
  return { name, type: { tensorType: { elemType, shape: { dim } } } };
}

export function attributesOf(attributes: Record<string, Attribute>): onnxProto.onnx.IAttributeProto[] {
  return Object.entries(attributes).map(([name, value]) => {
    if (typeof value === "string") {
      return { name, type: AttributeType.STRING, s: new TextEncoder().encode(value) };
    }
    if (typeof value === "number") return { name, type: AttributeType.INT, i: value };
    return { name, type: AttributeType.INTS, ints: [...value] };
  });
}
