import type { ModelDefinition } from "../../models/definition.ts";
import type { Pipeline } from "../../models/pipeline.ts";
import type { DType, Tensor } from "../core/tensor.ts";
import { type PipelinePlan, planPipeline, type StageModel } from "./pipeline-plan.ts";
import { PipelineRequest } from "./pipeline-request.ts";
import { PipelineSession } from "./pipeline-session.ts";
import type { Open, Submit } from "./pipeline-stage.ts";
import type { Handle, Listener, ModelInfo, RequestOptions, SessionHandle, Values } from "./types.ts";
import { tensorsOf } from "./values.ts";

export type PipelineDefinition = ModelDefinition & { readonly program: Pipeline };

export function isPipeline(definition: ModelDefinition): definition is PipelineDefinition {
  return definition.program.kind === "pipeline";
}

/** A pipeline that can be served: what it is to its callers, and how its requests and sessions begin. */
export class ServedPipeline {
  readonly info: Omit<ModelInfo, "cells">;
  readonly #plan: PipelinePlan;
  readonly #tensorsOf: (inputs: Values) => readonly Tensor[];

  /** Throws INVALID_REQUEST where its stages do not fit the models. */
  constructor(definition: PipelineDefinition, models: readonly StageModel[]) {
    const { name, version, description, program, example } = definition;
    const plan = planPipeline(definition, program, models);
    const { streaming, inputs, outputs } = plan;
    this.#plan = plan;
    this.info = {
      name,
      version,
      description,
      program: "pipeline",
      streaming,
      inputs,
      outputs: outputs.map(({ from: _, ...spec }) => spec),
      ...(example ? { example } : {}),
    };
    // Of sessions only, which take no text; a request's inputs are checked by the stages that take them.
    const specs = inputs.map(({ name: input, type, shape }) => ({
      name: input,
      dtype: type as DType,
      shape,
    }));
    const checked = { definition: { ...definition, inputs: specs }, texts: { inputs: [], outputs: [] } };
    this.#tensorsOf = (values) => tensorsOf(checked, values, true);
  }

  submit(submit: Submit, inputs: Values, options: RequestOptions, listener: Listener): Handle {
    return new PipelineRequest(this.#plan, submit, inputs, options, listener);
  }

  open(
    open: Open,
    options: RequestOptions & { readonly state?: string },
    listener: Listener,
  ): PipelineSession {
    return new PipelineSession(this.#plan, open, this.#tensorsOf, options, listener);
  }
}

/** A session as a handle whose forks are begun by `begin`. */
export function handleOf(
  session: PipelineSession,
  begin: (listener: Listener, fork: (counted: Listener) => PipelineSession) => SessionHandle,
): SessionHandle {
  return {
    cancel: () => session.cancel(),
    pause: () => session.pause(),
    resume: () => session.resume(),
    push: (inputs) => session.push(inputs),
    end: () => session.end(),
    marker: (marker) => session.marker(marker),
    suspend: () => session.suspend(),
    fork: (listener) => begin(listener, (counted) => session.fork(counted)),
  };
}
