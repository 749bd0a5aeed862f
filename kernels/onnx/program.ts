import { Tensor } from "onnxruntime-node";
import type { CellSpec } from "../../src/core/cell.ts";
import { sizeOf, type TensorSpec } from "../../src/core/tensor.ts";
import type { KernelTask, Values } from "../kernel.ts";
import type { Port } from "./cell-graph.ts";
import type { Form } from "./forms.ts";
import type { Session } from "./session.ts";

/** One cell's sessions and buffers; where its states are is up to it. */
export interface Program {
  readonly inputs: readonly Values[];
  /** Of the last task. */
  readonly outputs: readonly Values[];
  readonly stepSizes: readonly number[];
  readonly bytes: number;
  run(task: KernelTask): void | Promise<void>;
  dispose(): Promise<void>;
}

export interface LoadedForm extends Form {
  readonly session: Session;
}

/** A cell with the graphs that run it. */
export interface LoadedCell {
  readonly cell: CellSpec;
  readonly forms: readonly LoadedForm[];
  /** Most rows times steps of one task. */
  readonly maxBatch: number;
}

export function stepSizesOf({ forms }: LoadedCell): readonly number[] {
  return forms[0]!.sizes ?? forms.map(({ steps }) => steps);
}

export function formFor(loaded: LoadedCell, rows: number, steps: number): LoadedForm {
  const { cell, forms, maxBatch } = loaded;
  const form = forms.find((one) => one.steps === steps || one.steps === 0);
  if (!form)
    throw new RangeError(`cell '${cell.name}' takes ${stepSizesOf(loaded).join(", ")} steps, not ${steps}`);
  if (rows * steps > maxBatch) {
    throw new RangeError(`${rows} rows of ${steps} steps are more than maxBatch ${maxBatch}`);
  }
  return form;
}

/** The tensor of a port on the beginning of `values`. */
export function tensorOn(values: Values, { dims }: Port, rows: number, steps: number): Tensor {
  const shape = dims(rows, steps);
  const view = values.subarray(0, sizeOf(shape));
  return view instanceof Int32Array ? new Tensor("int32", view, shape) : new Tensor("float32", view, shape);
}

export function valuesFor(spec: TensorSpec, rows: number): Values {
  const length = rows * sizeOf(spec.shape);
  return spec.dtype === "int32" ? new Int32Array(length) : new Float32Array(length);
}
