import { Fault } from "../../core/faults.ts";
import type { Listener, ModelInfo, SessionHandle, StepOutput, Values } from "../../runtime/types.ts";
import type { SequenceParameters } from "./parameters.ts";
import type { DoorOptions, Statistics } from "./statistics.ts";

/** Why a sequence ended before its client said so. */
export type SequenceEnd = "idle" | "replaced" | "cancelled" | "failed" | "unloaded" | "shutdown";

export interface SequenceSettings {
  readonly model: ModelInfo;
  /** As messages call it. */
  readonly name: string;
  /** Longest silence before it is evicted, in milliseconds. */
  readonly idleMs: number;
  readonly statistics: Statistics;
  /** Opens its session; throws what the opening throws. */
  readonly open: (listener: Listener) => SessionHandle;
  /** Called once, before its waiting requests are told; `why` is absent where its client ended it or never began it. */
  readonly ended: (sequence: Sequence, why: SequenceEnd | undefined) => void;
}

/** What one request of a sequence brings besides its inputs. */
export interface TurnCall {
  /** Aborted when the client is gone; ends the sequence while the request is being processed. */
  readonly signal: AbortSignal;
  /** Those of the first request are the sequence's; `timeoutMs` is each request's own. */
  readonly options: DoorOptions;
}

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

/** One sequence: a runtime session, and the requests that take turns on it. */
export class Sequence {
  readonly model: ModelInfo;
  readonly name: string;
  readonly #settings: SequenceSettings;
  readonly #session: SessionHandle;
  /** In order of arrival; the first is the one whose steps come next. */
  readonly #turns: Turn[] = [];
  readonly #idle: NodeJS.Timeout;
  #lastMarker = 0;
  #isClosing = false;
  #hasEnded = false;

  constructor(settings: SequenceSettings) {
    this.#settings = settings;
    this.model = settings.model;
    this.name = settings.name;
    this.#session = settings.open(this.#listener());
    this.#idle = setTimeout(() => this.#evictIdle(), settings.idleMs);
    this.#idle.unref();
  }

  /** Set once no more requests may join: its last one is there. */
  get isClosing(): boolean {
    return this.#isClosing;
  }

  /** Requests that wait for outputs. */
  get waiting(): number {
    return this.#turns.length;
  }

  /** Processes `inputs` after those that are there. Throws a fault for inputs that were refused; rejects with that which ends the sequence. */
  take(
    of: SequenceParameters,
    inputs: Values,
    { signal, options }: TurnCall,
  ): Promise<readonly StepOutput[]> {
    try {
      this.#session.push(inputs);
    } catch (error) {
      // A refused request leaves its sequence as it was, but one that was to begin it never did.
      if (of.start && this.#leave()) this.#session.cancel();
      throw error;
    }
    this.#idle.refresh();
    const marker = ++this.#lastMarker;
    this.#session.marker(marker);
    if (of.end) {
      this.#isClosing = true;
      this.#session.end();
    }
    const startMs = performance.now();
    const parent = this.#settings.statistics.parentOf(options.traceparent);
    const asked = new Promise<readonly StepOutput[]>((resolve, reject) => {
      this.#turns.push({ marker, steps: [], startMs, parent, isLast: of.end, resolve, reject });
    });
    const { timeoutMs } = options;
    const cancel = () => {
      const message = `the client of ${this.name} left, and the sequence has ended`;
      this.end("cancelled", new Fault("CANCELLED", message));
    };
    const late = () => {
      const message = `a request of ${this.name} took longer than ${timeoutMs} ms, and the sequence has ended`;
      this.end("cancelled", new Fault("DEADLINE_EXCEEDED", message));
    };
    const timer = timeoutMs === undefined ? undefined : setTimeout(late, Math.min(timeoutMs, LONGEST_MS));
    signal.addEventListener("abort", cancel, { once: true });
    return asked.finally(() => {
      clearTimeout(timer);
      signal.removeEventListener("abort", cancel);
    });
  }

  /** Ends it, if it has not ended; all its waiting requests get the fault. */
  end(why: SequenceEnd, fault: Fault): void {
    if (!this.#leave(why)) return;
    this.#session.cancel();
    for (const { startMs, parent, reject } of this.#turns.splice(0)) {
      const totalMs = performance.now() - startMs;
      this.#settings.statistics.add(this.model, {
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

  #listener(): Listener {
    return {
      output: (step) => this.#turns[0]?.steps.push(step),
      marker: (marker) => {
        const turn = this.#turns[0];
        // The last turn ends with the session, so that its slot is free when the client hears.
        if (turn?.marker === marker && !turn.isLast) this.#answer();
      },
      done: () => {
        this.#leave();
        while (this.#turns.length > 0) this.#answer();
      },
      failed: (fault) => this.end("failed", fault),
      suspended: () => {
        const message = `${this.name} ended, version ${this.model.version} was unloaded`;
        this.end("unloaded", new Fault("MODEL_NOT_READY", message));
      },
    };
  }

  #answer(): void {
    const { steps, startMs, parent, resolve } = this.#turns.shift()!;
    const computeMs = performance.now() - startMs;
    this.#settings.statistics.add(this.model, {
      code: "OK",
      totalMs: computeMs,
      queueMs: 0,
      computeMs,
      cells: steps.length,
      parent,
    });
    this.#idle.refresh();
    resolve(steps);
  }

  #evictIdle(): void {
    if (this.#turns.length > 0) this.#idle.refresh();
    else this.end("idle", new Fault("CANCELLED", `${this.name} was idle`));
  }

  /** False where it had ended before. */
  #leave(why?: SequenceEnd): boolean {
    if (this.#hasEnded) return false;
    this.#hasEnded = true;
    clearTimeout(this.#idle);
    this.#settings.ended(this, why);
    return true;
  }
}

const LONGEST_MS = 2 ** 31 - 1;
