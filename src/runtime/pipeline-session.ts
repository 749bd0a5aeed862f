import { Fault } from "../core/faults.ts";
import type { Tensor } from "../core/tensor.ts";
import { CLOSED, type GateState, gateAfter } from "./gate.ts";
import type { PipelinePlan, PlannedStage, StageOutput } from "./pipeline-plan.ts";
import { addUsage, givenBy, NO_USAGE, type Open, optionsNow, stageFault } from "./pipeline-stage.ts";
import { packStages, type StageState, unpackStages } from "./pipeline-state.ts";
import type { Listener, RequestOptions, SessionHandle, StepOutput, Value, Values } from "./types.ts";

/** The session of one stage's model, from its opening to its end. */
interface Life {
  handle: SessionHandle;
  /** Steps of the pipeline that it was given and has not answered, in order. */
  readonly asked: number[];
}

interface StageRun {
  readonly at: number;
  readonly plan: PlannedStage;
  /** Takes pushes as they come: it needs nothing of other stages. */
  readonly isFree: boolean;
  /** Of a fork: whether it has the state that it begins from. */
  isReady: boolean;
  /** The next step that it is to be given, or kept from. */
  next: number;
  gate: GateState;
  life: Life | undefined;
}

/** A step that has not been answered. */
interface Step {
  /** The pipeline's inputs at this step. */
  readonly inputs: Values;
  /** By stage: undefined until it is known. */
  readonly outputs: (Values | undefined)[];
}

/** Something to do with each stage once it was given all steps before `at`. */
interface Cut {
  readonly at: number;
  readonly isDone: boolean[];
  readonly act: (stage: StageRun) => void;
  /** The session ended before. */
  readonly abandon: () => void;
}

