import type { Values } from "../../kernels/kernel.ts";
import type { Policy } from "../../scheduler/policy.ts";
import { Scheduler, type Task } from "../../scheduler/scheduler.ts";
import type { CellSpec } from "../core/cell.ts";
import type { Clock } from "../core/clock.ts";
import { Fault, type FaultCode } from "../core/faults.ts";
import { sizeOf, type Tensor } from "../core/tensor.ts";
import { given, writeAnswer, writeFailed, writeStep } from "./answers.ts";
import type { ChainPlan } from "./chain-plan.ts";
import { Chains } from "./chains.ts";
import { refuseImpossible } from "./deadline.ts";
import { Deadlines } from "./deadlines.ts";
import type { DecisionLog } from "./decision-log.ts";
import { chooseToken, keepToken } from "./generation.ts";
import { RequestGraph, runsBefore } from "./graph.ts";
import { GraphLane, GraphRequest } from "./graph-lane.ts";
import { type DueBatch, GraphLanes } from "./graph-lanes.ts";
import { keep } from "./kept.ts";
import { LightRequests } from "./light-requests.ts";
import { command, type EngineOptions, event, readOptions } from "./messages.ts";
import { sumBy, TaskMeter, writeMeters } from "./meters.ts";
import type { LoadedModel } from "./model.ts";
import { PacketReader, PacketWriter } from "./packet.ts";
import { CHAIN, LOUD, QuietRuns, TREE } from "./quiet.ts";
import { RecordedScheduler } from "./recorded-scheduler.ts";
import { type EngineRun, Request, type SessionRun } from "./request.ts";
import { RunTable } from "./run-table.ts";
import { Searches } from "./searches.ts";
import { heldValues, valuesOf } from "./series.ts";
import { Sessions } from "./sessions.ts";
import { Slots } from "./slots.ts";
import { Staging } from "./staging.ts";
import { StepWatch } from "./step-watch.ts";
import type { TreePlan } from "./tree-plan.ts";
import { Trees } from "./trees.ts";

export interface EngineSettings {
  /** In the order by which requests name them. */
  readonly models: readonly (LoadedModel | GraphLane)[];
  readonly policy: Policy;
  readonly clock: Clock;
  /** Where decisions are written down. @default they are not */
  readonly log?: DecisionLog;
}

/** One device: takes commands, runs one batched cell at a time, and says what came of it. */
export class Engine {
  /** What the runtime has not been told yet. */
  readonly outbox = new PacketWriter();
  /** Cells and tasks that have run, and rows of the last task. */
  cells = 0;
  tasks = 0;
  rows = 0;
  /** What its kernels hold. */
  bytes = 0;
  /** By the number that requests name. */
  readonly #models: (LoadedModel | GraphLane | undefined)[] = [];
  readonly #clock: Clock;
  readonly #scheduler: Scheduler;
  /** By type of the scheduler. */
  readonly #modelOf: (LoadedModel | undefined)[] = [];
  readonly #requests = new Map<number, Request | GraphRequest>();
  readonly #quiet = new QuietRuns();
  readonly #runs = new RunTable(this.#quiet);
  readonly #slots = new Slots(() => this.#weigh());
  readonly #staging = new Staging(this.#quiet, this.#runs);
  readonly #sessions: Sessions;
  readonly #searches: Searches;
  readonly #lanes: GraphLanes;
  readonly #light = new LightRequests();
  readonly #chains = new Chains(this.#light, this.#quiet);
  readonly #trees = new Trees(this.#light, this.#quiet);
  readonly #deadlines = new Deadlines(this.#light);
  /** Room for the slots of one task. */
  #reads = new Int32Array(0);
  #writes = new Int32Array(0);
  #arrivals = 0;
  /** When the present task was chosen, how long all decisions took, and how many there were. */
  #taskMs = 0;
  #scheduleMs = 0;
  #decisions = 0;
  /** By type. */
  readonly #meters: (TaskMeter | undefined)[] = [];
  /** Cells and whole requests take turns where both wait. */
  #isLanesTurn = false;
  /** There while somebody watches. */
  #watch: StepWatch | undefined;
  readonly #log: DecisionLog | undefined;

