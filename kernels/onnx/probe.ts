import onnxProto from "onnx-proto";
import type { CellSpec } from "../../src/core/cell.ts";
import type { CellGraph } from "./cell-graph.ts";
import type { Convolution } from "./dense-convolution.ts";
import type { Probe } from "./inline-branches.ts";
import { loadSession, type Tensors } from "./session.ts";
import { noise } from "./trial.ts";

const { onnx } = onnxProto;

/** Runs changed forms of a cell's graph for values inside it. */
export class Prober {
  readonly #cell: CellSpec;
  readonly #graph: CellGraph;
  readonly #header: onnxProto.onnx.ModelProto;
  readonly #threads: number;

  constructor(cell: CellSpec, graph: CellGraph, onnxBytes: Uint8Array, threads: number) {
    this.#cell = cell;
    this.#graph = graph;
    this.#header = onnx.ModelProto.decode(onnxBytes);
    this.#threads = threads;
  }

  readonly conditions: Probe = async (graph, values) => {
    const model = { ...this.#header, graph };
    const seen = await this.#run(onnx.ModelProto.encode(model).finish(), values, [1, 2, 3]);
    return values.map((name) => seen.map((outputs) => outputs[name]!.data[0] === 1));
  };

  /** By name: the shape of one row of what goes into each convolution, where it has a row per row of the task. */
  async shapes(
    bytes: Uint8Array,
    convolutions: readonly Convolution[],
  ): Promise<Map<string, readonly number[]>> {
    const names = [...new Set(convolutions.map(({ input }) => input))];
    const seen = await this.#run(bytes, names, [2, 3]);
    const shapes = new Map<string, readonly number[]>();
    if (seen.length === 0) return shapes;
    for (const { name, input } of convolutions) {
      const [two, three] = seen.map((outputs) => outputs[input]!.dims);
      const isPerRow = two![0] === 2 && three![0] === 3 && String(two!.slice(1)) === String(three!.slice(1));
      if (isPerRow) shapes.set(name, two!.slice(1));
    }
    return shapes;
  }

  /** By number of rows; none where the graph does not run. */
  async #run(bytes: Uint8Array, values: readonly string[], rows: readonly number[]): Promise<Tensors[]> {
    const model = onnx.ModelProto.decode(bytes);
    // Copies, for an input of the graph is no output of a node.
    const renamed = values.map((name) => `probe/${name}`);
    values.forEach((name, i) => {
      model.graph!.node!.push({ opType: "Identity", input: [name], output: [renamed[i]!] });
      model.graph!.output!.push({ name: renamed[i]! });
    });
    try {
      const session = await loadSession(onnx.ModelProto.encode(model).finish(), { threads: this.#threads });
      const seen: Tensors[] = [];
      for (const count of rows) {
        const outputs = await session.infer(noise(this.#cell, this.#graph, count), renamed);
        seen.push(Object.fromEntries(values.map((name, i) => [name, outputs[renamed[i]!]!])));
      }
      await session.dispose();
      return seen;
    } catch {
      return [];
    }
  }
}
