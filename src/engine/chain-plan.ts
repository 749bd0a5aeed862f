import type { ModelDefinition } from "../../models/definition.ts";
import { sizeOf } from "../core/tensor.ts";
import type { OutputLists, RunOutput } from "./outputs.ts";

/** What requests of a model look like that are one run of one cell and answered by its last step. */
export interface ChainPlan {
  readonly kind: "chain";
  /** Index among the model's cells. */
  readonly cell: number;
  /** In the order of the model's inputs. */
  readonly inputs: readonly ChainInput[];
  readonly outputs: readonly RunOutput[];
}

export interface ChainInput {
  /** Among the cell's inputs. */
  readonly at: number;
  readonly isInteger: boolean;
  /** Of one step. */
  readonly shape: readonly number[];
  readonly size: number;
  /** Tokens are below this; 0 where any number is allowed. */
  readonly symbols: number;
}

/** The plan of a model; undefined where requests can be more than one run, or have outputs of every step. */
export function chainPlan(definition: ModelDefinition, lists: OutputLists): ChainPlan | undefined {
  const { program, cells, inputs, outputs } = definition;
  if (program.kind !== "chain" || program.collect !== "last") return undefined;
  const cell = cells.findIndex(({ name }) => name === program.cell);
  const spec = cells[cell];
  if (!spec?.writes || spec.reads !== 1 || spec.inputs.length !== inputs.length) return undefined;
  const { body } = spec;
  const symbols = "embedding" in body ? (body.embedding?.rows ?? 0) : 0;
  const planned = inputs.map(({ name }): ChainInput => {
    const at = spec.inputs.findIndex((input) => input.name === name);
    const { dtype, shape } = spec.inputs[at]!;
    const isInteger = dtype === "int32";
    return { at, isInteger, shape, size: sizeOf(shape), symbols: name === "token" ? symbols : 0 };
  });
  let given: readonly RunOutput[] = [];
  for (const { name } of outputs) given = lists.with(given, cell, name, name, false);
  return { kind: "chain", cell, inputs: planned, outputs: given };
}
