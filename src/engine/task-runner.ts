import type { Values } from "../../kernels/kernel.ts";
import type { Scheduler, Task } from "../../scheduler/scheduler.ts";
import type { CellSpec } from "../core/cell.ts";
import type { Clock } from "../core/clock.ts";
import { Fault, type FaultCode } from "../core/faults.ts";
import { sizeOf } from "../core/tensor.ts";
import { given, writeAnswer, writeStep } from "./answers.ts";
import type { ChainPlan } from "./chain-plan.ts";
import type { Chains } from "./chains.ts";
import { chooseToken, keepToken } from "./generation.ts";
import { keep } from "./kept.ts";
import type { LightRequests } from "./light-requests.ts";
import { TaskMeter } from "./meters.ts";
import type { LoadedModel } from "./model.ts";
import type { PacketWriter } from "./packet.ts";
import { CHAIN, LOUD, type QuietRuns, TREE } from "./quiet.ts";
import type { EngineRun, Request } from "./request.ts";
import type { RequestTables } from "./request-tables.ts";
import type { RunTable } from "./run-table.ts";
import { Searches } from "./searches.ts";
import { heldValues, valuesOf } from "./series.ts";
import { Sessions } from "./sessions.ts";
import type { Slots } from "./slots.ts";
import { Staging } from "./staging.ts";
import type { StepWatch } from "./step-watch.ts";
import type { TreePlan } from "./tree-plan.ts";
import type { Trees } from "./trees.ts";

export interface TaskRunnerSettings {
  readonly scheduler: Scheduler;
  readonly tables: RequestTables;
  readonly slots: Slots;
  readonly clock: Clock;
  readonly outbox: PacketWriter;
  readonly ends: TaskEnds;
}

export interface TaskEnds {
  /** A request has got all that it gets, and is to be forgotten. */
  answered(request: Request): void;
  failed(request: Request, code: FaultCode, message: string): void;
  /** Makes an object of the light request that ends with a subgraph. */
  toObject(last: number): void;
  /** The number by which requests name a model. */
  numberOf(model: LoadedModel): number;
}

/** Runs the scheduler's tasks: puts the rows of a batched cell in place, runs it, and takes what it gave to each request. */
export class TaskRunner {
  readonly sessions: Sessions;
  /** Tasks that have run. */
  decisions = 0;
  /** There while somebody watches. */
  watch: StepWatch | undefined;
  readonly #scheduler: Scheduler;
  readonly #clock: Clock;
  readonly #outbox: PacketWriter;
  readonly #ends: TaskEnds;
  readonly #quiet: QuietRuns;
  readonly #runs: RunTable;
  readonly #light: LightRequests;
  readonly #chains: Chains;
  readonly #trees: Trees;
  readonly #slots: Slots;
  readonly #staging: Staging;
  readonly #searches: Searches;
  /** By type of the scheduler. */
  readonly #modelOf: (LoadedModel | undefined)[] = [];
  readonly #meters: (TaskMeter | undefined)[] = [];
  /** Room for the slots of one task. */
  #reads = new Int32Array(0);
  #writes = new Int32Array(0);
  /** When the present task was chosen. */
  #taskMs = 0;

  constructor({ scheduler, tables, slots, clock, outbox, ends }: TaskRunnerSettings) {
    const { quiet, runs, light, chains, trees } = tables;
    this.#scheduler = scheduler;
    this.#clock = clock;
    this.#outbox = outbox;
    this.#ends = ends;
    this.#quiet = quiet;
    this.#runs = runs;
    this.#light = light;
    this.#chains = chains;
    this.#trees = trees;
    this.#slots = slots;
    this.#staging = new Staging(quiet, runs);
    const done = (run: EngineRun) => this.done(run);
    this.sessions = new Sessions(scheduler, runs, slots, outbox, { done, gone: ends.answered });
    this.#searches = new Searches(scheduler, runs, slots, done);
  }

