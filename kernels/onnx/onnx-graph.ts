import { Tensor as OnnxTensor } from "onnxruntime-node";
import type { CellSpec } from "../../src/core/cell.ts";
import { Fault } from "../../src/core/faults.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import type { GraphKernel } from "../graph-kernel.ts";
import { loadSession, type Session, type SessionOptions, type Tensors } from "./session.ts";
import { givenGraph } from "./step-graph.ts";

/** Runs a given ONNX graph on padded batches. */
export class OnnxGraphKernel implements GraphKernel {
  readonly cell: CellSpec;
  readonly bytes: number;
  readonly #session: Session;
  readonly #outputs: readonly string[];

  private constructor(cell: CellSpec, session: Session, bytes: number) {
    this.cell = cell;
    this.bytes = bytes;
    this.#session = session;
    this.#outputs = cell.outputs.map(({ name }) => `out/${name}`);
  }

  /** Throws INVALID_REQUEST where ONNX Runtime refuses the graph. */
  static async load(cell: CellSpec, options: SessionOptions): Promise<OnnxGraphKernel> {
    const { onnx } = givenGraph(cell);
    try {
      return new OnnxGraphKernel(cell, await loadSession(onnx, options), onnx.byteLength);
    } catch (error) {
      throw new Fault(
        "INVALID_REQUEST",
        `graph '${cell.name}' cannot be loaded: ${(error as Error).message}`,
      );
    }
  }

  run(inputs: readonly Tensor[]): readonly Tensor[] | Promise<readonly Tensor[]> {
    const feeds: Tensors = {};
    this.cell.inputs.forEach(({ name, dtype }, i) => {
      const { shape, data } = inputs[i]!;
      feeds[`in/${name}`] = new OnnxTensor(dtype, data, shape);
    });
    const results = this.#session.infer(feeds, this.#outputs);
    return results instanceof Promise ? results.then((done) => this.#taken(done)) : this.#taken(results);
  }

  dispose(): void | Promise<void> {
    return this.#session.dispose();
  }

  #taken(results: Tensors): Tensor[] {
    return this.#outputs.map((name) => {
      const { type, dims, data } = results[name]!;
      return { dtype: type, shape: dims, data } as Tensor;
    });
  }
}
