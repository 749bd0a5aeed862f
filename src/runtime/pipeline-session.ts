import { Fault } from "../core/faults.ts";
import type { Tensor } from "../core/tensor.ts";
import type { PipelinePlan } from "./pipeline-plan.ts";
import { givenBy, type Open } from "./pipeline-stage.ts";
import { packStages, type StageState, unpackStages } from "./pipeline-state.ts";
import { outputOf, PipelineSteps, stepsIn } from "./pipeline-steps.ts";
import { StageCuts } from "./stage-cuts.ts";
import { StageRun } from "./stage-run.ts";
import { StageSessions } from "./stage-sessions.ts";
import type { Listener, RequestOptions, StepOutput, Values } from "./types.ts";

/** A session of a pipeline: every stage is a session of its own, and gets each step once what it takes of others is there. */
export class PipelineSession {
  readonly #plan: PipelinePlan;
  readonly #open: Open;
  /** The inputs of a push, checked: by input of the plan, with a leading axis of steps. */
  readonly #tensorsOf: (inputs: Values) => readonly Tensor[];
  readonly #options: RequestOptions;
  readonly #listener: Listener;
  readonly #sessions: StageSessions;
  readonly #stages: readonly StageRun[];
  readonly #steps: PipelineSteps;
  readonly #cuts = new StageCuts();
  readonly #markers: { readonly at: number; readonly marker: number }[] = [];
  /** No more input follows. */
  #isSealed = false;
  /** By stage, as they come, once the session's state was asked for. */
  #states: (StageState | undefined)[] | undefined;
  #hasEnded = false;

