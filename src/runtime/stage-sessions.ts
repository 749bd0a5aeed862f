import { Fault } from "../core/faults.ts";
import type { PlannedStage } from "./pipeline-plan.ts";
import { addUsage, NO_USAGE, type Open, optionsNow, stageFault } from "./pipeline-stage.ts";
import type { Listener, RequestOptions, SessionHandle, StepOutput, Usage } from "./types.ts";

/** The session of one stage's model, from its opening to its end. */
export interface StageSession {
  readonly handle: SessionHandle;
  /** Steps of the pipeline that it was given and has not answered, in order. */
  readonly asked: number[];
}

/** Hears what a stage answered to step number `at`; undefined where a text's end follows its last step. */
export type HearStage = (at: number | undefined, step: StepOutput) => void;

/** Who hears of the ends of stages' sessions. */
export interface StageEvents {
  /** One came to its end. */
  ended(): void;
  /** The fault names the stage. */
  failed(fault: Fault): void;
}

/** The sessions that run for a pipeline's session; a stage may begin another while its last one still answers. */
export class StageSessions {
  readonly #open: Open;
  readonly #options: RequestOptions;
  readonly #events: StageEvents;
  readonly #startMs = performance.now();
  readonly #all = new Set<StageSession>();
  /** Who waits for the states of which. */
  readonly #suspended = new Map<StageSession, (state: string) => void>();
  #usage = NO_USAGE;
  #isPaused = false;

  constructor(open: Open, options: RequestOptions, events: StageEvents) {
    this.#open = open;
    this.#options = options;
    this.#events = events;
  }

  /** Those that have not ended. */
  get size(): number {
    return this.#all.size;
  }

  /** Of those that have ended. */
  get usage(): Usage {
    return this.#usage;
  }

  /** Opens the session of a stage, from a state if there is one. Throws its fault. */
  begin(stage: PlannedStage, state: string | undefined, hear: HearStage): StageSession {
    const options = {
      ...optionsNow(this.#options, this.#startMs),
      ...(state === undefined ? {} : { state }),
    };
    try {
      return this.#add(stage, hear, (listener) => this.#open(stage.model, options, listener));
    } catch (error) {
      throw stageFault(stage, Fault.from(error));
    }
  }

  /** Goes on from what `parent`, of another session of the pipeline, was given so far. */
  fork(stage: PlannedStage, parent: StageSession, hear: HearStage): StageSession {
    return this.#add(stage, hear, (listener) => parent.handle.fork(listener));
  }

  /** Ends one, handing its state to `taken` once it has answered. */
  suspend(session: StageSession, taken: (state: string) => void): void {
    this.#suspended.set(session, taken);
    session.handle.suspend();
  }

  cancel(): void {
    for (const { handle } of this.#all) handle.cancel();
  }

  pause(): void {
    this.#isPaused = true;
    for (const { handle } of this.#all) handle.pause();
  }

  resume(): void {
    this.#isPaused = false;
    for (const { handle } of this.#all) handle.resume();
  }

  #add(stage: PlannedStage, hear: HearStage, open: (listener: Listener) => SessionHandle): StageSession {
    const asked: number[] = [];
    const session: StageSession = {
      asked,
      handle: open({
        output: (step) => hear(asked.shift(), step),
        done: ({ usage }) => {
          this.#usage = addUsage(this.#usage, usage);
          this.#all.delete(session);
          this.#events.ended();
        },
        suspended: (state) => {
          this.#all.delete(session);
          this.#suspended.get(session)?.(state);
        },
        failed: (fault) => this.#events.failed(stageFault(stage, fault)),
      }),
    };
    this.#all.add(session);
    if (this.#isPaused) session.handle.pause();
    return session;
  }
}
