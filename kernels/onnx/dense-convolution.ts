import onnxProto from "onnx-proto";
import { attributesOf, FLOAT, INT64 } from "./graph.ts";

const { onnx } = onnxProto;
type Graph = onnxProto.onnx.IGraphProto & { node: Node[]; initializer: onnxProto.onnx.ITensorProto[] };
type Node = onnxProto.onnx.INodeProto;

/** A convolution whose weights are known, so that a matrix can take its place where its input has a known shape. */
export interface Convolution {
  readonly name: string;
  readonly node: Node;
  readonly input: string;
  /** `[M, C / groups, kernel...]`, row-major. */
  readonly weights: Float32Array;
  readonly dims: readonly number[];
  readonly bias: Float32Array | undefined;
  readonly groups: number;
  readonly strides: readonly number[];
  readonly dilations: readonly number[];
  /** By axis: before, then behind. */
  readonly pads: readonly (readonly [number, number])[];
}

/** Convolutions over one or two axes of a graph, but for those in branches and those with `auto_pad`. */
export function convolutionsOf({ node, initializer }: Graph): Convolution[] {
  const known = new Map(initializer.map((tensor) => [tensor.name!, tensor]));
  return node.flatMap((one) => {
    if (one.opType !== "Conv") return [];
    const weights = known.get(one.input![1]!);
    const bias = one.input!.length > 2 ? known.get(one.input![2]!) : undefined;
    const data = weights && floatsOf(weights);
    const added = bias && floatsOf(bias);
    if (!data || (one.input!.length > 2 && !added)) return [];
    const dims = weights.dims!.map(Number);
    const axes = dims.length - 2;
    if (axes < 1 || axes > 2) return [];
    const attribute = (name: string) => one.attribute?.find((given) => given.name === name);
    const pad = attribute("auto_pad")?.s;
    if (pad && new TextDecoder().decode(pad) !== "NOTSET") return [];
    const ints = (name: string, missing: number, count = axes) =>
      attribute(name)?.ints?.map(Number) ?? new Array<number>(count).fill(missing);
    const pads = ints("pads", 0, 2 * axes);
    return [
      {
        name: one.name || one.output![0]!,
        node: one,
        input: one.input![0]!,
        weights: data,
        dims,
        bias: added,
        groups: Number(attribute("group")?.i ?? 1),
        strides: ints("strides", 1),
        dilations: ints("dilations", 1),
        pads: Array.from({ length: axes }, (_, axis) => [pads[axis]!, pads[axis + axes]!] as const),
      },
    ];
  });
}

/** The matrix `[C * in, M * out]` that does what a convolution does to one row of `shape` `[C, in...]`. */
export interface DenseForm {
  readonly matrix: Float32Array;
  readonly bias: Float32Array;
  readonly rows: number;
  /** `[M, out...]`. */
  readonly shape: readonly number[];
}

/** Undefined where the matrix would have more than `most` values, or the shape is not one that the convolution takes. */
export function denseForm(conv: Convolution, shape: readonly number[], most: number): DenseForm | undefined {
  const { dims, groups, strides, dilations, pads, weights, bias } = conv;
  const [filters = 0, channelsPerGroup = 0, ...kernel] = dims;
  const [channels = 0, ...size] = shape;
  if (size.length !== kernel.length || channels !== channelsPerGroup * groups) return undefined;
  const out = size.map((length, axis) => {
    const reach = dilations[axis]! * (kernel[axis]! - 1) + 1;
    return Math.floor((length + pads[axis]![0] + pads[axis]![1] - reach) / strides[axis]!) + 1;
  });
  const rows = channels * product(size);
  const columns = filters * product(out);
  if (out.some((length) => length < 1) || rows * columns > most) return undefined;
  const matrix = new Float32Array(rows * columns);
  const [places, taps] = [cells(out), cells(kernel)];
  for (let filter = 0; filter < filters; filter++) {
    const group = Math.floor((filter * groups) / filters);
    places.forEach((place, at) => {
      const column = filter * places.length + at;
      taps.forEach((tap, t) => {
        const from = tap.map(
          (offset, axis) => place[axis]! * strides[axis]! + offset * dilations[axis]! - pads[axis]![0],
        );
        if (from.some((position, axis) => position < 0 || position >= size[axis]!)) return;
        const within = from.reduce((sum, position, axis) => sum * size[axis]! + position, 0);
        for (let channel = 0; channel < channelsPerGroup; channel++) {
          const row = (group * channelsPerGroup + channel) * product(size) + within;
          const weight = weights[(filter * channelsPerGroup + channel) * taps.length + t]!;
          matrix[row * columns + column] = weight;
        }
      });
    });
  }
  const spread = new Float32Array(columns);
  if (bias) for (let i = 0; i < columns; i++) spread[i] = bias[Math.floor(i / places.length)]!;
  return { matrix, bias: spread, rows, shape: [filters, ...out] };
}

