import { Fault } from "../core/faults.ts";
import type { Tensor } from "../core/tensor.ts";
import type { PipelinePlan, StageOutput } from "./pipeline-plan.ts";
import type { Value, Values } from "./types.ts";

/** A step that has not been answered. */
export interface Step {
  /** The pipeline's inputs at this step. */
  readonly inputs: Values;
  /** By stage: undefined until it is known. */
  readonly outputs: (Values | undefined)[];
}

/** The steps of a pipeline's session that wait for their stages. Numbers count from the session's first step. */
export class PipelineSteps {
  readonly #plan: PipelinePlan;
  /** From step number `#told` on. */
  readonly #steps: Step[] = [];
  #told = 0;
  #known = 0;

  constructor(plan: PipelinePlan) {
    this.#plan = plan;
  }

  /** Steps that were pushed. */
  get known(): number {
    return this.#known;
  }

  /** Steps that were answered. */
  get told(): number {
    return this.#told;
  }

  /** More of them, each of `tensors` with a leading axis of `count` steps. */
  add(tensors: readonly Tensor[], count: number): void {
    for (let step = 0; step < count; step++) {
      const outputs = this.#plan.stages.map(() => undefined);
      this.#steps.push({ inputs: inputsAt(this.#plan, tensors, step), outputs });
    }
    this.#known += count;
  }

  /** One that has not been answered, by its number. */
  at(number: number): Step {
    return this.#steps[number - this.#told]!;
  }

  /** The next step to answer, which is answered now; undefined while a stage owes it something. */
  answer(): Step | undefined {
    if (!this.#steps[0]?.outputs.every((outputs) => outputs !== undefined)) return undefined;
    this.#told++;
    return this.#steps.shift();
  }
}

/** The number of steps in a push. Throws INVALID_INPUT where its inputs do not agree. */
export function stepsIn({ inputs }: PipelinePlan, tensors: readonly Tensor[]): number {
  const [first] = tensors;
  const steps = first!.shape[0]!;
  tensors.forEach((tensor, i) => {
    if (tensor.shape[0] === steps) return;
    const [one, other] = [inputs[i]!.name, inputs[0]!.name];
    throw new Fault("INVALID_INPUT", `input '${one}' has ${tensor.shape[0]} steps, '${other}' has ${steps}`);
  });
  return steps;
}

/** What a stage gave at a step; undefined where it was kept from it. */
export function outputOf({ outputs }: Step, { stage, output }: StageOutput): Value | undefined {
  return outputs[stage]?.[output];
}

function inputsAt(plan: PipelinePlan, tensors: readonly Tensor[], step: number): Values {
  const inputs: Record<string, Tensor> = {};
  plan.inputs.forEach(({ name }, i) => {
    const { dtype, shape, data } = tensors[i]!;
    const size = data.length / shape[0]!;
    inputs[name] = {
      dtype,
      shape: shape.slice(1),
      data: data.subarray(step * size, (step + 1) * size),
    } as Tensor;
  });
  return inputs;
}
