import type { Gate, Pipeline, Stage } from "../../models/pipeline.ts";
import { Fault } from "../core/faults.ts";
import { sizeOf } from "../core/tensor.ts";
import type { ModelInfo, ValueSpec } from "./types.ts";

/** A pipeline whose names have been found among the models that are there. */
export interface PipelinePlan {
  readonly name: string;
  readonly version: string;
  /** Whether its stages are sessions. */
  readonly streaming: boolean;
  readonly inputs: readonly ValueSpec[];
  readonly outputs: readonly (ValueSpec & { readonly from: StageOutput })[];
  readonly stages: readonly PlannedStage[];
}

export interface PlannedStage {
  readonly name: string;
  readonly model: string;
  readonly inputs: readonly PlannedInput[];
  readonly gate?: Omit<Gate, "output"> & { readonly from: StageOutput };
  /** Stages, by index, that it takes outputs of. */
  readonly after: readonly number[];
}

export interface PlannedInput {
  /** Of the stage's model. */
  readonly name: string;
  /** An input of the pipeline, or an output of a stage before. */
  readonly from: string | StageOutput;
}

export interface StageOutput {
  readonly stage: number;
  readonly output: string;
}

/** What a plan needs to know of a model. */
export type StageModel = Pick<ModelInfo, "name" | "streaming" | "inputs" | "outputs" | "program">;

/** Finds what a pipeline names. Throws INVALID_REQUEST that says which stage names what is not there or does not fit. */
export function planPipeline(
  { name, version }: { readonly name: string; readonly version: string },
  pipeline: Pipeline,
  models: readonly StageModel[],
): PipelinePlan {
  return new Planner(name, pipeline, models).plan(version);
}

class Planner {
  readonly #name: string;
  readonly #pipeline: Pipeline;
  readonly #models: readonly StageModel[];
  readonly #stages: StageModel[] = [];
  readonly #inputs = new Map<string, ValueSpec>();

  constructor(name: string, pipeline: Pipeline, models: readonly StageModel[]) {
    this.#name = name;
    this.#pipeline = pipeline;
    this.#models = models;
  }

