import { Fault } from "../../core/faults.ts";
import { resultOf, stepsOf } from "../../runtime/stream.ts";
import type { Handle, Listener, ModelInfo, StepOutput, Values } from "../../runtime/types.ts";
import type { Caller } from "../access/caller.ts";
import { outputsOf, stackedOutputs, wantedOutputs } from "./answers.ts";
import { modelOf } from "./metadata.ts";
import { optionsOf, type SequenceParameters, sequenceOf } from "./parameters.ts";
import { readInputs } from "./read-tensors.ts";
import type { Sequences } from "./sequences.ts";
import type { DoorOptions, Doorway } from "./statistics.ts";
import type { InferAnswer, InferRequest, OutputTensor } from "./types.ts";

/** A request whose parts were checked against its model. */
interface Plan {
  readonly model: ModelInfo;
  readonly values: Values;
  readonly isBatch: boolean;
  readonly names: readonly string[];
  readonly options: DoorOptions;
  readonly sequence: SequenceParameters;
  readonly caller: Caller;
  readonly signal: AbortSignal;
}

/** Who asks, and until when. */
export interface Asker {
  readonly caller: Caller;
  /** Aborted when the client is gone. */
  readonly signal: AbortSignal;
}

/** Turns requests of the Open Inference Protocol into calls of the runtime, and back; what HTTP and gRPC share. */
export class Inference {
  readonly #doorway: Doorway;
  readonly #sequences: Sequences;
  readonly #newId: () => string;
  #active = 0;
  #closing = false;

  /** `newId` makes ids for sequences whose clients gave none. */
  constructor(doorway: Doorway, sequences: Sequences, newId: () => string) {
    this.#doorway = doorway;
    this.#sequences = sequences;
    this.#newId = newId;
  }

  /** Requests that have not been answered. */
  get active(): number {
    return this.#active;
  }

  /** Refuses new requests and new sequences; what runs goes on. */
  stopAdmitting(): void {
    this.#closing = true;
    this.#sequences.stopAdmitting();
  }

  /**
   * Answers with all outputs. Requests of one sequence are processed in order of their calls. Rejects with a `Fault`;
   * with CANCELLED once the asker's signal is aborted.
   */
  async infer(request: InferRequest, asker: Asker): Promise<InferAnswer> {
    this.#active++;
    try {
      const plan = this.#plan(request, asker);
      const { model, sequence } = plan;
      if (sequence.key !== undefined || sequence.start || sequence.end) {
        return await this.#ofSequence(request, plan);
      }
      const steps: StepOutput[] = [];
      const output = (step: StepOutput) => steps.push(step);
      const { outputs } = await resultOf(
        (listener) => this.#submit(plan, model.streaming ? { ...listener, output } : listener),
        asker.signal,
      );
      return answer(
        request,
        model,
        model.streaming
          ? stackedOutputs(steps, plan.names, plan.isBatch)
          : outputsOf(outputs, plan.names, plan.isBatch),
      );
    } finally {
      this.#active--;
    }
  }

  /** Answers with the outputs of every step as it is done. Of a model for sessions: of a whole sequence in one request. */
  async *stream(request: InferRequest, asker: Asker): AsyncGenerator<InferAnswer> {
    this.#active++;
    try {
      const plan = this.#plan(request, asker);
      const { model, sequence, names, isBatch, signal } = plan;
      if (sequence.key !== undefined || sequence.start || sequence.end) {
        throw new Fault("INVALID_REQUEST", "a request whose steps are streamed cannot be part of a sequence");
      }
      for await (const { outputs } of stepsOf((listener) => this.#submit(plan, listener), signal)) {
        const step = outputsOf(outputs, names, isBatch);
        if (step.length > 0) yield answer(request, model, step);
      }
    } finally {
      this.#active--;
    }
  }

  #plan(request: InferRequest, { caller, signal }: Asker): Plan {
    const { model: name, version, parameters, inputs, outputs, traceparent } = request;
    if (signal.aborted) throw new Fault("CANCELLED", "the client was gone before the request was made");
    const sequence = sequenceOf(parameters);
    // A sequence goes on with the version it began on.
    const running = sequence.start ? undefined : this.#sequences.modelOf(name, sequence.key, version, caller);
    const model = running ?? modelOf(caller.guard(this.#doorway), name, version);
    const options: DoorOptions = { ...optionsOf(parameters), traceparent };
    const names = wantedOutputs(model, outputs);
    return { model, sequence, options, names, caller, signal, ...readInputs(model, inputs) };
  }

  async #ofSequence(request: InferRequest, plan: Plan): Promise<InferAnswer> {
    const { model, sequence, values, isBatch, names, options, caller, signal } = plan;
    if (!model.streaming) {
      throw new Fault(
        "INVALID_REQUEST",
        `model '${model.name}' takes single requests: send the whole sequence in one, without sequence parameters`,
      );
    }
    if (sequence.key === undefined && !sequence.start) {
      throw new Fault(
        "INVALID_REQUEST",
        `inference request to model '${model.name}' must specify a non-zero or non-empty correlation ID`,
      );
    }
    const made = sequence.key === undefined ? this.#newId() : undefined;
    const named = made === undefined ? sequence : { ...sequence, key: `s${made}`, id: made };
    const key = named.key!;
    const steps = await this.#sequences.push(model, { ...named, key }, values, { signal, options, caller });
    const outputs = stackedOutputs(steps, names, isBatch);
    return answer(request, model, outputs, made === undefined ? {} : { sequence_id: made });
  }

  /** A request, or a session of which all input is there. */
  #submit({ model, values, options, caller }: Plan, listener: Listener): Handle {
    if (this.#closing) {
      throw new Fault("SHUTTING_DOWN", "the server is shutting down and takes no more requests");
    }
    const doorway = caller.guard(this.#doorway);
    const wishes = { ...options, version: model.version };
    if (!model.streaming) return doorway.submit(model.name, values, wishes, listener);
    const session = doorway.open(model.name, wishes, listener);
    try {
      session.push(values);
    } catch (error) {
      session.cancel();
      throw error;
    }
    session.end();
    return session;
  }
}

function answer(
  { id }: InferRequest,
  { name, version }: ModelInfo,
  outputs: readonly OutputTensor[],
  parameters: InferAnswer["parameters"] = {},
): InferAnswer {
  return { id, model: name, version, parameters, outputs };
}