  /** Opens the stages, unless they will be `forked`. Throws the fault of one that cannot be opened. */
  constructor(
    plan: PipelinePlan,
    open: Open,
    tensorsOf: (inputs: Values) => readonly Tensor[],
    options: RequestOptions & { readonly state?: string },
    listener: Listener,
    isForked = false,
  ) {
    const { state, ...rest } = options;
    this.#plan = plan;
    this.#open = open;
    this.#tensorsOf = tensorsOf;
    this.#options = rest;
    this.#listener = listener;
    this.#steps = new PipelineSteps(plan);
    this.#sessions = new StageSessions(open, rest, {
      ended: () => this.#finish(),
      failed: (fault) => this.#fail(fault),
    });
    const sessions = this.#sessions;
    const states = state === undefined ? undefined : unpackStages(plan, state);
    this.#stages = plan.stages.map(
      (stage, at) =>
        new StageRun({ plan: stage, at, sessions, hear: (step, output) => this.#hear(at, step, output) }),
    );
    if (isForked) return;
    try {
      for (const stage of this.#stages) stage.begin(states?.[stage.at]);
    } catch (error) {
      this.#hasEnded = true;
      this.cancel();
      throw error;
    }
  }

  push(inputs: Values): number {
    // As for every session: what comes after a suspension is not part of the state.
    if (this.#hasEnded || this.#states) return 0;
    if (this.#isSealed) throw new Fault("INVALID_REQUEST", "the session was ended and takes no more input");
    const tensors = this.#tensorsOf(inputs);
    const steps = stepsIn(this.#plan, tensors);
    if (steps === 0) return 0;
    this.#guarded(() => {
      const whole = Object.fromEntries(this.#plan.inputs.map(({ name }, i) => [name, tensors[i]!]));
      for (const stage of this.#stages) if (stage.isFree) stage.push(whole, steps);
      this.#steps.add(tensors, steps);
      this.#advance();
    });
    return steps;
  }

  end(): void {
    this.#isSealed = true;
    this.#finish();
  }

  marker(marker: number): void {
    if (this.#hasEnded) return;
    this.#markers.push({ at: this.#steps.known, marker });
    this.#reachMarkers();
  }

  suspend(): void {
    if (this.#hasEnded || this.#isSealed || this.#states) return;
    const states: (StageState | undefined)[] = this.#stages.map(() => undefined);
    this.#states = states;
    const act = (stage: StageRun) =>
      stage.suspend((state) => {
        states[stage.at] = state;
        this.#finish();
      });
    this.#cut(act, () => {});
  }

  fork(listener: Listener): PipelineSession {
    if (this.#hasEnded) throw new Fault("SESSION_NOT_FOUND", "the session to fork has ended");
    const fork = new PipelineSession(this.#plan, this.#open, this.#tensorsOf, this.#options, listener, true);
    const message = "the session it was to be forked from has ended";
    this.#cut(
      (stage) => fork.#guarded(() => fork.#goOnFrom(stage)),
      () => fork.#fail(new Fault("CANCELLED", message)),
    );
    return fork;
  }

  cancel(): void {
    this.#sessions.cancel();
    if (this.#sessions.size === 0) this.#fail(new Fault("CANCELLED", "the request was cancelled"));
  }

  pause(): void {
    this.#sessions.pause();
  }

  resume(): void {
    this.#sessions.resume();
  }

  #goOnFrom(parent: StageRun): void {
    if (this.#hasEnded) return;
    this.#stages[parent.at]!.goOnFrom(parent);
    this.#advance();
  }

  /** Takes what a stage answered to step number `at`; undefined where a text's end follows its last step. */
  #hear(stage: number, at: number | undefined, { outputs }: StepOutput): void {
    if (this.#hasEnded) return;
    if (at === undefined) {
      const given = givenBy(this.#plan, (from) => (from.stage === stage ? outputs[from.output] : undefined));
      this.#listener.output?.({ step: Math.max(0, this.#steps.told - 1), outputs: given });
      return;
    }
    this.#steps.at(at).outputs[stage] = outputs;
    this.#guarded(() => this.#advance());
  }

  /** Gives steps to the stages that can take them, then tells those that are whole. */
  #advance(): void {
    for (const stage of this.#stages) {
      this.#cuts.reach(stage);
      if (stage.isFree || !stage.isReady) continue;
      while (stage.next < this.#steps.known) {
        const step = this.#steps.at(stage.next);
        if (!stage.canTake(step)) break;
        stage.take(step);
        this.#cuts.reach(stage);
      }
    }
    this.#tell();
  }

  #tell(): void {
    while (!this.#hasEnded) {
      const step = this.#steps.answer();
      if (!step) break;
      const outputs = givenBy(this.#plan, (from) => outputOf(step, from));
      this.#listener.output?.({ step: this.#steps.told - 1, outputs });
      this.#listener.consumed?.(1);
      this.#reachMarkers();
    }
    this.#finish();
  }

  #reachMarkers(): void {
    while (this.#markers.length > 0 && this.#markers[0]!.at <= this.#steps.told) {
      this.#listener.marker?.(this.#markers.shift()!.marker);
    }
  }

  #cut(act: (stage: StageRun) => void, abandon: () => void): void {
    this.#cuts.add({ at: this.#steps.known, act, abandon }, this.#stages);
  }

  /** Once all input was answered: hands back the state, if that was asked for; or ends the stages, if no more follows. */
  #finish(): void {
    const { told, known } = this.#steps;
    if (this.#hasEnded || told < known || this.#stages.some(({ isReady }) => !isReady)) return;
    const states = this.#states;
    if (states?.every((state) => state !== undefined)) {
      this.#end(() => this.#listener.suspended?.(packStages(this.#plan, states)));
      return;
    }
    if (states || !this.#isSealed) return;
    for (const stage of this.#stages) stage.end();
    if (this.#sessions.size > 0) return;
    this.#end(() => this.#listener.done({ outputs: {}, usage: this.#sessions.usage }));
  }

  #guarded(act: () => void): void {
    try {
      act();
    } catch (error) {
      this.#fail(Fault.from(error));
    }
  }

  #fail(fault: Fault): void {
    this.#end(() => this.#listener.failed(fault));
  }

  #end(tell: () => void): void {
    if (this.#hasEnded) return;
    this.#hasEnded = true;
    this.#sessions.cancel();
    tell();
    this.#cuts.abandon();
  }
}