  plan(version: string): PipelinePlan {
    const stages = this.#pipeline.stages.map((stage) => this.#planStage(stage));
    const { streaming } = this.#stages[0]!;
    return {
      name: this.#name,
      version,
      streaming,
      stages,
      inputs: [...this.#inputs.values()],
      outputs: this.#outputs(),
    };
  }

  #planStage(stage: Stage): PlannedStage {
    const { name, gate } = stage;
    const { stages } = this.#pipeline;
    if (stages.findIndex((one) => one.name === name) < this.#stages.length) {
      throw this.#refuse(`has two stages '${name}'`);
    }
    const model = this.#model(stage);
    const unknown = Object.keys(stage.inputs).find(
      (input) => !model.inputs.some((spec) => spec.name === input),
    );
    if (unknown !== undefined) {
      throw this.#refuse(
        `gives stage '${name}' an input '${unknown}', model '${model.name}' takes ${namesOf(model.inputs)}`,
      );
    }
    const inputs = model.inputs.map((spec): PlannedInput => {
      const source = stage.inputs[spec.name] ?? spec.name;
      const from = source.includes(".") ? this.#output(source) : source;
      if (typeof from === "string") this.#takeInput(from, spec, model);
      else this.#checkFit(name, spec, source, this.#specOf(from), model.streaming);
      return { name: spec.name, from };
    });
    const planned = gate && this.#planGate(gate);
    const after = inputs.flatMap(({ from }) => (typeof from === "string" ? [] : [from.stage]));
    if (planned) after.push(planned.from.stage);
    this.#stages.push(model);
    return {
      name,
      model: model.name,
      inputs,
      after: [...new Set(after)],
      ...(planned ? { gate: planned } : {}),
    };
  }

  #model({ name, model: wanted }: Stage): StageModel {
    const model = this.#models.find((one) => one.name === wanted);
    if (!model) {
      throw this.#refuse(
        `has a stage of model '${wanted}', which is not there: serve it too, or put its folder into the pipeline's`,
      );
    }
    if (model.program === "pipeline") throw this.#refuse(`has a stage '${name}' that is a pipeline itself`);
    const first = this.#stages[0];
    if (first && first.streaming !== model.streaming) {
      const kind = (streaming: boolean) => (streaming ? "sessions" : "single requests");
      throw this.#refuse(
        `mixes stages: '${first.name}' takes ${kind(first.streaming)}, '${wanted}' ${kind(model.streaming)}`,
      );
    }
    return model;
  }

  #planGate({ output, open, close, hold, reset }: Gate): NonNullable<PlannedStage["gate"]> {
    const from = this.#output(output);
    const { type, shape } = this.#specOf(from);
    if (type === "text" || sizeOf(shape) !== 1) {
      throw this.#refuse(`has a gate on '${output}', which is not one number`);
    }
    return { from, open, close, hold, reset };
  }

  /** An input of the pipeline is what its stages take under that name. */
  #takeInput(name: string, spec: ValueSpec, model: StageModel): void {
    if (model.streaming && spec.type === "text") {
      throw this.#refuse(
        `feeds text '${name}' to sessions of '${model.name}', whose steps are then not known`,
      );
    }
    const before = this.#inputs.get(name);
    const own = { ...spec, name };
    if (before && (before.type !== own.type || String(before.shape) !== String(own.shape))) {
      throw this.#refuse(
        `has an input '${name}' that is ${textOf(before)} to one stage, ${textOf(own)} to another`,
      );
    }
    this.#inputs.set(name, own);
  }

  #output(source: string): StageOutput {
    const dot = source.indexOf(".");
    const [name, output] = [source.slice(0, dot), source.slice(dot + 1)];
    const stage = this.#pipeline.stages.findIndex((one) => one.name === name);
    if (stage < 0 || stage >= this.#stages.length) {
      const why = stage < 0 ? "there is no such stage" : "that stage is not before it";
      throw this.#refuse(`uses '${source}', but ${why}`);
    }
    const model = this.#stages[stage]!;
    if (model.outputs.some((spec) => spec.name === output)) return { stage, output };
    throw this.#refuse(`uses '${source}', but model '${model.name}' gives ${namesOf(model.outputs)}`);
  }

  #specOf({ stage, output }: StageOutput): ValueSpec {
    return this.#stages[stage]!.outputs.find((spec) => spec.name === output)!;
  }

  #checkFit(stage: string, input: ValueSpec, source: string, output: ValueSpec, streaming: boolean): void {
    // A session answers one step, without the axis of steps that its input has.
    const shape = streaming && output.type !== "text" ? [-1, ...output.shape] : output.shape;
    const fits =
      input.type === output.type &&
      input.shape.length === shape.length &&
      input.shape.every((dim, axis) => dim === -1 || shape[axis] === -1 || dim === shape[axis]);
    if (fits) return;
    throw this.#refuse(
      `gives '${source}' (${textOf({ ...output, shape })}) to input '${input.name}' of stage '${stage}', which takes ${textOf(input)}`,
    );
  }

  #outputs(): PipelinePlan["outputs"] {
    const { outputs, stages } = this.#pipeline;
    const last = stages.length - 1;
    if (!outputs) {
      return this.#stages[last]!.outputs.map((spec) => ({
        ...spec,
        from: { stage: last, output: spec.name },
      }));
    }
    return Object.entries(outputs).map(([name, source]) => {
      const from = this.#output(source);
      return { ...this.#specOf(from), name, from };
    });
  }

  #refuse(why: string): Fault {
    return new Fault("INVALID_REQUEST", `pipeline '${this.#name}' ${why}`);
  }
}

function namesOf(specs: readonly ValueSpec[]): string {
  return specs.map(({ name }) => `'${name}'`).join(", ");
}

function textOf({ type, shape }: ValueSpec): string {
  return type === "text" ? "text" : `${type} [${shape.join(", ")}]`;
}
