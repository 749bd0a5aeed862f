import { Fault } from "../../core/faults.ts";
import type { ModelInfo, StepOutput, Values } from "../../runtime/types.ts";
import type { Caller } from "../access/caller.ts";
import type { Evictions } from "../evictions.ts";
import type { SequenceParameters } from "./parameters.ts";
import { Sequence, type SequenceEnd, type TurnCall } from "./sequence.ts";
import type { Doorway, Statistics } from "./statistics.ts";

export interface SequenceLimits {
  /** Sequences that may be open over HTTP and gRPC together. @default 4096 */
  readonly sequences: number;
  /** Requests of one sequence that may wait for the one before. @default 64 */
  readonly sequenceRequests: number;
  /** Longest silence of a sequence before it is evicted, in milliseconds. @default 60 000 */
  readonly idleMs: number;
}

/** What one request of a sequence brings, and of whom. */
export interface SequenceCall extends TurnCall {
  readonly caller: Caller;
}

/** Runtime sessions behind the sequence ids of Open Inference Protocol clients, whichever door they come through. */
export class Sequences {
  readonly #doorway: Doorway;
  readonly #statistics: Statistics;
  readonly #evictions: Evictions;
  readonly #limits: SequenceLimits;
  readonly #all = new Set<Sequence>();
  /** Those that an id stands for; one whose last request is there gives its id to the next. */
  readonly #open = new Map<string, Sequence>();
  readonly #ended = new Map<SequenceEnd, number>();
  #closing = false;

  /** `doorway` opens sessions that are not counted: every request of a sequence is. */
  constructor(doorway: Doorway, statistics: Statistics, evictions: Evictions, limits: SequenceLimits) {
    this.#doorway = doorway;
    this.#evictions = evictions;
    this.#statistics = statistics;
    this.#limits = limits;
  }

  get size(): number {
    return this.#all.size;
  }

  /** How many sequences ended in each way that their clients did not ask for. */
  get ended(): ReadonlyMap<SequenceEnd, number> {
    return this.#ended;
  }

  /** The version that an open sequence runs on; undefined where there is none. Throws INVALID_REQUEST where another is asked for. */
  modelOf(
    name: string,
    key: string | undefined,
    version: string | undefined,
    caller: Caller,
  ): ModelInfo | undefined {
    const sequence = key === undefined ? undefined : this.#open.get(keyOf(key, name, caller));
    if (!sequence || !version || sequence.model.version === version) return sequence?.model;
    throw new Fault(
      "INVALID_REQUEST",
      `${sequence.name} began on version ${sequence.model.version} and cannot go on with version '${version}'`,
    );
  }

  /**
   * Processes `inputs` as the next steps of a sequence and resolves with their outputs. Requests of a sequence are
   * processed in order of their calls. Rejects with the fault that ended the sequence; throws a fault at once for a request
   * that never joined it.
   */
  push(
    info: ModelInfo,
    of: SequenceParameters & { readonly key: string },
    inputs: Values,
    call: SequenceCall,
  ): Promise<readonly StepOutput[]> {
    const model = info.name;
    const key = keyOf(of.key, model, call.caller);
    let sequence = this.#open.get(key);
    if (of.start) {
      if (this.#closing) {
        throw new Fault(
          "SHUTTING_DOWN",
          "Server is stopping, scheduler for model has stopped accepting new inference requests",
        );
      }
      if (sequence && !sequence.isClosing) {
        sequence.end("replaced", new Fault("CANCELLED", `${sequence.name} was started again`));
      }
      sequence = this.#begin(info, key, of, call);
    } else call.caller.spend();
    if (!sequence || sequence.isClosing) {
      throw new Fault(
        "INVALID_REQUEST",
        `inference request for sequence ${of.id} to model '${model}' must specify the START flag on the first request of the sequence`,
      );
    }
    if (sequence.waiting >= this.#limits.sequenceRequests) {
      const message = `${sequence.name} has ${sequence.waiting} requests waiting, which is the most`;
      throw new Fault("OVERLOADED", message);
    }
    return sequence.take(of, inputs, call);
  }

  /** Refuses new sequences; those that are open go on. */
  stopAdmitting(): void {
    this.#closing = true;
  }

  /** Ends all sequences. */
  close(): void {
    const fault = new Fault("SHUTTING_DOWN", "the server shut down before the sequence ended");
    for (const sequence of [...this.#open.values()]) sequence.end("shutdown", fault);
  }

  #begin(model: ModelInfo, key: string, of: SequenceParameters, { caller, options }: SequenceCall): Sequence {
    if (this.#all.size >= this.#limits.sequences) {
      throw new Fault("OVERLOADED", `${this.#all.size} sequences are open, which is the most`);
    }
    // A time limit is each request's, not the sequence's.
    const { timeoutMs: _, ...rest } = options;
    const doorway = caller.guard(this.#doorway);
    const sequence = new Sequence({
      model,
      name: `sequence ${of.id} of model '${model.name}'`,
      idleMs: this.#limits.idleMs,
      statistics: this.#statistics,
      open: (listener) => doorway.open(model.name, { ...rest, version: model.version }, listener),
      ended: (one, why) => this.#forget(one, key, why),
    });
    this.#all.add(sequence);
    this.#open.set(key, sequence);
    return sequence;
  }

  #forget(sequence: Sequence, key: string, why: SequenceEnd | undefined): void {
    this.#all.delete(sequence);
    if (this.#open.get(key) === sequence) this.#open.delete(key);
    if (why === undefined) return;
    this.#ended.set(why, (this.#ended.get(why) ?? 0) + 1);
    if (why === "cancelled" || why === "failed") return;
    const reason = why === "unloaded" ? "replaced" : why;
    this.#evictions.add({ model: sequence.model.name, reason });
  }
}

/** A sequence is its caller's own: the same id of another is another sequence. */
function keyOf(key: string, model: string, caller: Caller): string {
  return `${key}\0${model}\0${caller.name}`;
}
