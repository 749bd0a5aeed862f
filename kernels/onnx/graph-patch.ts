import type onnxProto from "onnx-proto";
import { attributesOf, FLOAT, INT64 } from "./graph.ts";

type Node = onnxProto.onnx.INodeProto;
/** A graph whose nodes and constants may be changed. */
export type Graph = onnxProto.onnx.IGraphProto & {
  node: Node[];
  initializer: onnxProto.onnx.ITensorProto[];
};

/** Nodes and constants that take the place of one node, with names of their own. */
export class GraphPatch {
  readonly #graph: Graph;
  readonly #replaced: Node;
  readonly #nodes: Node[] = [];
  #names = 0;

  constructor(graph: Graph, replaced: Node) {
    this.#graph = graph;
    this.#replaced = replaced;
  }

  /** Adds a node with one output and answers its name, which is `name` where given. */
  node(op: string, input: readonly string[], attributes: Record<string, number> = {}, name?: string): string {
    const output = name ?? this.#name();
    this.#nodes.push({
      opType: op,
      input: [...input],
      output: [output],
      attribute: attributesOf(attributes),
    });
    return output;
  }

  weights(dims: readonly number[], values: Float32Array): string {
    return this.#constant(dims, FLOAT, values);
  }

  integers(values: readonly number[]): string {
    return this.#constant([values.length], INT64, BigInt64Array.from(values, BigInt));
  }

  /** Puts them in the node's place. */
  apply(): void {
    this.#graph.node.splice(this.#graph.node.indexOf(this.#replaced), 1, ...this.#nodes);
  }

  #constant(dims: readonly number[], dataType: number, values: ArrayBufferView): string {
    const name = this.#name();
    const rawData = new Uint8Array(values.buffer, values.byteOffset, values.byteLength).slice();
    this.#graph.initializer.push({ name, dims: [...dims], dataType, rawData });
    return name;
  }

  #name(): string {
    return `${this.#replaced.output!.find((name) => name !== "")}/patch${this.#names++}`;
  }
}
