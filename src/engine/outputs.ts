import type { ModelDefinition } from "../../models/definition.ts";
import { Fault } from "../core/faults.ts";
import { sizeOf } from "../core/tensor.ts";

/** An output of the model that a run gives. */
export interface RunOutput {
  /**
   * Among the model's outputs, -1 where only other runs of the request take it; and among the cell's, -1 for the tokens that
   * a generating run chose from logits.
   */
  readonly output: number;
  readonly cellOutput: number;
  /** Whether the values of all steps are wanted, or of the last. */
  readonly all: boolean;
  readonly dtype: "float32" | "int32";
  /** Shape and number of values of one step. */
  readonly shape: readonly number[];
  readonly size: number;
}

/** The lists of outputs that runs of one model give: each is made once, so that a queued request needs none of its own. */
export class OutputLists {
  readonly #definition: ModelDefinition;
  readonly #longer = new Map<readonly RunOutput[], Map<string, readonly RunOutput[]>>();

  constructor(definition: ModelDefinition) {
    this.#definition = definition;
  }

  /**
   * `list` and one output more: `output` of a cell, which callers get as `name`, or only other runs where that is undefined.
   * Throws INTERNAL where there is none.
   */
  with(
    list: readonly RunOutput[],
    cell: number,
    name: string | undefined,
    output: string,
    all: boolean,
  ): readonly RunOutput[] {
    let next = this.#longer.get(list);
    if (!next) {
      next = new Map();
      this.#longer.set(list, next);
    }
    const key = `${cell} ${all} ${output} ${name ?? ""}`;
    let longer = next.get(key);
    if (!longer) {
      longer = [...list, this.#make(cell, name, output, all)];
      next.set(key, longer);
    }
    return longer;
  }

  #make(cell: number, name: string | undefined, output: string, all: boolean): RunOutput {
    const { name: model, cells, outputs } = this.#definition;
    const spec = cells[cell]!;
    const cellOutput = spec.outputs.findIndex((one) => one.name === output);
    const index = outputs.findIndex((one) => one.name === name);
    const isChosen =
      cellOutput < 0 && output === "token" && spec.outputs.some((one) => one.name === "logits");
    if ((cellOutput < 0 && !isChosen) || (index < 0 && name !== undefined)) {
      throw new Fault("INTERNAL", `model '${model}' cannot give '${output}' of '${spec.name}' as '${name}'`);
    }
    const { shape, dtype } = isChosen ? CHOSEN : spec.outputs[cellOutput]!;
    return { output: index, cellOutput, all, dtype, shape, size: sizeOf(shape) };
  }
}

const CHOSEN = { shape: [], dtype: "int32" } as const;
