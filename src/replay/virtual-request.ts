import type { Change, WorkRequest, WorkRun } from "./workload.ts";

/** A run of cells of a request that runs again. */
export interface VirtualRun {
  readonly request: VirtualRequest;
  readonly work: WorkRun;
  /** The scheduler's number; negative before it is added and once it has ended. */
  id: number;
}

/** A recorded request that runs again in virtual time; in microseconds. */
export class VirtualRequest {
  readonly work: WorkRequest;
  readonly arrivalUs: number;
  /** Its number among the requests of its engine; negative before it came. */
  arrival = -1;
  /** Cells that have run, and runs that have not ended. */
  cells = 0;
  open = 0;
  /** When a run of it ended last. */
  lastUs = -1;
  wasRemoved = false;
  readonly #runs = new Map<WorkRun, VirtualRun>();
  /** What follows from its own cells, in order. */
  readonly #progressed: readonly Change[];
  #reached = 0;

  constructor(work: WorkRequest, arrivalUs: number) {
    this.work = work;
    this.arrivalUs = arrivalUs;
    this.#progressed = work.changes.filter(({ when }) => "cells" in when);
  }

  get runs(): Iterable<VirtualRun> {
    return this.#runs.values();
  }

  get isEnded(): boolean {
    return this.arrival >= 0 && this.open === 0;
  }

  run(work: WorkRun): VirtualRun {
    const run = this.#runs.get(work) ?? { request: this, work, id: -1 };
    this.#runs.set(work, run);
    return run;
  }

  /** Changes that are due by the cells that have run, each once. */
  *reached(): Generator<Change> {
    for (; this.#reached < this.#progressed.length; this.#reached++) {
      const change = this.#progressed[this.#reached]!;
      if ("cells" in change.when && change.when.cells > this.cells) return;
      yield change;
    }
  }

  /** What comes from outside: by time after its arrival, in order. */
  timed(): readonly { readonly afterUs: number; readonly changes: readonly Change[] }[] {
    const timed: { afterUs: number; changes: Change[] }[] = [];
    for (const change of this.work.changes) {
      if (!("afterUs" in change.when)) continue;
      const { afterUs } = change.when;
      const last = timed.at(-1);
      if (last?.afterUs === afterUs) last.changes.push(change);
      else timed.push({ afterUs, changes: [change] });
    }
    return timed;
  }
}
