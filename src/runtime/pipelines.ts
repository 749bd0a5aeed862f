import type { ModelDefinition } from "../../models/definition.ts";
import type { Pipeline } from "../../models/pipeline.ts";
import { Fault } from "../core/faults.ts";
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
  /** Models that lie in its folder, which come and go with it. */
  readonly parts: readonly string[];
  readonly #definition: PipelineDefinition;
  /** Requests and sessions that are with it. */
  readonly #running = new Set<Leaving>();
  #onIdle: (() => void) | undefined;
  readonly #plan: PipelinePlan;
  readonly #tensorsOf: (inputs: Values) => readonly Tensor[];

  /** Throws INVALID_REQUEST where its stages do not fit the models. */
  constructor(definition: PipelineDefinition, models: readonly StageModel[]) {
    const { name, version, description, program, example } = definition;
    const plan = planPipeline(definition, program, models);
    const { streaming, inputs, outputs } = plan;
    this.#plan = plan;
    this.#definition = definition;
    this.parts = (definition.parts ?? []).map((part) => part.name);
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

  uses(model: string): boolean {
    return this.#plan.stages.some((stage) => stage.model === model);
  }

  /** Throws INVALID_REQUEST where its stages would not fit other models, or it would not be the same to its callers. */
  checkFit(models: readonly StageModel[]): void {
    const face = ({ streaming, inputs, outputs }: PipelinePlan) =>
      JSON.stringify([streaming, inputs, outputs]);
    const plan = planPipeline(this.#definition, this.#definition.program, models);
    if (face(plan) === face(this.#plan)) return;
    throw new Fault("INVALID_REQUEST", `pipeline '${this.info.name}' would take or give something else`);
  }

  submit(submit: Submit, inputs: Values, options: RequestOptions, listener: Listener): Handle {
    const leaving: Leaving = { leave: () => {}, isEvicted: false };
    const request = new PipelineRequest(this.#plan, submit, inputs, options, this.#heard(leaving, listener));
    return this.#enter(leaving, request, () => request.cancel());
  }

  open(
    open: Open,
    options: RequestOptions & { readonly state?: string },
    listener: Listener,
  ): PipelineSession {
    return this.#openSession(
      listener,
      (heard) => new PipelineSession(this.#plan, open, this.#tensorsOf, options, heard),
    );
  }

  fork(session: PipelineSession, listener: Listener): PipelineSession {
    return this.#openSession(listener, (heard) => session.fork(heard));
  }

  #openSession(listener: Listener, open: (heard: Listener) => PipelineSession): PipelineSession {
    const leaving: Leaving = { leave: () => {}, isEvicted: false };
    const session = open(this.#heard(leaving, listener));
    return this.#enter(leaving, session, () => session.suspend());
  }

  /**
   * Waits for who is with it, `drainMs` at most; then ends requests with MODEL_NOT_READY and sessions with their state. Resolves when
   * nobody is.
   */
  async retire(drainMs: number): Promise<void> {
    await this.#idle(drainMs);
    for (const leaving of this.#running) {
      leaving.isEvicted = true;
      leaving.leave();
    }
    await this.#idle(EVICTION_MS);
  }

  #enter<Begun>(leaving: Leaving, begun: Begun, leave: () => void): Begun {
    leaving.leave = leave;
    // What fails at once has ended before it could be entered.
    if (!leaving.hasEnded) this.#running.add(leaving);
    return begun;
  }

  /** The same listener, which is told why it ends where the pipeline is unloaded. */
  #heard(leaving: Leaving, listener: Listener): Listener {
    const ended = () => {
      leaving.hasEnded = true;
      this.#running.delete(leaving);
      if (this.#running.size === 0) this.#onIdle?.();
    };
    return {
      ...listener,
      done: (result) => {
        ended();
        listener.done(result);
      },
      suspended: (state, evicted) => {
        ended();
        listener.suspended?.(state, leaving.isEvicted ? "replaced" : evicted);
      },
      failed: (fault) => {
        ended();
        listener.failed(leaving.isEvicted ? this.#unloaded() : fault);
      },
    };
  }

  #unloaded(): Fault {
    const { name, version } = this.info;
    const message = `version ${version} of model '${name}' was unloaded before the request was done`;
    return new Fault("MODEL_NOT_READY", message);
  }

  #idle(ms: number): Promise<void> {
    if (this.#running.size === 0) return Promise.resolve();
    return new Promise((resolve) => {
      const end = () => {
        clearTimeout(timer);
        this.#onIdle = undefined;
        resolve();
      };
      const timer = setTimeout(end, ms);
      this.#onIdle = end;
    });
  }
}

/** A request or session that may be asked to leave. */
interface Leaving {
  leave: () => void;
  isEvicted: boolean;
  hasEnded?: true;
}

/** How long the stages may take to end what they were asked to end. */
const EVICTION_MS = 5000;

/** A session as a handle whose forks are begun by `begin`. */
export function handleOf(
  pipeline: ServedPipeline,
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
    fork: (listener) => begin(listener, (counted) => pipeline.fork(session, counted)),
  };
}
