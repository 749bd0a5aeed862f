import type { Values } from "../../kernels/kernel.ts";
import type { CellRun, Held, Run, Series } from "../../models/definition.ts";
import type { BeamSearch } from "./beam.ts";
import type { EngineOptions } from "./messages.ts";
import type { LoadedModel } from "./model.ts";
import type { RunOutput } from "./outputs.ts";

const NONE: readonly never[] = [];

/** A request or session while an engine serves it. */
export class Request {
  readonly id: number;
  readonly model: LoadedModel;
  readonly options: EngineOptions;
  readonly arrival: number;
  readonly admittedMs: number;
  readonly deadlineMs: number;
  /** Literals of one element, here and below: a push into an empty array makes room for 17. */
  runs: readonly EngineRun[] = NONE;
  /** Runs that are not done. */
  open = 0;
  startedMs = -1;
  /** What is put together for the caller at the end; `output` is one of the model's. */
  given: readonly { readonly output: number; readonly series: BoundSeries }[] = NONE;
  /** What a search found, by output of the model. */
  found: readonly Found[] = NONE;
  /** Where the kernel's outputs hold the answer, from its last step until it is sent. */
  answerRow = -1;
  random: number;
  ended = false;
  paused = false;
  /** The run of a session that takes its input. */
  session: SessionRun | undefined;

  constructor(id: number, model: LoadedModel, options: EngineOptions, arrival: number, now: number) {
    this.id = id;
    this.model = model;
    this.options = options;
    this.arrival = arrival;
    this.admittedMs = now;
    this.deadlineMs = now + options.timeoutMs;
    this.random = options.seed | 0;
  }
}

/** One subgraph of a request: cells of one type, one after the other, on one slot. */
export class EngineRun implements Run {
  readonly request: Request;
  /** Index among the model's cells. */
  readonly index: number;
  readonly from: readonly EngineRun[];
  /** By input of the cell: what gives its values when the run begins, where they do not come with the request. */
  series: readonly (BoundSeries | undefined)[] = NONE;
  /** By input of the cell: whether a series is held, the same at every step, and as what. */
  held: readonly (Held["as"] | undefined)[] = NONE;
  readonly generate: CellRun["generate"];
  /** The search that this run is a hypothesis of, and which. */
  search: BeamSearch | undefined;
  beam = 0;
  subgraph = -1;
  slot = -1;
  /** By input of the cell: the values of the steps that are known. */
  inputs: readonly Values[];
  /** Steps in all; at most, where it generates. */
  steps = 0;
  /** The next step to run, counted within `inputs`. */
  position = 0;
  /** Steps that have run. */
  done = 0;
  /** Its last token, where it generates. */
  token = 0;
  /** Runs that begin from this one's last state and have not begun. */
  readers = 0;
  isDone = false;
  /** Whether its slot was filled when the model was loaded and belongs to all requests; it never runs. */
  isKnown = false;
  /** What it gives to the caller; one list for all runs of a model that give the same. */
  outputs: readonly RunOutput[] = NONE;
  /** By output: what is kept until the answer. */
  kept: Kept[] | undefined;
  /** Whether its steps before the last concern nobody; see `QuietRuns`, which counts them. */
  isQuiet = false;
  /** Whether outputs of steps before the last are kept. */
  collectsAll = false;

  constructor(
    request: Request,
    index: number,
    inputs: readonly Values[],
    from: readonly EngineRun[],
    generate?: CellRun["generate"],
  ) {
    this.request = request;
    this.index = index;
    this.inputs = inputs;
    this.from = from;
    this.generate = generate;
    for (const run of from) run.readers++;
  }

  get cell(): string {
    return this.request.model.definition.cells[this.index]!.name;
  }

  /** The scheduler's number of its cell. */
  get type(): number {
    return this.request.model.firstType + this.index;
  }
}

/** An output whose values are known only when the request ends; `all` where it has one for every step. */
export interface Found {
  readonly output: number;
  readonly all: boolean;
  /** Of one step where it has one for every step. */
  readonly shape: readonly number[];
  readonly values: Values;
}

/** Values of one output that are kept until the answer. */
export interface Kept {
  values: Values;
  /** Values that are there. */
  length: number;
}

/** Outputs of several runs that are put together once those are done. */
export interface BoundSeries {
  readonly parts: readonly SeriesPart[];
  readonly merge: NonNullable<Series["merge"]>;
  readonly collect: NonNullable<Series["collect"]>;
  /** Whether its steps are wanted from the last to the first. */
  readonly backwards: boolean;
  /** Steps that come out: 1 unless all are collected. */
  readonly steps: number;
  /** Of one step, put together. */
  readonly shape: readonly number[];
}

interface SeriesPart {
  readonly run: EngineRun;
  /** Among the run's outputs. */
  readonly output: number;
  readonly backwards: boolean;
}

/** What a session keeps besides its run. */
export interface SessionRun {
  readonly run: EngineRun;
  /** Input after the present one: by push, then by input of the cell. */
  readonly pushed: { readonly inputs: readonly Values[]; readonly steps: number }[];
  /** Steps of the present input. */
  steps: number;
  /** Steps that were pushed so far, and those of them that may run. */
  known: number;
  released: number;
  /** No push will follow. */
  sealed: boolean;
  /** Whether it is a fork that has not got the state it begins from. */
  awaitsState: boolean;
  /** What to do once this many steps have run; ascending. */
  readonly waypoints: Waypoint[];
}

export type Waypoint =
  | { readonly at: number; readonly kind: "marker"; readonly marker: number }
  | { readonly at: number; readonly kind: "suspend" }
  | { readonly at: number; readonly kind: "fork"; readonly child: Request };