/** Puts the matrix in the place of its convolution. */
export function makeDense(graph: Graph, conv: Convolution, { matrix, bias, rows, shape }: DenseForm): void {
  const output = conv.node.output![0]!;
  const [flat, product] = [`${output}/flat`, `${output}/product`];
  const nodes: Node[] = [
    { opType: "Reshape", input: [conv.input, integers(graph, `${flat}/shape`, [-1, rows])], output: [flat] },
    {
      opType: "Gemm",
      input: [
        flat,
        constant(graph, `${output}/matrix`, [rows, bias.length], FLOAT, matrix),
        constant(graph, `${output}/bias`, [bias.length], FLOAT, bias),
      ],
      output: [product],
    },
    {
      opType: "Reshape",
      input: [product, integers(graph, `${output}/shape`, [-1, ...shape])],
      output: [output],
    },
  ];
  graph.node.splice(
    graph.node.findIndex((one) => one.output![0] === output),
    1,
    ...nodes,
  );
}

/**
 * Cuts the windows of a convolution out, side by side, and multiplies all of them with its weights: for windows that cover
 * little of the input each, where a matrix over all of it would be mostly zeros. Over one axis, without padding or groups.
 * Answers whether it could.
 */
export function makeFrames(graph: Graph, conv: Convolution, shape: readonly number[]): boolean {
  const { dims, groups, strides, dilations, pads, weights, bias } = conv;
  const [filters, channels, kernel] = dims as [number, number, number];
  if (
    dims.length !== 3 ||
    shape.length !== 2 ||
    groups !== 1 ||
    dilations[0] !== 1 ||
    pads[0]!.some((pad) => pad > 0)
  )
    return false;
  const count = Math.floor((shape[1]! - kernel) / strides[0]!) + 1;
  const width = channels * kernel;
  if (count < 1 || count > MOST_FRAMES) return false;
  const output = conv.node.output![0]!;
  const name = (what: string) => `${output}/${what}`;
  const turned = new Float32Array(weights.length);
  for (let filter = 0; filter < filters; filter++)
    for (let tap = 0; tap < width; tap++) turned[tap * filters + filter] = weights[filter * width + tap]!;
  const axis = integers(graph, name("axis"), [2]);
  const frames = Array.from({ length: count }, (_, i) => {
    const from = i * strides[0]!;
    const ends = [
      integers(graph, name(`from${i}`), [from]),
      integers(graph, name(`to${i}`), [from + kernel]),
    ];
    return { opType: "Slice", input: [conv.input, ...ends, axis], output: [name(`frame${i}`)] };
  });
  const flat = frames.map((_, i) => ({
    opType: "Reshape",
    input: [name(`frame${i}`), integers(graph, name(`flat${i}/shape`), [-1, width])],
    output: [name(`flat${i}`)],
  }));
  const nodes: Node[] = [
    ...frames,
    ...flat,
    {
      opType: "Concat",
      input: flat.map(({ output }) => output[0]!),
      output: [name("frames")],
      attribute: attributesOf({ axis: 1 }),
    },
    {
      opType: "Reshape",
      input: [name("frames"), integers(graph, name("rows/shape"), [-1, width])],
      output: [name("rows")],
    },
    {
      opType: "Gemm",
      input: [
        name("rows"),
        constant(graph, name("matrix"), [width, filters], FLOAT, turned),
        constant(graph, name("bias"), [filters], FLOAT, bias ?? new Float32Array(filters)),
      ],
      output: [name("product")],
    },
    {
      opType: "Reshape",
      input: [name("product"), integers(graph, name("shape"), [-1, count, filters])],
      output: [name("apart")],
    },
    {
      opType: "Transpose",
      input: [name("apart")],
      output: [output],
      attribute: attributesOf({ perm: [0, 2, 1] }),
    },
  ];
  graph.node.splice(
    graph.node.findIndex((one) => one.output![0] === output),
    1,
    ...nodes,
  );
  return true;
}

const MOST_FRAMES = 64;

function constant(
  graph: Graph,
  name: string,
  dims: readonly number[],
  dataType: number,
  data: ArrayBufferView,
): string {
  const rawData = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  graph.initializer.push({ name, dims: [...dims], dataType, rawData });
  return name;
}

function integers(graph: Graph, name: string, values: readonly number[]): string {
  return constant(graph, name, [values.length], INT64, BigInt64Array.from(values, BigInt));
}

/** All places of a box, the last axis fastest. */
function cells(size: readonly number[]): number[][] {
  return size.reduce<number[][]>(
    (all, length) => all.flatMap((one) => Array.from({ length }, (_, at) => [...one, at])),
    [[]],
  );
}

function product(sizes: readonly number[]): number {
  return sizes.reduce((a, b) => a * b, 1);
}

function floatsOf({
  dataType,
  rawData,
  floatData,
  dims,
}: onnxProto.onnx.ITensorProto): Float32Array | undefined {
  if (dataType !== onnx.TensorProto.DataType.FLOAT) return undefined;
  const length = product((dims ?? []).map(Number));
  const values = rawData?.length
    ? new Float32Array(Uint8Array.from(rawData).buffer)
    : Float32Array.from(floatData ?? []);
  return values.length === length ? values : undefined;
}
