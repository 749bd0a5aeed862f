import type { Values } from "../../kernels/kernel.ts";
import type { Task } from "../../scheduler/scheduler.ts";
import { copy, copySteps } from "./copy.ts";
import { LOUD, type QuietRuns } from "./quiet.ts";
import type { EngineRun, SessionRun } from "./request.ts";
import type { RunTable } from "./run-table.ts";

/** Puts the inputs of a task's rows where its kernel reads them. */
export class Staging {
  readonly #quiet: QuietRuns;
  readonly #runs: RunTable;
  /** By type and input, then by row: the held values that the kernel's staging place has there. */
  readonly #holders = new Map<number, Values[]>();

  constructor(quiet: QuietRuns, runs: RunTable) {
    this.#quiet = quiet;
    this.#runs = runs;
  }

  /** One input, of `size` values a step. */
  stage(task: Task, input: number, size: number, to: Values): void {
    const { rows, steps, subgraphs } = task;
    const { kind, done } = this.#quiet;
    const { values, first } = this.#quiet.input(input);
    const holders = this.#holders.get(task.type * MOST_INPUTS + input);
    if (holders && steps > 1) holders.length = 0;
    for (let row = 0; row < rows; row++) {
      const subgraph = subgraphs[row]!;
      if (kind[subgraph] !== LOUD) {
        if (holders) holders[row] = NOTHING;
        const at = first[subgraph]! + done[subgraph]! * size;
        if (size === 1 && steps === 1) to[row] = values[subgraph]![at]!;
        else copySteps(values[subgraph]!, at, size, to, row, rows, steps);
        continue;
      }
      const run = this.#runs.at(subgraph);
      if (run.held[input]) {
        this.#hold(task.type, input, row, run, to, size);
        continue;
      }
      if (holders) holders[row] = NOTHING;
      if (run.generate && run.done > 0) {
        to[row] = run.token;
        continue;
      }
      const { session } = run.request;
      if (session && run.position + steps > session.steps) {
        stageAcrossPushes(session, input, size, to, row, rows, steps);
        continue;
      }
      copySteps(run.inputs[input]!, run.position * size, size, to, row, rows, steps);
    }
  }

  /** Forgets types whose numbers others may get. */
  forget(first: number, count: number): void {
    for (const key of this.#holders.keys()) {
      const type = Math.floor(key / MOST_INPUTS);
      if (type >= first && type < first + count) this.#holders.delete(key);
    }
  }

  /** Stages a held value, unless it is there from the last task: a memory is far larger than all else a row takes. */
  #hold(type: number, input: number, row: number, run: EngineRun, to: Values, size: number): void {
    const key = type * MOST_INPUTS + input;
    let holders = this.#holders.get(key);
    if (!holders) {
      holders = [];
      this.#holders.set(key, holders);
    }
    const values = run.inputs[input]!;
    if (holders[row] === values) return;
    to.set(values, row * size);
    holders[row] = values;
  }
}

/** More than any cell has. */
const MOST_INPUTS = 1024;
const NOTHING = new Float32Array(0);

function stageAcrossPushes(
  { run, pushed, steps: present }: SessionRun,
  input: number,
  size: number,
  to: Values,
  row: number,
  rows: number,
  steps: number,
): void {
  let from = run.inputs[input]!;
  let position = run.position;
  let end = present;
  let next = 0;
  for (let step = 0; step < steps; step++) {
    while (position === end) {
      from = pushed[next]!.inputs[input]!;
      end = pushed[next++]!.steps;
      position = 0;
    }
    copy(from, position * size, to, (step * rows + row) * size, size);
    position++;
  }
}
