import type { QuietRuns } from "./quiet.ts";
import type { EngineRun } from "./request.ts";

/** The runs of requests that are objects, by number of their subgraph. */
export class RunTable {
  readonly #all: EngineRun[] = [];
  readonly #quiet: QuietRuns;

  constructor(quiet: QuietRuns) {
    this.#quiet = quiet;
  }

  at(subgraph: number): EngineRun {
    return this.#all[subgraph]!;
  }

  enter(run: EngineRun): void {
    this.#quiet.makeRoom(run.subgraph);
    this.#all[run.subgraph] = run;
  }

  /** The scheduler may give the number to another. */
  leave(run: EngineRun): void {
    this.#quiet.leave(run);
    run.isDone = true;
    this.#all[run.subgraph] = GONE;
  }
}

/** Stands for runs that have ended, so that the table stays of one kind. */
const GONE = undefined as unknown as EngineRun;