  constructor({ models, policy, clock, log }: EngineSettings) {
    this.#clock = clock;
    this.#log = log;
    const { outbox } = this;
    const scheduler = log ? new RecordedScheduler({ policy }, log) : new Scheduler({ types: [], policy });
    this.#scheduler = scheduler;
    const done = (run: EngineRun) => this.#runDone(run);
    this.#sessions = new Sessions(scheduler, this.#runs, this.#slots, outbox, {
      done,
      gone: (request) => this.#forget(request),
    });
    this.#searches = new Searches(scheduler, this.#runs, this.#slots, done);
    this.#lanes = new GraphLanes(clock, outbox, {
      ran: (batch, endedMs) => this.#batchRan(batch, endedMs),
      answered: (request) => this.#forget(request),
      failed: (request, code, message) => this.#endWith(request, code, message),
    });
    models.forEach((model, number) => this.add(number, model));
  }

  /** Takes in a model; requests name it by `number`, which no other has. */
  add(number: number, model: LoadedModel | GraphLane): void {
    this.#models[number] = model;
    if (model instanceof GraphLane) {
      this.#lanes.add(model);
      if (this.#log) model.record(this.#log, number);
    } else {
      model.firstType = this.#scheduler.addTypes(model.types.map((type) => ({ ...type, family: number })));
      model.types.forEach((_, cell) => {
        this.#modelOf[model.firstType + cell] = model;
      });
      const { cells, maxBatch } = model.kernel;
      const reads = Math.max(1, ...cells.map((cell) => cell.reads)) * maxBatch;
      this.#reads = new Int32Array(Math.max(this.#reads.length, reads));
      this.#writes = new Int32Array(Math.max(this.#writes.length, maxBatch));
    }
    this.#weigh();
  }

  /** Takes a model out and frees what it held. Requests of it that have not ended fail with MODEL_NOT_READY. */
  async remove(number: number): Promise<void> {
    const model = this.#models[number];
    if (!model) return;
    if (!(model instanceof GraphLane)) for (const id of this.#light.of(model)) this.#find(id);
    for (const request of this.#requests.values()) {
      if ((request instanceof GraphRequest ? request.lane : request.model) === model)
        this.#endWith(request, "MODEL_NOT_READY", `model '${model.definition.name}' was unloaded`);
    }
    this.#models[number] = undefined;
    if (model instanceof GraphLane) this.#lanes.remove(model);
    else {
      this.#scheduler.removeTypes(model.firstType, model.types.length);
      this.#staging.forget(model.firstType, model.types.length);
      this.#modelOf.fill(undefined, model.firstType, model.firstType + model.types.length);
      this.#meters.fill(undefined, model.firstType, model.firstType + model.types.length);
    }
    this.#weigh();
    await (model instanceof GraphLane ? model : model.kernel).dispose();
  }

  #weigh(): void {
    this.bytes = this.#models.reduce((sum, model) => sum + (model?.bytes ?? 0), 0);
  }

  /** Requests and sessions that have not ended. */
  get active(): number {
    return this.#requests.size + this.#light.count;
  }

  /** Whether more could run than there is room for in a task, so that who waits for an answer waits long anyway. */
  get isBacklogged(): boolean {
    return this.#scheduler.waiting > 0;
  }

  /** When a deadline passes or a batch of whole requests is due, on the clock; `Infinity` where nothing waits. */
  get nextWakeMs(): number {
    return Math.min(this.#lanes.nextDueMs, this.#deadlines.nextMs);
  }

  /** Obeys the commands of a packet. */
  receive(packet: ArrayBuffer): void {
    const reader = new PacketReader(packet);
    while (!reader.isDone) this.#obey(reader);
  }

  /** Runs one task; answers whether there was one. A promise where the kernel is asynchronous. */
  step(): boolean | Promise<boolean> {
    this.#log?.flushIfDue();
    this.#expire();
    this.#isLanesTurn = !this.#isLanesTurn && this.#lanes.count > 0;
    if (this.#isLanesTurn) {
      const ran = this.#runBatch(false);
      if (ran) return ran;
    }
    const askedMs = this.#clock.now();
    const task = this.#scheduler.next(0);
    this.#taskMs = this.#clock.now();
    this.#scheduleMs += this.#taskMs - askedMs;
    if (!task) {
      const ran = this.#lanes.count > 0 && this.#runBatch(true);
      if (!ran) this.rows = 0;
      return ran;
    }
    this.tasks++;
    this.rows = task.rows;
    this.cells += task.rows * task.steps;
    try {
      const pending = this.#submit(task);
      if (pending)
        return pending
          .then(
            () => this.#finish(task),
            (error) => this.#fail(task, error),
          )
          .then(() => true);
      this.#finish(task);
    } catch (error) {
      this.#fail(task, error);
    }
    return true;
  }

  async dispose(): Promise<void> {
    this.#log?.close();
    for (const model of this.#models) await (model instanceof GraphLane ? model : model?.kernel)?.dispose();
  }

  /** Runs a batch of whole requests, if one is due; `isIdle` where there is nothing else to do. */
  #runBatch(isIdle: boolean): boolean | Promise<boolean> {
    const batch = this.#lanes.next(isIdle);
    if (!batch) return false;
    this.tasks++;
    this.rows = batch.requests.length;
    this.cells += batch.requests.length;
    const ran = this.#lanes.run(batch);
    return ran ? ran.then(() => true) : true;
  }

  #batchRan({ lane, requests, startedMs }: DueBatch, endedMs: number): void {
    this.#log?.batchDone();
    this.#watch?.tell({
      model: this.#models.indexOf(lane),
      cell: 0,
      startedMs,
      endedMs,
      rows: requests.length,
      steps: 1,
      requestOf: (row) => requests[row]!.id,
    });
  }

  #obey(reader: PacketReader): void {
    const kind = reader.int();
    const id = reader.int();
    if (kind === command.SUBMIT) this.#admit(id, reader);
    else if (kind === command.OPEN) this.#open(id, reader);
    else if (kind === command.METERS) this.#tellMeters(id);
    else if (kind === command.BUFFERS) this.#setBuffers(reader);
    else if (kind === command.WATCH) {
      const isWanted = reader.int() === 1;
      const theirMs = reader.double();
      this.#watch = isWanted ? new StepWatch(this.outbox, this.#clock.now(), theirMs) : undefined;
    } else this.#change(kind, id, reader);
  }

  #meterOf(type: number): TaskMeter {
    this.#meters[type] ??= new TaskMeter();
    return this.#meters[type];
  }

  #tellMeters(id: number): void {
    const metered = (model: string, cell: string, meter: TaskMeter) => {
      const { tasks, rows, busyMs } = meter;
      return { model, cell, buckets: [...meter.buckets], tasks, rows, busyMs };
    };
    const cells = this.#modelOf.flatMap((model, type) => {
      if (!model) return [];
      const { name, cells: specs } = model.definition;
      const cell = specs[type - model.firstType]!.name;
      return { ...metered(name, cell, this.#meterOf(type)), ...this.#scheduler.countsOf(type) };
    });
    const lanes = Array.from(this.#lanes, (lane) => {
      const { name, program } = lane.definition;
      const cell = program.kind === "graph" ? program.cell : "";
      return { ...metered(name, cell, this.#lanes.meterOf(lane)), running: 0, waiting: lane.waiting };
    });
    let paused = 0;
    for (const request of this.#requests.values()) if (request instanceof Request && request.paused) paused++;
    const slots = this.#models.flatMap((model) =>
      !model || model instanceof GraphLane
        ? []
        : [{ model: model.definition.name, used: model.slots - model.freeSlots.length }],
    );
    this.outbox.int(event.METERS);
    this.outbox.int(id);
    writeMeters(this.outbox, {
      cells: sumBy([...cells, ...lanes], ({ model, cell }) => `${model}\0${cell}`),
      slots: sumBy(slots, ({ model }) => model),
      decisions: this.#decisions,
      scheduleMs: this.#scheduleMs,
      paused,
    });
  }

  #setBuffers(reader: PacketReader): void {
    const lane = this.#models[reader.int()];
    const eager = reader.int() === 1;
    const buffers = Array.from({ length: reader.int() }, () => {
      const upTo = reader.int();
      return { ...(upTo < 0 ? {} : { upTo }), maxBatch: reader.int(), timeoutMs: reader.double() };
    });
    if (lane instanceof GraphLane) lane.setBuffers(buffers, eager);
  }

  /** Obeys a command about a request that was admitted, unless it has ended. */
  #change(kind: number, id: number, reader: PacketReader): void {
    const inputs = kind === command.PUSH ? readInputs(reader) : undefined;
    const argument = kind === command.MARKER || kind === command.FORK ? reader.int() : 0;
    const options = kind === command.FORK ? readOptions(reader) : undefined;
    const request = this.#find(id);
    if (request instanceof GraphRequest) {
      if (kind === command.CANCEL) this.#endWith(request, "CANCELLED", "the request was cancelled");
      return;
    }
    if (!request) {
      if (kind === command.FORK)
        writeFailed(this.outbox, argument, "SESSION_NOT_FOUND", "the session to fork has ended");
      return;
    }
    try {
      if (kind === command.CANCEL) this.#endWith(request, "CANCELLED", "the request was cancelled");
      else if (kind === command.PAUSE) this.#pause(request);
      else if (kind === command.RESUME) this.#resume(request);
      else if (kind === command.PUSH) this.#sessions.push(request, inputs!);
      else if (request.session) this.#changeSession(request, request.session, kind, argument, options);
    } catch (error) {
      this.#endWithFault(request, Fault.from(error));
    }
  }

  #changeSession(
    request: Request,
    session: SessionRun,
    kind: number,
    argument: number,
    options: EngineOptions | undefined,
  ): void {
    const sessions = this.#sessions;
    const at = session.known;
    if (kind === command.END) sessions.seal(session);
    else if (kind === command.MARKER) sessions.stopAt(session, { at, kind: "marker", marker: argument });
    else if (kind === command.SUSPEND) sessions.stopAt(session, { at, kind: "suspend" });
    else if (kind === command.FORK)
      sessions.fork(session, this.#newRequest(argument, request.model, options!));
  }

  /** The request or session with a number, as an object. */
  #find(id: number): Request | GraphRequest | undefined {
    const last = this.#light.find(id);
    return last === undefined ? this.#requests.get(id) : this.#toObject(last);
  }

  /** Makes an object of the light request that ends with a subgraph. */
  #toObject(last: number): Request {
    const plan = this.#light.modelOf(last).plan!;
    const request =
      plan.kind === "chain" ? this.#chains.toObject(last, plan) : this.#trees.toObject(last, plan);
    this.#enter(request);
    for (const run of request.runs) if (!run.isDone) this.#runs.enter(run);
    return request;
  }

  #admit(id: number, reader: PacketReader): void {
    const model = this.#models[reader.int()]!;
    const start = reader.position;
    if (!(model instanceof GraphLane) && model.plan && this.#admitLight(id, model, model.plan, reader)) {
      this.#arrivals++;
      return;
    }
    reader.position = start;
    const options = readOptions(reader);
    const inputs = readInputs(reader);
    if (model instanceof GraphLane) {
      this.#admitWhole(id, model, options, inputs);
      return;
    }
    const request = this.#newRequest(id, model, options);
    const { definition, unfold } = request.model;
    const named: Record<string, Tensor> = {};
    definition.inputs.forEach(({ name }, i) => {
      if (inputs[i]) named[name] = inputs[i];
    });
    try {
      const graph = new RequestGraph(request);
      unfold(graph, named, { maxSteps: request.options.maxSteps, beamWidth: request.options.beamWidth });
      if (request.runs.length === 0)
        throw new Fault("INTERNAL", `model '${definition.name}' unfolded into no cells`);
      refuseImpossible(graph.leastMs, request.options.timeoutMs);
      for (const run of request.runs) this.#add(run);
    } catch (error) {
      this.#endWithFault(request, Fault.from(error));
    }
  }

  #admitLight(id: number, model: LoadedModel, plan: ChainPlan | TreePlan, reader: PacketReader): boolean {
    const now = this.#clock.now();
    const isAdmitted =
      plan.kind === "chain"
        ? this.#chains.admit(id, model, plan, reader, this.#scheduler, this.#arrivals, now)
        : this.#trees.admit(id, model, plan, reader, this.#scheduler, this.#arrivals, now);
    if (!isAdmitted) return false;
    const deadlineMs = now + this.#light.timeoutOf(this.#light.find(id)!);
    this.#deadlines.addLight({ id, arrival: this.#arrivals, deadlineMs });
    return true;
  }

  #admitWhole(id: number, lane: GraphLane, options: EngineOptions, inputs: readonly Tensor[]): void {
    try {
      const request = lane.admit(id, options, inputs, this.#clock.now());
      this.#requests.set(id, request);
      this.#deadlines.add(request);
    } catch (error) {
      const { code, message } = Fault.from(error);
      writeFailed(this.outbox, id, code, message);
    }
  }

  #open(id: number, reader: PacketReader): void {
    const request = this.#newRequest(id, this.#models[reader.int()] as LoadedModel, readOptions(reader));
    const state = reader.int() === 1 ? reader.floats() : undefined;
    this.#sessions.open(request, state);
  }

  #newRequest(id: number, model: LoadedModel, options: EngineOptions): Request {
    const request = new Request(id, model, options, this.#arrivals++, this.#clock.now());
    this.#enter(request);
    return request;
  }

  #enter(request: Request): void {
    this.#requests.set(request.id, request);
    this.#deadlines.add(request);
  }

  #add(run: EngineRun): void {
    const { request, generate } = run;
    request.open++;
    run.isQuiet = !generate && !run.collectsAll && !request.options.stream;
    run.subgraph = this.#scheduler.add({
      type: run.type,
      steps: run.search ? 1 : run.steps,
      open: run.search !== undefined,
      stepsAhead: generate === undefined,
      priority: request.options.priority,
      deadlineMs: request.deadlineMs,
      arrival: request.arrival,
      after: subgraphsBefore(run),
    });
    this.#runs.enter(run);
  }

  #pause(request: Request): void {
    if (request.paused) return;
    request.paused = true;
    for (const run of request.runs) if (!run.isDone) this.#scheduler.pause(run.subgraph);
  }

  #resume(request: Request): void {
    if (!request.paused) return;
    request.paused = false;
    if (request.session?.awaitsState) return;
    for (const run of request.runs) if (!run.isDone) this.#scheduler.resume(run.subgraph);
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
    if (this.#watch) this.#tellWatch(this.#watch, task);
    this.#takeOutputs(task, true);
    const now = this.#clock.now();
    this.#meterOf(task.type).add(task.rows, now - this.#taskMs);
    this.#decisions++;
    this.#scheduler.complete(task, (subgraph) => {
      const kind = this.#quiet.kind[subgraph];
      if (kind === CHAIN) this.#answerChain(subgraph, now);
      else if (kind === TREE) this.#nodeDone(subgraph, now);
      else this.#runDone(this.#runs.at(subgraph));
    });
  }

  #answerChain(subgraph: number, nowMs: number): void {
    const model = this.#light.modelOf(subgraph);
    const slot = this.#chains.answer(subgraph, model.plan as ChainPlan, this.outbox, nowMs);
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
    trees.answer(last, model.plan as TreePlan, this.outbox, nowMs);
    if (own >= 0) this.#slots.give(model, own);
  }

  #tellWatch(watch: StepWatch, { type, rows, steps, subgraphs }: Task): void {
    const model = this.#modelOf[type]!;
    watch.tell({
      model: this.#models.indexOf(model),
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
      if (request.session) this.#sessions.stepped(request.session);
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
    if (run.request.options.stream) writeStep(this.outbox, run, run.done - 1, outputs, row, run.token);
  }

  #collect(run: EngineRun, outputs: readonly Values[], row: number, rows: number, steps: number): void {
    const { request } = run;
    const isLast = run.done === run.steps;
    for (let step = 0; step < steps; step++) {
      const at = step * rows + row;
      if (request.options.stream && given(run.outputs) > 0)
        writeStep(this.outbox, run, run.done - steps + step, outputs, at);
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

  #runDone(run: EngineRun): void {
    const { request } = run;
    this.#runs.leave(run);
    // Nobody begins from a run of a request that has ended.
    if (run.readers === 0 || request.ended) this.#slots.free(run);
    request.open--;
    if (request.open > 0 || request.ended) return;
    writeAnswer(this.outbox, request, this.#clock.now());
    this.#forget(request);
  }

  #expire(): void {
    const now = this.#clock.now();
    while (this.#deadlines.nextMs <= now) {
      const light = this.#deadlines.lightUntil(now);
      // As an object it is among the others.
      if (light !== undefined) this.#find(light);
      const request = this.#deadlines.take();
      const { timeoutMs } = request.options;
      this.#endWith(request, "DEADLINE_EXCEEDED", `the request took longer than its ${timeoutMs} ms`);
    }
  }

  /** After a task has failed: tries it row by row, so that only the request whose fault it is ends. */
  #fail(task: Task, error: unknown): void {
    for (const subgraph of task.subgraphs.subarray(0, task.rows)) {
      const last = this.#lastOf(subgraph);
      if (last >= 0) this.#toObject(last);
      const alone: Task = { ...task, rows: 1, subgraphs: Int32Array.of(subgraph) };
      try {
        if (task.rows === 1) throw error;
        if (this.#submit(alone)) throw error;
        this.#takeOutputs(alone, false);
      } catch (cause) {
        const { request, cell } = this.#runs.at(subgraph);
        const fault = Fault.from(cause);
        const message = `cell '${cell}' of model '${request.model.definition.name}' failed: ${fault.message}`;
        if (!request.ended) this.#endWith(request, fault.code, message);
      }
    }
    this.#scheduler.complete(task, (subgraph) => this.#runDone(this.#runs.at(subgraph)));
  }

  #endWithFault(request: Request, fault: Fault): void {
    this.#endWith(request, fault.code, fault.message);
  }

  #endWith(request: Request | GraphRequest, code: FaultCode, message: string): void {
    writeFailed(this.outbox, request.id, code, message);
    this.#forget(request);
  }

  /** Takes a request out of everything, after its last word. */
  #forget(request: Request | GraphRequest): void {
    request.ended = true;
    this.#requests.delete(request.id);
    if (request instanceof GraphRequest) {
      request.lane.remove(request);
      return;
    }
    for (const run of request.runs) {
      if (run.isDone || run.subgraph < 0) continue;
      if (!this.#scheduler.remove(run.subgraph)) continue;
      this.#runs.leave(run);
    }
    for (const run of request.runs) if (run.isDone) this.#slots.free(run);
    for (const waypoint of request.session?.waypoints ?? []) {
      if (waypoint.kind === "fork" && !waypoint.child.ended) {
        this.#endWith(waypoint.child, "CANCELLED", "the session it was to be forked from has ended");
      }
    }
  }
}

const NONE_BEFORE: readonly number[] = [];

/** What a run has to wait for. */
function subgraphsBefore(run: EngineRun): readonly number[] {
  const before = runsBefore(run);
  if (before.length === 0) return NONE_BEFORE;
  const subgraphs: number[] = [];
  for (const { isDone, subgraph } of before) if (!isDone) subgraphs.push(subgraph);
  return subgraphs;
}

/** A slot that a run's first step reads: that of a run before, where it was not taken over. */
function firstRead({ from, slot }: EngineRun, read: number): number {
  return from.length > 0 && from[read]!.slot >= 0 ? from[read]!.slot : slot;
}

function readInputs(reader: PacketReader): Tensor[] {
  const inputs: Tensor[] = [];
  for (let count = reader.int(); count > 0; count--) inputs[reader.int()] = reader.tensor();
  return inputs;
}
