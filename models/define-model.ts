import type { CellSpec } from "../src/core/cell.ts";
import type { TensorSpec } from "../src/core/tensor.ts";
import type { ModelDefinition, TextValue, Unfold } from "./definition.ts";

/**
 * A model with an `unfold` of its own. Give `createRuntime` the path of a module that has it as its default export: the
 * function then runs in the engines' threads.
 */
export function defineModel(model: {
  readonly name: string;
  /** @default "1" */
  readonly version?: string;
  /** @default "" */
  readonly description?: string;
  readonly cells: readonly CellSpec[];
  readonly inputs: readonly TensorSpec[];
  readonly outputs: readonly TensorSpec[];
  readonly text?: { readonly inputs: readonly TextValue[]; readonly outputs: readonly TextValue[] };
  readonly unfold: Unfold;
}): ModelDefinition {
  const { version = "1", description = "", unfold, ...rest } = model;
  return { ...rest, version, description, program: { kind: "custom", unfold } };
}
