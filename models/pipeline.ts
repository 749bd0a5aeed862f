/**
 * A program of programs: requests or sessions of other models, in which outputs of one are inputs of the next. All stages
 * take single requests, or all take sessions; so does the pipeline.
 */
export interface Pipeline {
  readonly kind: "pipeline";
  /** At least one; a stage uses outputs of those before it. */
  readonly stages: readonly Stage[];
  /** By name that callers get: `stage.output`. @default the outputs of the last stage */
  readonly outputs?: Readonly<Record<string, string>>;
}

export interface Stage {
  /** Unique within the pipeline, without a dot. @default the model's name */
  readonly name: string;
  /** Name of a model that is served beside the pipeline, or that lies in a folder of that name inside the pipeline's. */
  readonly model: string;
  /** By input of the model: `stage.output`, or an input of the pipeline. @default the pipeline's input of the same name */
  readonly inputs: Readonly<Record<string, string>>;
  /** When the stage runs. @default always */
  readonly gate?: Gate;
}

/**
 * Lets a stage run only where an output of an earlier one is high enough: in a session the steps of which that holds, with
 * hysteresis; in a single request all or nothing, where `close`, `hold` and `reset` mean nothing. What did not run has no
 * outputs, and what would need those does not run either.
 */
export interface Gate {
  /** `stage.output`, one number (of each step). */
  readonly output: string;
  /** It opens at this value and above. */
  readonly open: number;
  /** It closes below this value; at most `open`. @default `open` */
  readonly close: number;
  /** Steps that it stays open after it would have closed. @default 0 */
  readonly hold: number;
  /** Whether the stage begins anew, from its first state, each time the gate opens. @default false: it goes on where it was */
  readonly reset: boolean;
}
