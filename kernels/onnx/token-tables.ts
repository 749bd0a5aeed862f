import type onnxProto from "onnx-proto";
import { type Graph, GraphPatch } from "./graph-patch.ts";
import { type Constant, constantsOf, decoded } from "./tensors.ts";

type Node = onnxProto.onnx.INodeProto;

/** A Gemm or MatMul of what an embedding says of tokens, with a matrix that is known: a table of products says the same. */
export interface TokenProduct {
  readonly node: Node;
  readonly name: string;
  /** The value that holds the tokens. */
  readonly tokens: string;
  /** `[symbols, depth]` and `[depth, width]`, or `[width, depth]` where `isTurned`. */
  readonly embedding: Constant;
  readonly matrix: Constant;
  readonly isTurned: boolean;
  readonly bias: Constant | undefined;
  readonly symbols: number;
  readonly width: number;
}

/** What leaves the order of a value's elements alone; of Transpose that is checked by comparing. */
const MOVES = new Set(["Identity", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Transpose"]);

/** Multiplications of a table that are made when a model is loaded: half a second. */
const MOST_PRODUCTS = 2 ** 29;

/** Products of looked-up rows whose table has at most `mostValues` values. */
export function tokenProducts(graph: Graph, mostValues: number): TokenProduct[] {
  const constants = constantsOf(graph);
  const producers = producersOf(graph);
  return graph.node.flatMap((node): TokenProduct[] => {
    if (node.opType !== "Gemm" && node.opType !== "MatMul") return [];
    const of = decoded(node);
    const matrix = constants.get(node.input![1]!);
    const bias = node.input![2] ? constants.get(node.input![2]) : undefined;
    const isScaled = [of.float("alpha"), of.float("beta")].some((one) => one !== undefined && one !== 1);
    if (matrix?.dims.length !== 2 || (node.input![2] && !bias) || isScaled || of.int("transA")) return [];
    let source = producers.get(node.input![0]!);
    // A product of more axes than two keeps them, which the rows of a table do only where nothing stands between.
    const passes = node.opType === "Gemm" ? MOVES : new Set(["Identity"]);
    while (source && passes.has(source.opType!)) source = producers.get(source.input![0]!);
    if (source?.opType !== "Gather" || decoded(source).int("axis")) return [];
    const embedding = constants.get(source.input![0]!);
    const isTurned = of.int("transB") === 1;
    const [depth, width] = isTurned ? matrix.dims.toReversed() : matrix.dims;
    if (embedding?.dims.length !== 2 || embedding.dims[1] !== depth) return [];
    const symbols = embedding.dims[0]!;
    const isTooMuch = symbols * width! > mostValues || symbols * width! * depth! > MOST_PRODUCTS;
    if (isTooMuch || (bias && bias.values.length !== width)) return [];
    const [name, tokens] = [node.name || node.output![0]!, source.input![1]!];
    return [{ node, name, tokens, embedding, matrix, isTurned, bias, symbols, width: width! }];
  });
}

/** Looks the product up. */
export function makeTable(graph: Graph, of: TokenProduct): void {
  const patch = new GraphPatch(graph, of.node);
  const table = patch.weights([of.symbols, of.width], tableOf(of));
  const flat =
    of.node.opType === "Gemm"
      ? patch.node("Reshape", [of.tokens, patch.integers([-1])])
      : patch.node("Identity", [of.tokens]);
  patch.node("Gather", [table, flat], { axis: 0 }, of.node.output![0]!);
  patch.apply();
}

/** By name of an input: how many kinds of tokens an embedding has rows for. */
export function symbolsOf(graph: Graph): ReadonlyMap<string, number> {
  const constants = constantsOf(graph);
  const producers = producersOf(graph);
  const found = new Map<string, number>();
  for (const node of graph.node) {
    if (node.opType !== "Gather" || decoded(node).int("axis")) continue;
    const symbols = constants.get(node.input![0]!)?.dims[0];
    if (symbols === undefined) continue;
    let name = node.input![1]!;
    for (let source = producers.get(name); source; source = producers.get(name)) {
      if (!MOVES.has(source.opType!) && source.opType !== "Cast") break;
      name = source.input![0]!;
    }
    found.set(name, Math.min(symbols, found.get(name) ?? symbols));
  }
  return found;
}

function producersOf({ node }: Graph): ReadonlyMap<string, Node> {
  return new Map(node.flatMap((one) => one.output!.map((name) => [name, one] as const)));
}

function tableOf({ embedding, matrix, isTurned, bias, symbols, width }: TokenProduct): Float32Array {
  const depth = embedding.dims[1]!;
  const table = new Float32Array(symbols * width);
  for (let symbol = 0; symbol < symbols; symbol++) {
    for (let column = 0; column < width; column++) {
      let sum = bias?.values[column] ?? 0;
      for (let k = 0; k < depth; k++) {
        const weight = matrix.values[isTurned ? column * depth + k : k * width + column]!;
        sum += embedding.values[symbol * depth + k]! * weight;
      }
      table[symbol * width + column] = sum;
    }
  }
  return table;
}
