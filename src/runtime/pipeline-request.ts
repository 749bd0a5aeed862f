import { Fault } from "../core/faults.ts";
import type { PipelinePlan, PlannedStage, StageOutput } from "./pipeline-plan.ts";
import { addUsage, givenBy, NO_USAGE, optionsNow, type Submit, stageFault } from "./pipeline-stage.ts";
import type { Handle, Listener, RequestOptions, Result, Value, Values } from "./types.ts";

/** One request of a pipeline: a stage begins once those are done whose outputs it takes. */
export class PipelineRequest implements Handle {
  readonly #plan: PipelinePlan;
  readonly #submit: Submit;
  readonly #inputs: Values;
  readonly #options: RequestOptions;
  readonly #listener: Listener;
  readonly #startMs = performance.now();
  /** By stage: undefined until it began. */
  readonly #stages: (Running | Done | undefined)[];
  #usage = NO_USAGE;
  #steps = 0;
  #isPaused = false;
  #hasEnded = false;

  /** Begins the first stages. Throws the fault of one that cannot begin. */
  constructor(
    plan: PipelinePlan,
    submit: Submit,
    inputs: Values,
    options: RequestOptions,
    listener: Listener,
  ) {
    this.#plan = plan;
    this.#submit = submit;
    this.#inputs = inputs;
    this.#options = options;
    this.#listener = listener;
    this.#stages = plan.stages.map(() => undefined);
    checkNames(plan, inputs);
    try {
      this.#advance();
    } catch (error) {
      this.#hasEnded = true;
      this.cancel();
      throw error;
    }
  }

  cancel(): void {
    for (const stage of this.#stages) if (stage?.state === "running") stage.handle.cancel();
  }

  pause(): void {
    this.#isPaused = true;
    for (const stage of this.#stages) if (stage?.state === "running") stage.handle.pause();
  }

  resume(): void {
    this.#isPaused = false;
    for (const stage of this.#stages) if (stage?.state === "running") stage.handle.resume();
  }

  #advance(): void {
    this.#plan.stages.forEach((stage, at) => {
      if (this.#stages[at]) return;
      if (!stage.after.every((before) => this.#stages[before]?.state === "done")) return;
      const inputs = this.#isOpen(stage) ? this.#inputsOf(stage) : undefined;
      this.#stages[at] = inputs ? this.#begin(stage, at, inputs) : { state: "done", outputs: undefined };
    });
    if (this.#stages.every((stage) => stage?.state === "done")) this.#end();
  }

  #begin(stage: PlannedStage, at: number, inputs: Values): Running {
    const isGiven = this.#plan.outputs.some(({ from }) => from.stage === at);
    const { output } = this.#listener;
    const step = (outputs: Values) => {
      const given = givenBy(this.#plan, (from) => (from.stage === at ? outputs[from.output] : undefined));
      if (!this.#hasEnded) output!({ step: this.#steps++, outputs: given });
    };
    const listener: Listener = {
      ...(output && isGiven ? { output: ({ outputs }) => step(outputs) } : {}),
      done: (result) => this.#done(at, result),
      failed: (fault) => this.#fail(stageFault(stage, fault)),
    };
    try {
      const handle = this.#submit(stage.model, inputs, optionsNow(this.#options, this.#startMs), listener);
      if (this.#isPaused) handle.pause();
      return { state: "running", handle };
    } catch (error) {
      throw stageFault(stage, Fault.from(error));
    }
  }

  #done(at: number, { outputs, usage }: Result): void {
    if (this.#hasEnded) return;
    this.#usage = addUsage(this.#usage, usage);
    this.#stages[at] = { state: "done", outputs };
    try {
      this.#advance();
    } catch (error) {
      this.#fail(Fault.from(error));
    }
  }

  #end(): void {
    this.#hasEnded = true;
    const outputs = givenBy(this.#plan, (from) => this.#outputOf(from));
    this.#listener.done({ outputs, usage: this.#usage });
  }

  #fail(fault: Fault): void {
    if (this.#hasEnded) return;
    this.#hasEnded = true;
    this.cancel();
    this.#listener.failed(fault);
  }

  #isOpen({ gate }: PlannedStage): boolean {
    if (!gate) return true;
    const value = this.#outputOf(gate.from);
    return value !== undefined && typeof value !== "string" && value.data[0]! >= gate.open;
  }

  /** Undefined where one of them comes from a stage that did not run. */
  #inputsOf({ inputs }: PlannedStage): Values | undefined {
    const values: Record<string, Value> = {};
    for (const { name, from } of inputs) {
      const value = typeof from === "string" ? this.#inputs[from] : this.#outputOf(from);
      if (value === undefined) return undefined;
      values[name] = value;
    }
    return values;
  }

  #outputOf({ stage, output }: StageOutput): Value | undefined {
    const done = this.#stages[stage];
    return done?.state === "done" ? done.outputs?.[output] : undefined;
  }
}

interface Running {
  readonly state: "running";
  readonly handle: Handle;
}

interface Done {
  readonly state: "done";
  /** Undefined where it did not run. */
  readonly outputs: Values | undefined;
}

/** Throws INVALID_INPUT for an input that the pipeline has not, or that is missing. */
function checkNames({ name, inputs }: PipelinePlan, values: Values): void {
  const names = inputs.map((spec) => spec.name);
  const known = names.map((one) => `'${one}'`).join(", ");
  const unknown = Object.keys(values).find((one) => !names.includes(one));
  if (unknown !== undefined) {
    throw new Fault("INVALID_INPUT", `model '${name}' has no input '${unknown}', it takes ${known}`);
  }
  const missing = names.find((one) => values[one] === undefined);
  if (missing !== undefined) {
    throw new Fault("INVALID_INPUT", `input '${missing}' of model '${name}' is missing`);
  }
}
