import { Fault } from "./faults.ts";

/** Element types that cells compute with. Others (INT64, FP16, ...) are converted at the door. */
export type DType = "float32" | "int32";

/** Named dense values, row-major. `data.length` is the product of `shape`; a shape of `[]` is one value. */
export type Tensor =
  | { readonly dtype: "float32"; readonly shape: readonly number[]; readonly data: Float32Array }
  | { readonly dtype: "int32"; readonly shape: readonly number[]; readonly data: Int32Array };

/** What a tensor must look like; a dimension of -1 may have any length. */
export interface TensorSpec {
  readonly name: string;
  readonly dtype: DType;
  readonly shape: readonly number[];
}

/** How many values a shape holds. */
export function sizeOf(shape: readonly number[]): number {
  let size = 1;
  for (const dim of shape) size *= dim;
  return size;
}

export function float32(shape: readonly number[], data: Float32Array): Tensor {
  return { dtype: "float32", shape, data };
}

export function int32(shape: readonly number[], data: Int32Array): Tensor {
  return { dtype: "int32", shape, data };
}

/** Throws INVALID_INPUT unless `tensor` has the type and shape that `spec` asks for. */
export function checkTensor(tensor: Tensor, spec: TensorSpec): void {
  if (tensor.dtype !== spec.dtype) {
    throw new Fault("INVALID_INPUT", `input '${spec.name}' is ${tensor.dtype}, expected ${spec.dtype}`);
  }
  const fits =
    tensor.shape.length === spec.shape.length &&
    spec.shape.every((dim, i) => dim === -1 || dim === tensor.shape[i]);
  if (!fits || sizeOf(tensor.shape) !== tensor.data.length) {
    const shape = `[${tensor.shape.join(", ")}]`;
    throw new Fault(
      "INVALID_INPUT",
      `input '${spec.name}' has shape ${shape} and ${tensor.data.length} values, expected shape [${spec.shape.join(", ")}]`,
    );
  }
}
