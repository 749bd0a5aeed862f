export { defineModel } from "../../models/define-model.ts";
export type { Graph, ModelDefinition, Program, Run, Unfold } from "../../models/definition.ts";
export { readModel } from "../../models/read-model.ts";
export { zooModels } from "../../models/zoo.ts";
export type { CellBody, CellSpec, Matrix } from "../core/cell.ts";
export { Fault, type FaultCode, faults } from "../core/faults.ts";
export { float32, int32, type Tensor, type TensorSpec } from "../core/tensor.ts";
export { createRuntime, type RuntimeSettings } from "./create.ts";
export type * from "./types.ts";
