import { Fault } from "../../core/faults.ts";
import type { Listener, ModelInfo, SessionHandle, StepOutput, Values } from "../../runtime/types.ts";
import type { Caller } from "../access/caller.ts";
import type { Evictions } from "../evictions.ts";
import type { SequenceParameters } from "./parameters.ts";
import type { DoorOptions, Doorway, Statistics } from "./statistics.ts";

export interface SequenceLimits {
  /** Sequences that may be open over HTTP and gRPC together. @default 4096 */
  readonly sequences: number;
  /** Requests of one sequence that may wait for the one before. @default 64 */
  readonly sequenceRequests: number;
  /** Longest silence of a sequence before it is evicted, in milliseconds. @default 60 000 */
  readonly idleMs: number;
}

/** Why a sequence ended before its client said so. */
export type SequenceEnd = "idle" | "replaced" | "cancelled" | "failed" | "unloaded" | "shutdown";

/** One request of a sequence, while it waits for the outputs of its steps. */
interface Turn {
  readonly marker: number;
  readonly steps: StepOutput[];
  readonly startMs: number;
  readonly parent: unknown;
  readonly isLast: boolean;
  readonly resolve: (steps: readonly StepOutput[]) => void;
  readonly reject: (fault: Fault) => void;
}

interface Sequence {
  readonly model: ModelInfo;
  readonly key: string;
  readonly name: string;
  readonly session: SessionHandle;
  /** In order of arrival; the first is the one whose steps come next. */
  readonly turns: Turn[];
  readonly idle: NodeJS.Timeout;
  lastMarker: number;
  /** Set once no more requests may join: its last one is there. */
  isClosing: boolean;
  hasEnded: boolean;
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
        const replaced = new Fault("CANCELLED", `sequence ${of.id} of model '${model}' was started again`);
        this.#end(sequence, "replaced", replaced);
      }
      sequence = this.#begin(info, key, of, call);
    } else call.caller.spend();
    if (!sequence || sequence.isClosing) {
      throw new Fault(
        "INVALID_REQUEST",
        `inference request for sequence ${of.id} to model '${model}' must specify the START flag on the first request of the sequence`,
      );
    }
    if (sequence.turns.length >= this.#limits.sequenceRequests) {
      throw new Fault(
        "OVERLOADED",
        `sequence ${of.id} of model '${model}' has ${sequence.turns.length} requests waiting, which is the most`,
      );
    }
    return this.#take(sequence, of, inputs, call);
  }

  /** Refuses new sequences; those that are open go on. */
  stopAdmitting(): void {
    this.#closing = true;
  }

  /** Ends all sequences. */
  close(): void {
    const fault = new Fault("SHUTTING_DOWN", "the server shut down before the sequence ended");
    for (const sequence of [...this.#open.values()]) this.#end(sequence, "shutdown", fault);
  }

  #begin(model: ModelInfo, key: string, of: SequenceParameters, { caller, options }: SequenceCall): Sequence {
    if (this.#all.size >= this.#limits.sequences) {
      throw new Fault("OVERLOADED", `${this.#all.size} sequences are open, which is the most`);
    }
    // A time limit is each request's, not the sequence's.
    const { timeoutMs: _, ...rest } = options;
    const name = `sequence ${of.id} of model '${model.name}'`;
    const session = caller.guard(this.#doorway).open(
      model.name,
      { ...rest, version: model.version },
      this.#listener(() => sequence),
    );
    const idle = setTimeout(() => this.#evictIdle(sequence), this.#limits.idleMs);
    idle.unref();
    const life = { lastMarker: 0, isClosing: false, hasEnded: false };
    const sequence: Sequence = { model, key, name, session, turns: [], idle, ...life };
    this.#all.add(sequence);
    this.#open.set(key, sequence);
    return sequence;
  }

  #take(
    sequence: Sequence,
    of: SequenceParameters,
    inputs: Values,
    { signal, options }: SequenceCall,
  ): Promise<readonly StepOutput[]> {
    try {
      sequence.session.push(inputs);
    } catch (error) {
      // A refused request leaves its sequence as it was, but one that was to begin it never did.
      if (of.start && this.#forget(sequence)) sequence.session.cancel();
      throw error;
    }
    sequence.idle.refresh();
    const marker = ++sequence.lastMarker;
    sequence.session.marker(marker);
    if (of.end) {
      sequence.isClosing = true;
      sequence.session.end();
    }
    const startMs = performance.now();
    const parent = this.#statistics.parentOf(options.traceparent);
    const asked = new Promise<readonly StepOutput[]>((resolve, reject) => {
      sequence.turns.push({ marker, steps: [], startMs, parent, isLast: of.end, resolve, reject });
    });
    const { timeoutMs } = options;
    const cancel = () => {
      this.#end(
        sequence,
        "cancelled",
        new Fault("CANCELLED", `the client of ${sequence.name} left, and the sequence has ended`),
      );
    };
    const late = () => {
      const took = `took longer than ${timeoutMs} ms`;
      this.#end(
        sequence,
        "cancelled",
        new Fault("DEADLINE_EXCEEDED", `a request of ${sequence.name} ${took}, and the sequence has ended`),
      );
    };
    const timer = timeoutMs === undefined ? undefined : setTimeout(late, Math.min(timeoutMs, LONGEST_MS));
    signal.addEventListener("abort", cancel, { once: true });
    return asked.finally(() => {
      clearTimeout(timer);
      signal.removeEventListener("abort", cancel);
    });
  }

  #listener(of: () => Sequence): Listener {
    return {
      output: (step) => of().turns[0]?.steps.push(step),
      marker: (marker) => {
        const sequence = of();
        const turn = sequence.turns[0];
        // The last turn ends with the session, so that its slot is free when the client hears.
        if (turn?.marker === marker && !turn.isLast) this.#answer(sequence);
      },
      done: () => {
        const sequence = of();
        this.#forget(sequence);
        while (sequence.turns.length > 0) this.#answer(sequence);
      },
      failed: (fault) => this.#end(of(), "failed", fault),
      suspended: () => {
        const { name, model } = of();
        const fault = new Fault("MODEL_NOT_READY", `${name} ended, version ${model.version} was unloaded`);
        this.#end(of(), "unloaded", fault);
      },
    };
  }

  #answer(sequence: Sequence): void {
    const { steps, startMs, parent, resolve } = sequence.turns.shift()!;
    const computeMs = performance.now() - startMs;
    this.#statistics.add(sequence.model, {
      code: "OK",
      totalMs: computeMs,
      queueMs: 0,
      computeMs,
      cells: steps.length,
      parent,
    });
    sequence.idle.refresh();
    resolve(steps);
  }

  #evictIdle(sequence: Sequence): void {
    if (sequence.turns.length > 0) sequence.idle.refresh();
    else this.#end(sequence, "idle", new Fault("CANCELLED", `${sequence.name} was idle`));
  }

  /** Ends a sequence that has not ended; all its waiting requests get the fault. */
  #end(sequence: Sequence, why: SequenceEnd, fault: Fault): void {
    if (!this.#forget(sequence)) return;
    this.#ended.set(why, (this.#ended.get(why) ?? 0) + 1);
    if (why !== "cancelled" && why !== "failed") {
      const reason = why === "unloaded" ? "replaced" : why;
      this.#evictions.add({ model: sequence.model.name, reason });
    }
    sequence.session.cancel();
    for (const { startMs, parent, reject } of sequence.turns.splice(0)) {
      const totalMs = performance.now() - startMs;
      this.#statistics.add(sequence.model, {
        code: fault.code,
        totalMs,
        queueMs: 0,
        computeMs: 0,
        cells: 0,
        parent,
        fault,
      });
      reject(fault);
    }
  }

  /** Lets a sequence go; false where it had ended before. */
  #forget(sequence: Sequence): boolean {
    if (sequence.hasEnded) return false;
    sequence.hasEnded = true;
    clearTimeout(sequence.idle);
    this.#all.delete(sequence);
    if (this.#open.get(sequence.key) === sequence) this.#open.delete(sequence.key);
    return true;
  }
}

/** What one request of a sequence brings besides its inputs. */
export interface SequenceCall {
  /** Aborted when the client is gone; ends the sequence while the request is being processed. */
  readonly signal: AbortSignal;
  /** Those of the first request are the sequence's; `timeoutMs` is each request's own. */
  readonly options: DoorOptions;
  readonly caller: Caller;
}

/** A sequence is its caller's own: the same id of another is another sequence. */
function keyOf(key: string, model: string, caller: Caller): string {
  return `${key}\0${model}\0${caller.name}`;
}

const LONGEST_MS = 2 ** 31 - 1;