  /** Models by type of the scheduler. */
  get types(): readonly (LoadedModel | undefined)[] {
    return this.#modelOf;
  }

  /** A model has got its types. */
  add(model: LoadedModel): void {
    model.types.forEach((_, cell) => {
      this.#modelOf[model.firstType + cell] = model;
    });
    const { cells, maxBatch } = model.kernel;
    const reads = Math.max(1, ...cells.map((cell) => cell.reads)) * maxBatch;
    this.#reads = new Int32Array(Math.max(this.#reads.length, reads));
    this.#writes = new Int32Array(Math.max(this.#writes.length, maxBatch));
  }

  /** Other models may get the types. */
  remove({ firstType, types }: LoadedModel): void {
    this.#staging.forget(firstType, types.length);
    this.#modelOf.fill(undefined, firstType, firstType + types.length);
    this.#meters.fill(undefined, firstType, firstType + types.length);
  }

  meterOf(type: number): TaskMeter {
    this.#meters[type] ??= new TaskMeter();
    return this.#meters[type];
  }

  /** Runs a task that was chosen at this time, to its end. A promise where the kernel is asynchronous. */
  run(task: Task, chosenMs: number): void | Promise<void> {
    this.#taskMs = chosenMs;
    try {
      const pending = this.#submit(task);
      if (pending)
        return pending.then(
          () => this.#finish(task),
          (error) => this.#fail(task, error),
        );
      this.#finish(task);
    } catch (error) {
      this.#fail(task, error);
    }
  }

  /** Puts the slots and inputs of a task in place and runs it. */
  #submit(task: Task): void | Promise<void> {
    const model = this.#modelOf[task.type]!;
    const cell = task.type - model.firstType;
    const { kernel } = model;
    const spec = model.definition.cells[cell]!;
    const { rows, steps, subgraphs } = task;
    const { kind, slot } = this.#quiet;
    for (let row = 0; row < rows; row++) {
      const subgraph = subgraphs[row]!;
      if (kind[subgraph] === TREE) {
        this.#beginNode(subgraph, row, model, spec);
        continue;
      }
      if (kind[subgraph] !== LOUD) {
        if (slot[subgraph]! < 0) this.#beginChain(subgraph, model);
        this.#reads[row] = slot[subgraph]!;
        this.#writes[row] = slot[subgraph]!;
        continue;
      }
      const run = this.#runs.at(subgraph);
      if (run.done === 0) this.#begin(run);
      for (let read = 0; read < spec.reads; read++)
        this.#reads[spec.reads * row + read] = run.done === 0 ? firstRead(run, read) : run.slot;
      this.#writes[row] = run.slot;
    }
    if (spec.inputs.length > 0) {
      const staged = kernel.stage(cell, rows, steps);
      for (let input = 0; input < staged.length; input++) {
        this.#staging.stage(task, input, sizeOf(spec.inputs[input]!.shape), staged[input]!);
      }
    }
    return kernel.run({ cell, rows, steps, reads: this.#reads, writes: this.#writes });
  }

  /** The last subgraph of the light request that one belongs to; -1 where it is an object's. */
  #lastOf(subgraph: number): number {
    const kind = this.#quiet.kind[subgraph];
    if (kind === TREE) return this.#trees.lastOf(subgraph);
    return kind === CHAIN ? subgraph : -1;
  }