/** A session of a pipeline: every stage is a session of its own, and gets each step once what it takes of others is there. */
export class PipelineSession {
  readonly #plan: PipelinePlan;
  readonly #open: Open;
  /** The inputs of a push, checked: by input of the plan, with a leading axis of steps. */
  readonly #tensorsOf: (inputs: Values) => readonly Tensor[];
  readonly #options: RequestOptions;
  readonly #listener: Listener;
  readonly #startMs = performance.now();
  readonly #stages: readonly StageRun[];
  readonly #lives = new Set<Life>();
  /** Who waits for the states of which sessions. */
  readonly #suspended = new Map<Life, (state: string) => void>();
  /** From step number `#told` on. */
  readonly #steps: Step[] = [];
  #told = 0;
  #known = 0;
  #cuts: Cut[] = [];
  readonly #markers: { readonly at: number; readonly marker: number }[] = [];
  #usage = NO_USAGE;
  /** No more input follows. */
  #isSealed = false;
  /** By stage, as they come, once the session's state was asked for. */
  #states: (StageState | undefined)[] | undefined;
  #isPaused = false;
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
    const states = state === undefined ? undefined : unpackStages(plan, state);
    this.#stages = plan.stages.map((stage, at) => ({
      at,
      plan: stage,
      isFree: !stage.gate && stage.after.length === 0,
      isReady: !isForked,
      next: 0,
      gate: states?.[at]?.gate ?? CLOSED,
      life: undefined,
    }));
    if (isForked) return;
    try {
      for (const stage of this.#stages) {
        const own = states?.[stage.at]?.state;
        if (own !== undefined || !stage.plan.gate?.reset) this.#begin(stage, own);
      }
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
    const [first] = tensors;
    const steps = first!.shape[0]!;
    tensors.forEach((tensor, i) => {
      if (tensor.shape[0] === steps) return;
      const [one, other] = [this.#plan.inputs[i]!.name, this.#plan.inputs[0]!.name];
      throw new Fault(
        "INVALID_INPUT",
        `input '${one}' has ${tensor.shape[0]} steps, '${other}' has ${steps}`,
      );
    });
    if (steps === 0) return 0;
    this.#guarded(() => {
      for (const stage of this.#stages) {
        if (!stage.isFree) continue;
        const whole = stage.plan.inputs.map(({ name, from }) => [
          name,
          tensors[this.#plan.inputs.findIndex((input) => input.name === from)]!,
        ]);
        stage.life!.handle.push(Object.fromEntries(whole));
        for (let step = 0; step < steps; step++) stage.life!.asked.push(stage.next++);
      }
      for (let step = 0; step < steps; step++) this.#steps.push(this.#stepOf(tensors, step));
      this.#known += steps;
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
    this.#markers.push({ at: this.#known, marker });
    this.#reachMarkers();
  }

  suspend(): void {
    if (this.#hasEnded || this.#isSealed || this.#states) return;
    const states: (StageState | undefined)[] = this.#stages.map(() => undefined);
    this.#states = states;
    const take = (stage: StageRun, state: string | undefined) => {
      states[stage.at] = { gate: stage.gate, state };
      this.#finish();
    };
    const act = (stage: StageRun) => {
      if (!stage.life) return take(stage, undefined);
      this.#suspended.set(stage.life, (state) => take(stage, state));
      stage.life.handle.suspend();
    };
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
    for (const { handle } of this.#lives) handle.cancel();
    if (this.#lives.size === 0) this.#fail(new Fault("CANCELLED", "the request was cancelled"));
  }

  pause(): void {
    this.#isPaused = true;
    for (const { handle } of this.#lives) handle.pause();
  }

  resume(): void {
    this.#isPaused = false;
    for (const { handle } of this.#lives) handle.resume();
  }

  #begin(stage: StageRun, state: string | undefined): Life {
    const options = {
      ...optionsNow(this.#options, this.#startMs),
      ...(state === undefined ? {} : { state }),
    };
    try {
      return this.#live(stage, (listener) => this.#open(stage.plan.model, options, listener));
    } catch (error) {
      throw stageFault(stage.plan, Fault.from(error));
    }
  }

  #live(stage: StageRun, open: (listener: Listener) => SessionHandle): Life {
    const asked: number[] = [];
    const life: Life = {
      asked,
      handle: open({
        output: (step) => this.#hear(stage, asked.shift(), step),
        done: ({ usage }) => {
          this.#usage = addUsage(this.#usage, usage);
          this.#lives.delete(life);
          this.#finish();
        },
        suspended: (state) => {
          this.#lives.delete(life);
          this.#suspended.get(life)?.(state);
        },
        failed: (fault) => this.#fail(stageFault(stage.plan, fault)),
      }),
    };
    this.#lives.add(life);
    stage.life = life;
    if (this.#isPaused) life.handle.pause();
    return life;
  }

  #goOnFrom(parent: StageRun): void {
    if (this.#hasEnded) return;
    const stage = this.#stages[parent.at]!;
    stage.gate = parent.gate;
    stage.isReady = true;
    if (parent.life) this.#live(stage, (listener) => parent.life!.handle.fork(listener));
    this.#advance();
  }

  #stepOf(tensors: readonly Tensor[], step: number): Step {
    const inputs: Record<string, Tensor> = {};
    this.#plan.inputs.forEach(({ name }, i) => {
      const { dtype, shape, data } = tensors[i]!;
      const size = data.length / shape[0]!;
      inputs[name] = {
        dtype,
        shape: shape.slice(1),
        data: data.subarray(step * size, (step + 1) * size),
      } as Tensor;
    });
    return { inputs, outputs: this.#stages.map(() => undefined) };
  }

  /** Takes what a stage answered to step number `at`; undefined where a text's end follows its last step. */
  #hear(stage: StageRun, at: number | undefined, { outputs }: StepOutput): void {
    if (this.#hasEnded) return;
    if (at === undefined) {
      const given = givenBy(this.#plan, (from) =>
        from.stage === stage.at ? outputs[from.output] : undefined,
      );
      this.#listener.output?.({ step: Math.max(0, this.#told - 1), outputs: given });
      return;
    }
    this.#steps[at - this.#told]!.outputs[stage.at] = outputs;
    this.#guarded(() => this.#advance());
  }

  /** Gives steps to the stages that can take them, then tells those that are whole. */
  #advance(): void {
    for (const stage of this.#stages) {
      this.#reachCuts(stage);
      if (stage.isFree || !stage.isReady) continue;
      while (stage.next < this.#known) {
        const step = this.#steps[stage.next - this.#told]!;
        if (stage.plan.after.some((before) => step.outputs[before] === undefined)) break;
        this.#give(stage, step);
        stage.next++;
        this.#reachCuts(stage);
      }
    }
    this.#tell();
  }

  /** Gives a step to a stage, or keeps it from the stage. */
  #give(stage: StageRun, step: Step): void {
    const { gate } = stage.plan;
    if (gate) {
      const value = outputOf(step, gate.from);
      const number = value === undefined || typeof value === "string" ? undefined : value.data[0];
      stage.gate = gateAfter(gate, stage.gate, number);
      if (!stage.gate.isOpen) {
        if (gate.reset) {
          stage.life?.handle.end();
          stage.life = undefined;
        }
        step.outputs[stage.at] = NOTHING;
        return;
      }
    }
    const inputs: Record<string, Value> = {};
    for (const { name, from } of stage.plan.inputs) {
      const value = typeof from === "string" ? step.inputs[from] : outputOf(step, from);
      if (value === undefined) {
        step.outputs[stage.at] = NOTHING;
        return;
      }
      inputs[name] = value;
    }
    const life = stage.life ?? this.#begin(stage, undefined);
    try {
      life.handle.push(inputs);
    } catch (error) {
      throw stageFault(stage.plan, Fault.from(error));
    }
    life.asked.push(stage.next);
  }

  #tell(): void {
    while (!this.#hasEnded && this.#steps[0]?.outputs.every((outputs) => outputs !== undefined)) {
      const step = this.#steps.shift()!;
      const number = this.#told++;
      this.#listener.output?.({ step: number, outputs: givenBy(this.#plan, (from) => outputOf(step, from)) });
      this.#listener.consumed?.(1);
      this.#reachMarkers();
    }
    this.#finish();
  }

  #reachMarkers(): void {
    while (this.#markers.length > 0 && this.#markers[0]!.at <= this.#told) {
      this.#listener.marker?.(this.#markers.shift()!.marker);
    }
  }

  #cut(act: (stage: StageRun) => void, abandon: () => void): void {
    this.#cuts.push({ at: this.#known, isDone: this.#stages.map(() => false), act, abandon });
    for (const stage of this.#stages) this.#reachCuts(stage);
  }

  #reachCuts(stage: StageRun): void {
    if (this.#cuts.length === 0 || !stage.isReady) return;
    for (const { at, isDone, act } of this.#cuts) {
      if (isDone[stage.at] || stage.next < at) continue;
      isDone[stage.at] = true;
      act(stage);
    }
    this.#cuts = this.#cuts.filter(({ isDone }) => isDone.includes(false));
  }

  /** Once all input was answered: hands back the state, if that was asked for; or ends the stages, if no more follows. */
  #finish(): void {
    if (this.#hasEnded || this.#told < this.#known || this.#stages.some(({ isReady }) => !isReady)) return;
    const states = this.#states;
    if (states?.every((state) => state !== undefined)) {
      this.#end(() => this.#listener.suspended?.(packStages(this.#plan, states)));
      return;
    }
    if (states || !this.#isSealed) return;
    for (const stage of this.#stages) {
      stage.life?.handle.end();
      stage.life = undefined;
    }
    if (this.#lives.size > 0) return;
    this.#end(() => this.#listener.done({ outputs: {}, usage: this.#usage }));
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
    for (const { handle } of this.#lives) handle.cancel();
    tell();
    for (const { abandon } of this.#cuts) abandon();
  }
}

/** What a stage gives at a step that it was kept from. */
const NOTHING: Values = {};

function outputOf({ outputs }: Step, { stage, output }: StageOutput): Value | undefined {
  return outputs[stage]?.[output];
}
