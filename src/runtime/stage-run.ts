import { Fault } from "../core/faults.ts";
import { CLOSED, type GateState, gateAfter } from "./gate.ts";
import type { PlannedStage } from "./pipeline-plan.ts";
import { stageFault } from "./pipeline-stage.ts";
import type { StageState } from "./pipeline-state.ts";
import { outputOf, type Step } from "./pipeline-steps.ts";
import type { HearStage, StageSession, StageSessions } from "./stage-sessions.ts";
import type { Value, Values } from "./types.ts";

export interface StageRunSettings {
  readonly plan: PlannedStage;
  /** Its index in the plan. */
  readonly at: number;
  readonly sessions: StageSessions;
  readonly hear: HearStage;
}

/** One stage of a pipeline's session: it is given each step, or kept from it, in order. */
export class StageRun {
  readonly at: number;
  readonly plan: PlannedStage;
  /** Takes pushes as they come: it needs nothing of other stages. */
  readonly isFree: boolean;
  readonly #sessions: StageSessions;
  readonly #hear: HearStage;
  #isReady = false;
  #next = 0;
  #gate: GateState = CLOSED;
  #session: StageSession | undefined;

  constructor({ plan, at, sessions, hear }: StageRunSettings) {
    this.at = at;
    this.plan = plan;
    this.isFree = !plan.gate && plan.after.length === 0;
    this.#sessions = sessions;
    this.#hear = hear;
  }

  /** Whether it has what it begins from: a fork must wait for its parent. */
  get isReady(): boolean {
    return this.#isReady;
  }

  /** The next step that it is to be given, or kept from. */
  get next(): number {
    return this.#next;
  }

  /** Begins anew or from a state; a stage whose gate resets it opens no session before its gate is open. Throws the fault of its model. */
  begin(from: StageState | undefined): void {
    this.#isReady = true;
    this.#gate = from?.gate ?? CLOSED;
    if (from?.state !== undefined || !this.plan.gate?.reset) this.#open(from?.state);
  }

  /** Begins where the same stage of another session is now. */
  goOnFrom(parent: StageRun): void {
    this.#isReady = true;
    this.#gate = parent.#gate;
    if (parent.#session) this.#session = this.#sessions.fork(this.plan, parent.#session, this.#hear);
  }

  /** Takes the pipeline's inputs of so many steps at once; of a free stage. */
  push(inputs: Values, steps: number): void {
    const { handle, asked } = this.#session!;
    handle.push(
      Object.fromEntries(this.plan.inputs.map(({ name, from }) => [name, inputs[from as string]!])),
    );
    for (let step = 0; step < steps; step++) asked.push(this.#next++);
  }

  /** Whether a step holds all that it takes. */
  canTake(step: Step): boolean {
    return this.plan.after.every((before) => step.outputs[before] !== undefined);
  }

  /** Takes its next step, or is kept from it by its gate or by a stage that gave nothing. Throws its fault. */
  take(step: Step): void {
    const inputs = this.#passes(step) ? this.#inputsOf(step) : undefined;
    if (inputs) this.#give(inputs);
    else step.outputs[this.at] = NOTHING;
    this.#next++;
  }

  /** Ends its session, which may still answer. */
  end(): void {
    this.#session?.handle.end();
    this.#session = undefined;
  }

  /** Hands its state to `taken`, which waits for the answers of its session. */
  suspend(taken: (state: StageState) => void): void {
    if (!this.#session) taken({ gate: this.#gate, state: undefined });
    else this.#sessions.suspend(this.#session, (state) => taken({ gate: this.#gate, state }));
  }

  #open(state: string | undefined): StageSession {
    const session = this.#sessions.begin(this.plan, state, this.#hear);
    this.#session = session;
    return session;
  }

  /** Moves the gate by a step, and answers whether it is open then. */
  #passes(step: Step): boolean {
    const { gate } = this.plan;
    if (!gate) return true;
    const value = outputOf(step, gate.from);
    const number = value === undefined || typeof value === "string" ? undefined : value.data[0];
    this.#gate = gateAfter(gate, this.#gate, number);
    if (!this.#gate.isOpen && gate.reset) this.end();
    return this.#gate.isOpen;
  }

  /** Undefined where one of them comes from a stage that was kept from the step. */
  #inputsOf(step: Step): Values | undefined {
    const inputs: Record<string, Value> = {};
    for (const { name, from } of this.plan.inputs) {
      const value = typeof from === "string" ? step.inputs[from] : outputOf(step, from);
      if (value === undefined) return undefined;
      inputs[name] = value;
    }
    return inputs;
  }

  #give(inputs: Values): void {
    const session = this.#session ?? this.#open(undefined);
    try {
      session.handle.push(inputs);
    } catch (error) {
      throw stageFault(this.plan, Fault.from(error));
    }
    session.asked.push(this.#next);
  }
}

/** What a stage gives at a step that it was kept from. */
const NOTHING: Values = {};