  #beginChain(subgraph: number, model: LoadedModel): void {
    this.#chains.begin(subgraph, model.plan as ChainPlan, this.#slots.take(model), this.#taskMs);
  }

  #beginNode(subgraph: number, row: number, model: LoadedModel, { reads, writes }: CellSpec): void {
    const trees = this.#trees;
    this.#reads[reads * row] = trees.left[subgraph]!;
    if (reads === 2) this.#reads[2 * row + 1] = trees.right[subgraph]!;
    const slot = trees.begin(subgraph, model.zeroSlot, this.#taskMs);
    if (!writes) return;
    const own = slot < 0 ? this.#slots.take(model) : slot;
    this.#quiet.slot[subgraph] = own;
    this.#writes[row] = own;
  }

  /** Gives a run that begins its slot: that of the run before, where nobody else reads it. */
  #begin(run: EngineRun): void {
    const { request, from } = run;
    const { model } = request;
    if (request.startedMs < 0) request.startedMs = this.#clock.now();
    if (run.series.length > 0) {
      const { inputs } = model.definition.cells[run.index]!;
      run.inputs = run.inputs.map((values, i) => {
        const [series, held] = [run.series[i], run.held[i]];
        if (!series) return values;
        return held ? heldValues(series, held, sizeOf(inputs[i]!.shape)) : valuesOf(series);
      });
    }
    const spec = model.definition.cells[run.index]!;
    if (run.slot >= 0 || !spec.writes) return;
    const before = from[0];
    if (spec.reads === 1 && before && before.readers === 1 && !before.isKnown) {
      run.slot = before.slot;
      before.slot = -1;
      return;
    }
    run.slot = this.#slots.take(model);
  }

  /** Takes a task's outputs, then lets ended runs go. */
  #finish(task: Task): void {
    if (this.watch) this.#tell(this.watch, task);
    this.#takeOutputs(task, true);
    const now = this.#clock.now();
    this.meterOf(task.type).add(task.rows, now - this.#taskMs);
    this.decisions++;
    this.#scheduler.complete(task, (subgraph) => {
      const kind = this.#quiet.kind[subgraph];
      if (kind === CHAIN) this.#answerChain(subgraph, now);
      else if (kind === TREE) this.#nodeDone(subgraph, now);
      else this.done(this.#runs.at(subgraph));
    });
  }

  #answerChain(subgraph: number, nowMs: number): void {
    const model = this.#light.modelOf(subgraph);
    const slot = this.#chains.answer(subgraph, model.plan as ChainPlan, this.#outbox, nowMs);
    this.#slots.give(model, slot);
  }

  #nodeDone(subgraph: number, nowMs: number): void {
    const trees = this.#trees;
    const last = trees.lastOf(subgraph);
    const model = this.#light.modelOf(last);
    const own = this.#quiet.slot[subgraph]!;
    const [left, right] = [trees.left[subgraph]!, trees.right[subgraph]!];
    if (left > model.zeroSlot && left !== own) this.#slots.give(model, left);
    if (right > model.zeroSlot && right !== own) this.#slots.give(model, right);
    if (!trees.finish(subgraph)) return;
    trees.answer(last, model.plan as TreePlan, this.#outbox, nowMs);
    if (own >= 0) this.#slots.give(model, own);
  }

  #tell(watch: StepWatch, { type, rows, steps, subgraphs }: Task): void {
    const model = this.#modelOf[type]!;
    watch.tell({
      model: this.#ends.numberOf(model),
      cell: type - model.firstType,
      startedMs: this.#taskMs,
      endedMs: this.#clock.now(),
      rows,
      steps,
      requestOf: (row) => {
        const subgraph = subgraphs[row]!;
        const last = this.#lastOf(subgraph);
        return last < 0 ? this.#runs.at(subgraph).request.id : this.#light.idOf(last);
      },
    });
  }

  /** `answersFollow`: what a request gets from its last step need not be kept, it is answered before the kernel runs again. */
  #takeOutputs(task: Task, answersFollow: boolean): void {
    const model = this.#modelOf[task.type]!;
    const cell = task.type - model.firstType;
    const outputs = model.kernel.outputs(cell);
    const { rows, steps, subgraphs } = task;
    const quiet = this.#quiet;
    for (let row = 0; row < rows; row++) {
      const subgraph = subgraphs[row]!;
      const kind = quiet.kind[subgraph]!;
      if (kind === TREE) {
        this.#trees.end(subgraph, row);
        continue;
      }
      if (kind !== LOUD) {
        const done = quiet.done[subgraph]! + steps;
        if (done < quiet.steps[subgraph]! || kind === CHAIN) {
          quiet.done[subgraph] = done;
          if (done === quiet.steps[subgraph]!) this.#chains.end(subgraph, (steps - 1) * rows + row);
          continue;
        }
      }
      const run = this.#runs.at(subgraph);
      if (kind !== LOUD) quiet.leave(run);
      if (run.done === 0) this.#releaseBefore(run);
      run.done += steps;
      run.position += steps;
      const { request } = run;
      if (request.ended) continue;
      if (run.isQuiet && run.done < run.steps) {
        quiet.enter(run);
        continue;
      }
      if (run.generate) this.#generated(run, outputs, row);
      else if (
        run.outputs.length > 0 &&
        (run.collectsAll || run.done === run.steps || request.options.stream)
      ) {
        if (answersFollow && run.isQuiet && request.open === 1) request.answerRow = (steps - 1) * rows + row;
        else this.#collect(run, outputs, row, rows, steps);
      }
      if (request.session) this.sessions.stepped(request.session);
    }
  }

  /** Takes the outputs of a generating run's step: chooses its next token and sees whether it ends. */
  #generated(run: EngineRun, outputs: readonly Values[], row: number): void {
    if (run.search) {
      this.#searches.stepped(run, run.search, outputs, row);
      return;
    }
    chooseToken(run, outputs, row);
    if (run.token === run.generate!.stop) {
      this.#scheduler.finish(run.subgraph);
      return;
    }
    keepToken(run, outputs, row);
    if (run.request.options.stream) writeStep(this.#outbox, run, run.done - 1, outputs, row, run.token);
  }

  #collect(run: EngineRun, outputs: readonly Values[], row: number, rows: number, steps: number): void {
    const { request } = run;
    const isLast = run.done === run.steps;
    for (let step = 0; step < steps; step++) {
      const at = step * rows + row;
      if (request.options.stream && given(run.outputs) > 0)
        writeStep(this.#outbox, run, run.done - steps + step, outputs, at);
      if (request.session) continue;
      for (let i = 0; i < run.outputs.length; i++) {
        if (run.outputs[i]!.all || (isLast && step === steps - 1)) keep(run, i, outputs, at);
      }
    }
  }

  /** A run that has begun needs the states it began from no more. */
  #releaseBefore(run: EngineRun): void {
    for (const before of run.from) {
      before.readers--;
      if (before.readers === 0) this.#slots.free(before);
    }
  }

  /** A run has no more steps. */
  done(run: EngineRun): void {
    const { request } = run;
    this.#runs.leave(run);
    // Nobody begins from a run of a request that has ended.
    if (run.readers === 0 || request.ended) this.#slots.free(run);
    request.open--;
    if (request.open > 0 || request.ended) return;
    writeAnswer(this.#outbox, request, this.#clock.now());
    this.#ends.answered(request);
  }

  /** After a task has failed: tries it row by row, so that only the request whose fault it is ends. */
  #fail(task: Task, error: unknown): void {
    for (const subgraph of task.subgraphs.subarray(0, task.rows)) {
      const last = this.#lastOf(subgraph);
      if (last >= 0) this.#ends.toObject(last);
      const alone: Task = { ...task, rows: 1, subgraphs: Int32Array.of(subgraph) };
      try {
        if (task.rows === 1) throw error;
        if (this.#submit(alone)) throw error;
        this.#takeOutputs(alone, false);
      } catch (cause) {
        const { request, cell } = this.#runs.at(subgraph);
        const fault = Fault.from(cause);
        const message = `cell '${cell}' of model '${request.model.definition.name}' failed: ${fault.message}`;
        if (!request.ended) this.#ends.failed(request, fault.code, message);
      }
    }
    this.#scheduler.complete(task, (subgraph) => this.done(this.#runs.at(subgraph)));
  }
}

/** A slot that a run's first step reads: that of a run before, where it was not taken over. */
function firstRead({ from, slot }: EngineRun, read: number): number {
  return from.length > 0 && from[read]!.slot >= 0 ? from[read]!.slot : slot;
}
