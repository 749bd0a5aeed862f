import type { Values } from "../../kernels/kernel.ts";
import type { ModelDefinition } from "../../models/definition.ts";
import type { Scheduler } from "../../scheduler/scheduler.ts";
import { sizeOf } from "../core/tensor.ts";
import type { BeamSearch } from "./beam.ts";
import { EngineRun, type Found } from "./request.ts";
import type { RunTable } from "./run-table.ts";
import type { Slots } from "./slots.ts";

/** Beam searches: every hypothesis is a run, whose state is copied where two go on from one. */
export class Searches {
  readonly #scheduler: Scheduler;
  readonly #runs: RunTable;
  readonly #slots: Slots;
  readonly #done: (run: EngineRun) => void;

  /** `done` hears of each run of a search that has ended. */
  constructor(scheduler: Scheduler, runs: RunTable, slots: Slots, done: (run: EngineRun) => void) {
    this.#scheduler = scheduler;
    this.#runs = runs;
    this.#slots = slots;
    this.#done = done;
  }

  /** Takes one hypothesis a step further; once all of a search have stepped, chooses those that go on. */
  stepped(run: EngineRun, search: BeamSearch, outputs: readonly Values[], row: number): void {
    const { request } = run;
    const { definition } = request.model;
    const specs = definition.cells[run.index]!.outputs;
    const at = specs.findIndex(({ name }) => name === "logits");
    const size = sizeOf(specs[at]!.shape);
    if (!search.step(run.beam, outputs[at]!, row * size, size)) return;
    const moves = search.advance();
    const runs = request.runs.filter((one) => one.search === search);
    if (moves) {
      for (const { beam, parent, token } of moves) {
        const from = runs.find((one) => one.beam === parent)!;
        const to = runs.find((one) => one.beam === beam) ?? this.#hypothesis(from, beam);
        if (to !== from) request.model.kernel.write(to.slot, request.model.kernel.read(from.slot));
        to.token = token;
        this.#scheduler.extend(to.subgraph, 1);
      }
      return;
    }
    request.found = foundBy(search, definition);
    for (const one of runs) {
      if (!this.#scheduler.finish(one.subgraph)) continue;
      this.#scheduler.settle(one.subgraph);
      this.#done(one);
    }
  }

  /** One more row for a search, which begins where another is. */
  #hypothesis(from: EngineRun, beam: number): EngineRun {
    const { request } = from;
    const run = new EngineRun(request, from.index, from.inputs, [], from.generate);
    run.search = from.search;
    run.held = from.held;
    run.beam = beam;
    run.steps = from.steps;
    run.done = from.done;
    run.slot = this.#slots.take(request.model);
    request.runs = [...request.runs, run];
    request.open++;
    run.subgraph = this.#scheduler.add({
      type: run.type,
      steps: 0,
      open: true,
      stepsAhead: false,
      priority: request.options.priority,
      deadlineMs: request.deadlineMs,
      arrival: request.arrival,
    });
    this.#runs.enter(run);
    return run;
  }
}

function foundBy(search: BeamSearch, { outputs }: ModelDefinition): Found[] {
  const { best } = search;
  const found: Found[] = [];
  outputs.forEach(({ name }, output) => {
    if (name === "score") {
      const values = Float32Array.from(best, ({ score }) => score);
      found.push({ output, all: false, shape: [values.length], values });
      return;
    }
    const rank = name === "token" ? 0 : Number(name.slice("token.".length)) - 1;
    found.push({ output, all: true, shape: [], values: Int32Array.from(best[rank]?.tokens ?? []) });
  });
  return found;
}
