/**
 * A recording of decisions is lines of text, in the order in which they were written. The first line names the form, a `session`
 * line begins each server that wrote to the file, and each engine writes pieces of whole lines, each of which begins with
 * `@<life> <piece>`: an engine has another life each time it is started, and the pieces of a life count from 0.
 *
 * Within a life each line is a letter and numbers:
 *
 * | line | what |
 * | --- | --- |
 * | `e {json}` | the life begins: see `LifeSettings` |
 * | `t time` | of the lines that follow |
 * | `m {json}` | cell types are added, which the scheduler numbers: see `RecordedType` |
 * | `o first count` | cell types are taken out |
 * | `a type steps kind priority arrival deadline before...` | a run of cells is added, which the scheduler numbers; `kind` is 1 where more steps may follow, plus 2 where only the next one is ever known |
 * | `x run steps` | more steps of a run are known |
 * | `f run`, `s run`, `p run`, `u run`, `d run`, `v run` | finish, seal, pause, resume, remove, settle |
 * | `n` | nothing was ready |
 * | `b time type rows steps (row run)...` | a task begins; rows that are as in the type's last task are left out |
 * | `c time` | the task is complete |
 * | `l {json}` | a whole graph has new buffers: see `RecordedBuffers` |
 * | `q graph request size priority deadline now` | a request waits in a graph's buffers |
 * | `g graph request` | it leaves them |
 * | `y graph idle now request...` | a batch of whole requests begins |
 * | `z time` | the batch has ended |
 *
 * Times are whole microseconds since the life began; `now` and deadlines are the exact milliseconds of the engine's clock, since
 * decisions depend on them; `-` is no deadline. Lines that begin with a digit are a trace for planning. A line that ends in `~`
 * was torn when its server died.
 */
export const RECORDING = "cellbatch-recording 1";
export const TORN = "~";

/** What a recording may have where nobody says: one to ten million requests. */
export const RECORDING_BYTES = 2 ** 30;

/** Why nothing more is recorded. */
export function tooLarge(path: string, limit: number): string {
  return `${path} would be larger than its limit of ${limit} bytes`;
}

export const letterOf = {
  life: "e",
  time: "t",
  types: "m",
  typesGone: "o",
  add: "a",
  extend: "x",
  finish: "f",
  seal: "s",
  pause: "p",
  resume: "u",
  remove: "d",
  settle: "v",
  idle: "n",
  task: "b",
  complete: "c",
  buffers: "l",
  waits: "q",
  leaves: "g",
  batch: "y",
  batchDone: "z",
} as const;

/** What a run of cells goes through besides being added and run. */
export type RunChange = "extend" | "finish" | "seal" | "pause" | "resume" | "remove" | "settle";

/** What a server was told, as far as it decides. */
export interface SessionSettings {
  readonly engines: number;
  readonly policy: string;
}

/** What one engine began with. */
export interface LifeSettings {
  readonly policy: string;
  /** The engine's clock when it began, and the time of day by the machine, in milliseconds. */
  readonly startMs: number;
  readonly epochMs: number;
}

export interface RecordedType {
  readonly name: string;
  readonly family: number;
  readonly priority: number;
  readonly maxBatch: number;
  readonly stepSizes?: readonly number[];
  readonly maxStepRows?: number;
  readonly maxStepCells?: number;
  /** Points of its cost curve. */
  readonly cost?: readonly (readonly [rows: number, ms: number])[];
}

export interface RecordedBuffers {
  /** The number by which requests name the model, and its name. */
  readonly graph: number;
  readonly name: string;
  readonly eager: boolean;
  readonly order: "fullest" | "oldest" | "round-robin";
  /** By size: the largest that a buffer takes; absent for no bound. */
  readonly buffers: readonly {
    readonly upTo?: number;
    readonly maxBatch: number;
    readonly timeoutMs: number;
  }[];
}
