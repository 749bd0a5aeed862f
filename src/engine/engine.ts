import type { Values } from "../../kernels/kernel.ts";
import type { ModelDefinition } from "../../models/definition.ts";
import { Heap } from "../../scheduler/heap.ts";
import type { Policy } from "../../scheduler/policy.ts";
import { Scheduler, type Task } from "../../scheduler/scheduler.ts";
import type { CellSpec } from "../core/cell.ts";
import type { Clock } from "../core/clock.ts";
import { Fault, type FaultCode, faultCodes } from "../core/faults.ts";
import { sizeOf, type Tensor } from "../core/tensor.ts";
import type { BeamSearch } from "./beam.ts";
import type { ChainPlan } from "./chain-plan.ts";
import { Chains } from "./chains.ts";
import { refuseImpossible } from "./deadline.ts";
import type { DecisionLog } from "./decision-log.ts";
import { checkInput, RequestGraph, runsBefore } from "./graph.ts";
import { GraphLane, GraphRequest, writeGraphAnswer } from "./graph-lane.ts";
import { LightRequests } from "./light-requests.ts";
import { command, type EngineOptions, event, readOptions } from "./messages.ts";
import { sumBy, TaskMeter, writeMeters } from "./meters.ts";
import type { LoadedModel } from "./model.ts";
import type { RunOutput } from "./outputs.ts";
import { PacketReader, PacketWriter } from "./packet.ts";
import { CHAIN, LOUD, QuietRuns, TREE } from "./quiet.ts";
import { RecordedScheduler } from "./recorded-scheduler.ts";
import { EngineRun, type Found, type Kept, Request, type SessionRun, type Waypoint } from "./request.ts";
import { advance, likeliest, sample, uniformOf } from "./sampling.ts";
import { heldValues, valuesOf } from "./series.ts";
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
  #lanes: readonly GraphLane[] = [];
  readonly #clock: Clock;
  readonly #scheduler: Scheduler;
  /** By type of the scheduler. */
  readonly #modelOf: (LoadedModel | undefined)[] = [];
  readonly #requests = new Map<number, Request | GraphRequest>();
  /** By number of the subgraph. */
  readonly #runs: EngineRun[] = [];
  readonly #quiet = new QuietRuns();
  readonly #light = new LightRequests();
  readonly #chains = new Chains(this.#light, this.#quiet);
  readonly #trees = new Trees(this.#light, this.#quiet);
  /** By type and input, then by row: the held values that the kernel's staging place has there. */
  readonly #holders = new Map<number, Values[]>();
  readonly #deadlines = new Heap<Request | GraphRequest>(endsBefore);
  readonly #lightDeadlines = new Heap<LightDeadline>(endsBefore);
  /** Room for the slots of one task. */
  #reads = new Int32Array(0);
  #writes = new Int32Array(0);
  #arrivals = 0;
  /** When the present task was chosen, how long all decisions took, and how many there were. */
  #taskMs = 0;
  #scheduleMs = 0;
  #decisions = 0;
  /** By type, and by model that is a whole graph. */
  readonly #meters: (TaskMeter | undefined)[] = [];
  readonly #laneMeters = new Map<GraphLane, TaskMeter>();
  /** Where the search for a due batch begins, so that no lane waits for the others; and whose turn it is. */
  #firstLane = 0;
  #isLanesTurn = false;
  /** There while somebody watches. */
  #watch: StepWatch | undefined;
  readonly #log: DecisionLog | undefined;

  constructor({ models, policy, clock, log }: EngineSettings) {
    this.#clock = clock;
    this.#log = log;
    this.#scheduler = log ? new RecordedScheduler({ policy }, log) : new Scheduler({ types: [], policy });
    models.forEach((model, number) => this.add(number, model));
  }

  /** Takes in a model; requests name it by `number`, which no other has. */
  add(number: number, model: LoadedModel | GraphLane): void {
    this.#models[number] = model;
    if (model instanceof GraphLane) {
      this.#lanes = [...this.#lanes, model];
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
    this.#lanes = this.#lanes.filter((lane) => lane !== model);
    if (model instanceof GraphLane) this.#laneMeters.delete(model);
    else {
      this.#scheduler.removeTypes(model.firstType, model.types.length);
      for (const key of this.#holders.keys()) {
        if (this.#modelOf[Math.floor(key / MOST_INPUTS)] === model) this.#holders.delete(key);
      }
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
    return this.#lanes.reduce((least, lane) => Math.min(least, lane.nextDueMs), this.#nextDeadlineMs);
  }

  get #nextDeadlineMs(): number {
    while (this.#deadlines.peek()?.ended) this.#deadlines.pop();
    for (let first = this.#lightDeadlines.peek(); first; first = this.#lightDeadlines.peek()) {
      if (this.#light.isThere(first.id, first.arrival)) break;
      this.#lightDeadlines.pop();
    }
    return Math.min(
      this.#deadlines.peek()?.deadlineMs ?? Number.POSITIVE_INFINITY,
      this.#lightDeadlines.peek()?.deadlineMs ?? Number.POSITIVE_INFINITY,
    );
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
    // Cells and whole requests take turns where both wait.
    this.#isLanesTurn = !this.#isLanesTurn && this.#lanes.length > 0;
    if (this.#isLanesTurn) {
      const ran = this.#runBatch(false);
      if (ran) return ran;
    }
    const askedMs = this.#clock.now();
    const task = this.#scheduler.next(0);
    this.#taskMs = this.#clock.now();
    this.#scheduleMs += this.#taskMs - askedMs;
    if (!task) {
      const ran = this.#lanes.length > 0 && this.#runBatch(true);
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
    const startedMs = this.#clock.now();
    for (let i = 0; i < this.#lanes.length; i++) {
      const lane = this.#lanes[(this.#firstLane + i) % this.#lanes.length]!;
      const batch = lane.next(startedMs, isIdle);
      if (!batch) continue;
      this.#firstLane += i + 1;
      this.tasks++;
      this.rows = batch.length;
      this.cells += batch.length;
      const ran = this.#runWhole(lane, batch, startedMs);
      return ran ? ran.then(() => true) : true;
    }
    return false;
  }

  /** Runs a batch; where it fails, each of its requests alone, so that only the one whose fault it is ends. */
  #runWhole(lane: GraphLane, batch: readonly GraphRequest[], startedMs: number): void | Promise<void> {
    const failed = (error: unknown): void | Promise<void> => {
      if (batch.length > 1) return this.#runAlone(lane, batch, startedMs);
      const fault = Fault.from(error);
      const message = `the graph of model '${lane.definition.name}' failed: ${fault.message}`;
      if (!batch[0]!.ended) this.#endWith(batch[0]!, fault.code, message);
    };
    const done = (outputs: readonly Tensor[]) => {
      const now = this.#clock.now();
      this.#log?.batchDone();
      this.#laneMeter(lane).add(batch.length, now - startedMs);
      this.#watch?.tell({
        model: this.#models.indexOf(lane),
        cell: 0,
        startedMs,
        endedMs: now,
        rows: batch.length,
        steps: 1,
        requestOf: (row) => batch[row]!.id,
      });
      lane.cut(batch, outputs).forEach((cut, row) => {
        const request = batch[row]!;
        if (request.ended) return;
        writeGraphAnswer(this.outbox, request, cut, startedMs, now);
        this.#forget(request);
      });
    };
    try {
      const outputs = lane.run(batch);
      if (outputs instanceof Promise) return outputs.then(done).catch(failed);
      done(outputs);
    } catch (error) {
      return failed(error);
    }
  }

  async #runAlone(lane: GraphLane, batch: readonly GraphRequest[], startedMs: number): Promise<void> {
    for (const request of batch) if (!request.ended) await this.#runWhole(lane, [request], startedMs);
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

  #laneMeter(lane: GraphLane): TaskMeter {
    const meter = this.#laneMeters.get(lane) ?? new TaskMeter();
    this.#laneMeters.set(lane, meter);
    return meter;
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
    const lanes = this.#lanes.map((lane) => {
      const { name, program } = lane.definition;
      const cell = program.kind === "graph" ? program.cell : "";
      return { ...metered(name, cell, this.#laneMeter(lane)), running: 0, waiting: lane.waiting };
    });
    let paused = 0;
    for (const request of this.#requests.values()) if (request instanceof Request && request.paused) paused++;
    const slots = this.#models.flatMap((model) =>
      !model || model instanceof GraphLane
        ? []
        : [{ model: model.definition.name, used: model.slots - model.freeSlots.length }],
    );
    const decisions = this.#decisions;
    this.outbox.int(event.METERS);
    this.outbox.int(id);
    writeMeters(this.outbox, {
      cells: sumBy([...cells, ...lanes], ({ model, cell }) => `${model}\0${cell}`),
      slots: sumBy(slots, ({ model }) => model),
      decisions,
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
        this.#tellFailed(argument, "SESSION_NOT_FOUND", "the session to fork has ended");
      return;
    }
    try {
      if (kind === command.CANCEL) this.#endWith(request, "CANCELLED", "the request was cancelled");
      else if (kind === command.PAUSE) this.#pause(request);
      else if (kind === command.RESUME) this.#resume(request);
      else if (kind === command.PUSH) this.#push(request, inputs!);
      else if (kind === command.END) {
        request.session!.sealed = true;
        this.#release(request.session!);
      } else if (kind === command.MARKER)
        this.#waypoint(request, { at: request.session!.known, kind: "marker", marker: argument });
      else if (kind === command.SUSPEND)
        this.#waypoint(request, { at: request.session!.known, kind: "suspend" });
      else if (kind === command.FORK) {
        const child = this.#newRequest(argument, request.model, options!);
        this.#addSession(child);
        child.session!.awaitsState = true;
        this.#scheduler.pause(child.session!.run.subgraph);
        this.#waypoint(request, { at: request.session!.known, kind: "fork", child });
      }
    } catch (error) {
      this.#endWithFault(request, Fault.from(error));
    }
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
    for (const run of request.runs) if (!run.isDone) this.#enlist(run);
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
    if (deadlineMs !== Number.POSITIVE_INFINITY)
      this.#lightDeadlines.push({ id, arrival: this.#arrivals, deadlineMs });
    return true;
  }

  #admitWhole(id: number, lane: GraphLane, options: EngineOptions, inputs: readonly Tensor[]): void {
    try {
      const request = lane.admit(id, options, inputs, this.#clock.now());
      this.#requests.set(id, request);
      if (request.deadlineMs !== Number.POSITIVE_INFINITY) this.#deadlines.push(request);
    } catch (error) {
      const { code, message } = Fault.from(error);
      this.#tellFailed(id, code, message);
    }
  }

  #open(id: number, reader: PacketReader): void {
    const request = this.#newRequest(id, this.#models[reader.int()] as LoadedModel, readOptions(reader));
    const state = reader.int() === 1 ? reader.floats() : undefined;
    const run = this.#addSession(request);
    if (state) {
      run.slot = this.#takeSlot(request.model);
      request.model.kernel.write(run.slot, state);
    }
  }

  #newRequest(id: number, model: LoadedModel, options: EngineOptions): Request {
    const request = new Request(id, model, options, this.#arrivals++, this.#clock.now());
    this.#enter(request);
    return request;
  }

  #enter(request: Request): void {
    this.#requests.set(request.id, request);
    if (request.deadlineMs !== Number.POSITIVE_INFINITY) this.#deadlines.push(request);
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
    this.#enlist(run);
  }

  #enlist(run: EngineRun): void {
    this.#quiet.makeRoom(run.subgraph);
    this.#runs[run.subgraph] = run;
  }

  #addSession(request: Request): EngineRun {
    const { definition } = request.model;
    const { program } = definition;
    const cell = program.kind === "session" ? program.cell : "";
    const index = definition.cells.findIndex(({ name }) => name === cell);
    const run = new EngineRun(request, index, [], []);
    const progress = { steps: 0, known: 0, released: 0, sealed: false, awaitsState: false };
    request.session = { run, pushed: [], waypoints: [], ...progress };
    request.runs = [run];
    request.open = 1;
    for (const { name } of definition.outputs) {
      run.outputs = request.model.outputs.with(run.outputs, index, name, name, false);
    }
    run.subgraph = this.#scheduler.add({
      type: run.type,
      steps: 0,
      open: true,
      priority: request.options.priority,
      deadlineMs: request.deadlineMs,
      arrival: request.arrival,
    });
    this.#enlist(run);
    return run;
  }

  #push(request: Request, tensors: readonly Tensor[]): void {
    const session = request.session!;
    const { run } = session;
    const { cells, inputs } = request.model.definition;
    const values = cells[run.index]!.inputs.map(({ name }) => {
      const at = inputs.findIndex((input) => input.name === name);
      return checkInput(request, run.index, name, tensors[at]);
    });
    const steps = tensors[0]!.shape[0]!;
    if (steps === 0) return;
    if (run.position === session.steps) {
      run.inputs = values;
      run.position = 0;
      session.steps = steps;
    } else session.pushed.push({ inputs: values, steps });
    session.known += steps;
    this.#release(session);
  }

  /** Lets a session's steps run up to the next state that somebody asked for: a call of several steps would pass it. */
  #release(session: SessionRun): void {
    const { run, waypoints, known } = session;
    const until = waypoints.find(({ kind }) => kind !== "marker")?.at ?? known;
    if (until > session.released) this.#scheduler.extend(run.subgraph, until - session.released);
    session.released = until;
    if (!session.sealed || until < known || !this.#scheduler.seal(run.subgraph)) return;
    this.#scheduler.settle(run.subgraph);
    this.#runDone(run);
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

  #waypoint(request: Request, waypoint: Waypoint): void {
    const session = request.session!;
    session.waypoints.push(waypoint);
    if (session.run.done >= waypoint.at && !session.awaitsState) this.#reach(session);
  }

  /** Does what was asked for once the present step has run. */
  #reach(session: SessionRun): void {
    const { run, waypoints } = session;
    const { request } = run;
    const { kernel } = request.model;
    while (waypoints.length > 0 && waypoints[0]!.at <= run.done) {
      const waypoint = waypoints.shift()!;
      if (waypoint.kind === "marker") {
        this.outbox.int(event.MARKER);
        this.outbox.int(request.id);
        this.outbox.int(waypoint.marker);
        continue;
      }
      if (run.slot < 0) run.slot = this.#takeSlot(request.model);
      const state = kernel.read(run.slot);
      if (waypoint.kind === "suspend") {
        this.outbox.int(event.SUSPENDED);
        this.outbox.int(request.id);
        this.outbox.values(state);
        this.#forget(request);
        return;
      }
      const child = waypoint.child.session!.run;
      if (waypoint.child.ended) continue;
      child.slot = this.#takeSlot(request.model);
      kernel.write(child.slot, state);
      waypoint.child.session!.awaitsState = false;
      if (!waypoint.child.paused) this.#scheduler.resume(child.subgraph);
      this.#reach(waypoint.child.session!);
    }
    this.#release(session);
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
      const run = this.#runs[subgraph]!;
      if (run.done === 0) this.#begin(run);
      for (let read = 0; read < spec.reads; read++)
        this.#reads[spec.reads * row + read] = run.done === 0 ? firstRead(run, read) : run.slot;
      this.#writes[row] = run.slot;
    }
    if (spec.inputs.length > 0) {
      const staged = kernel.stage(cell, rows, steps);
      for (let input = 0; input < staged.length; input++) {
        this.#stage(task, input, sizeOf(spec.inputs[input]!.shape), staged[input]!);
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
    this.#chains.begin(subgraph, model.plan as ChainPlan, this.#takeSlot(model), this.#taskMs);
  }

  #beginNode(subgraph: number, row: number, model: LoadedModel, { reads, writes }: CellSpec): void {
    const trees = this.#trees;
    this.#reads[reads * row] = trees.left[subgraph]!;
    if (reads === 2) this.#reads[2 * row + 1] = trees.right[subgraph]!;
    const slot = trees.begin(subgraph, model.zeroSlot, this.#taskMs);
    if (!writes) return;
    const own = slot < 0 ? this.#takeSlot(model) : slot;
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
    run.slot = this.#takeSlot(model);
  }

  #stage(task: Task, input: number, size: number, to: Values): void {
    const { rows, steps, subgraphs } = task;
    const { kind, done } = this.#quiet;
    const { values, first } = this.#quiet.input(input);
    const holders = this.#holders.get(task.type * MOST_INPUTS + input);
    if (holders && steps > 1) holders.length = 0;
    for (let row = 0; row < rows; row++) {
      const subgraph = subgraphs[row]!;
      if (kind[subgraph] !== LOUD) {
        if (holders) holders[row] = NO_FLOATS.values;
        const at = first[subgraph]! + done[subgraph]! * size;
        if (size === 1 && steps === 1) to[row] = values[subgraph]![at]!;
        else copySteps(values[subgraph]!, at, size, to, row, rows, steps);
        continue;
      }
      const run = this.#runs[subgraph]!;
      if (run.held[input]) {
        this.#hold(task.type, input, row, run, to, size);
        continue;
      }
      if (holders) holders[row] = NO_FLOATS.values;
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
      else this.#runDone(this.#runs[subgraph]!);
    });
  }

  #answerChain(subgraph: number, nowMs: number): void {
    const model = this.#light.modelOf(subgraph);
    const slot = this.#chains.answer(subgraph, model.plan as ChainPlan, this.outbox, nowMs);
    this.#giveSlot(model, slot);
  }

  #nodeDone(subgraph: number, nowMs: number): void {
    const trees = this.#trees;
    const last = trees.lastOf(subgraph);
    const model = this.#light.modelOf(last);
    const own = this.#quiet.slot[subgraph]!;
    const [left, right] = [trees.left[subgraph]!, trees.right[subgraph]!];
    if (left > model.zeroSlot && left !== own) this.#giveSlot(model, left);
    if (right > model.zeroSlot && right !== own) this.#giveSlot(model, right);
    if (!trees.finish(subgraph)) return;
    trees.answer(last, model.plan as TreePlan, this.outbox, nowMs);
    if (own >= 0) this.#giveSlot(model, own);
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
        return last < 0 ? this.#runs[subgraph]!.request.id : this.#light.idOf(last);
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
      const run = this.#runs[subgraph]!;
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
      if (request.session) this.#sessionStepped(request.session);
    }
  }

  /** Takes the outputs of a generating run's step: chooses its next token and sees whether it ends. */
  #generated(run: EngineRun, outputs: readonly Values[], row: number): void {
    if (run.search) {
      this.#searched(run, run.search, outputs, row);
      return;
    }
    const { request, generate } = run;
    const { temperature } = request.options;
    const specs = request.model.definition.cells[run.index]!.outputs;
    const at = specs.findIndex(({ name }) => name === "token");
    if (temperature === 0 && at >= 0) run.token = outputs[at]![row]!;
    else {
      const logits = specs.findIndex(({ name }) => name === "logits");
      const width = sizeOf(specs[logits]!.shape);
      if (temperature === 0) run.token = likeliest(outputs[logits]!, row * width, width);
      else {
        request.random = advance(request.random);
        const uniform = uniformOf(request.random);
        run.token = sample(outputs[logits]!, row * width, width, request.options, uniform);
      }
    }
    if (run.token === generate!.stop) {
      this.#scheduler.finish(run.subgraph);
      return;
    }
    for (let i = 0; i < run.outputs.length; i++) {
      if (run.outputs[i]!.cellOutput !== at) keep(run, i, outputs, row);
      else {
        tokenOut[0] = run.token;
        append(run, i, tokenOut, 0);
      }
    }
    if (request.options.stream) this.#emit(run, run.done - 1, outputs, row, run.token);
  }

  /** Takes one hypothesis a step further; once all of a search have stepped, chooses those that go on. */
  #searched(run: EngineRun, search: BeamSearch, outputs: readonly Values[], row: number): void {
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
      this.#runDone(one);
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
    run.slot = this.#takeSlot(request.model);
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
    this.#enlist(run);
    return run;
  }

  #collect(run: EngineRun, outputs: readonly Values[], row: number, rows: number, steps: number): void {
    const { request } = run;
    const isLast = run.done === run.steps;
    for (let step = 0; step < steps; step++) {
      const at = step * rows + row;
      if (request.options.stream && given(run.outputs) > 0)
        this.#emit(run, run.done - steps + step, outputs, at);
      if (request.session) continue;
      for (let i = 0; i < run.outputs.length; i++) {
        if (run.outputs[i]!.all || (isLast && step === steps - 1)) keep(run, i, outputs, at);
      }
    }
  }

  #emit(run: EngineRun, step: number, outputs: readonly Values[], at: number, token?: number): void {
    const { outbox } = this;
    outbox.int(event.OUTPUT);
    outbox.int(run.request.id);
    outbox.int(step);
    outbox.int(given(run.outputs));
    for (const { output, cellOutput, dtype, shape, size } of run.outputs) {
      if (output < 0) continue;
      outbox.int(output);
      if (token !== undefined && size === 1 && dtype === "int32") {
        tokenOut[0] = token;
        outbox.tensor(shape, tokenOut);
      } else outbox.tensor(shape, outputs[cellOutput]!, at * size, size);
    }
  }

  #sessionStepped(session: SessionRun): void {
    const { run } = session;
    while (run.position >= session.steps && session.pushed.length > 0) {
      const next = session.pushed.shift()!;
      run.position -= session.steps;
      run.inputs = next.inputs;
      session.steps = next.steps;
    }
    if (session.waypoints.length > 0) this.#reach(session);
  }

  /** A run that has begun needs the states it began from no more. */
  #releaseBefore(run: EngineRun): void {
    for (const before of run.from) {
      before.readers--;
      if (before.readers === 0) this.#freeSlot(before);
    }
  }

  #runDone(run: EngineRun): void {
    const { request } = run;
    this.#quiet.leave(run);
    run.isDone = true;
    this.#runs[run.subgraph] = GONE;
    // Nobody begins from a run of a request that has ended.
    if (run.readers === 0 || request.ended) this.#freeSlot(run);
    request.open--;
    if (request.open === 0 && !request.ended) this.#answer(request);
  }

  #answer(request: Request): void {
    const { outbox } = this;
    const late = lateOutputs(request);
    if (request.options.stream && late.length > 0) this.#emitLate(request.id, late);
    const now = this.#clock.now();
    const startedMs = request.startedMs < 0 ? now : request.startedMs;
    outbox.int(event.DONE);
    outbox.int(request.id);
    outbox.int(request.runs.reduce((cells, { done }) => cells + done, 0));
    outbox.double(startedMs - request.admittedMs);
    outbox.double(now - startedMs);
    if (request.session) outbox.int(0);
    else {
      outbox.int(request.runs.reduce((sum, { outputs }) => sum + given(outputs), late.length));
      for (const run of request.runs) this.#answerRun(run);
      for (const { output, all, shape, values } of late) {
        outbox.int(output);
        outbox.tensor(all ? [values.length / sizeOf(shape), ...shape] : shape, values);
      }
    }
    this.#forget(request);
  }

  /** Streams what is known only at the end, step by step. */
  #emitLate(id: number, late: readonly Found[]): void {
    const { outbox } = this;
    const stepsOf = ({ all, shape, values }: Found) => (all ? values.length / sizeOf(shape) : 1);
    const steps = Math.max(...late.map(stepsOf));
    for (let step = 0; step < steps; step++) {
      const now = late.filter((one) => (one.all ? step < stepsOf(one) : step === steps - 1));
      outbox.int(event.OUTPUT);
      outbox.int(id);
      outbox.int(step);
      outbox.int(now.length);
      for (const { output, all, shape, values } of now) {
        const size = sizeOf(shape);
        outbox.int(output);
        outbox.tensor(shape, values, all ? step * size : 0, size);
      }
    }
  }

  #answerRun({ request, index, outputs, kept }: EngineRun): void {
    const { outbox } = this;
    outputs.forEach(({ output, cellOutput, shape, all, dtype, size }, i) => {
      if (output < 0) return;
      outbox.int(output);
      const { values, length } = kept?.[i] ?? (dtype === "int32" ? NO_INTEGERS : NO_FLOATS);
      if (all) outbox.tensor([length / size, ...shape], values, 0, length);
      else if (length > 0) outbox.tensor(shape, values, 0, length);
      else
        outbox.tensor(
          shape,
          request.model.kernel.outputs(index)[cellOutput]!,
          request.answerRow * size,
          size,
        );
    });
  }

  #expire(): void {
    const now = this.#clock.now();
    while (this.#nextDeadlineMs <= now) {
      const light = this.#lightDeadlines.peek();
      // As an object it is among the others.
      if (light && light.deadlineMs <= now) this.#find(light.id);
      const request = this.#deadlines.pop()!;
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
        const { request, cell } = this.#runs[subgraph]!;
        const fault = Fault.from(cause);
        const message = `cell '${cell}' of model '${request.model.definition.name}' failed: ${fault.message}`;
        if (!request.ended) this.#endWith(request, fault.code, message);
      }
    }
    this.#scheduler.complete(task, (subgraph) => this.#runDone(this.#runs[subgraph]!));
  }

  #endWithFault(request: Request, fault: Fault): void {
    this.#endWith(request, fault.code, fault.message);
  }

  #endWith(request: Request | GraphRequest, code: FaultCode, message: string): void {
    this.#tellFailed(request.id, code, message);
    this.#forget(request);
  }

  #tellFailed(id: number, code: FaultCode, message: string): void {
    this.outbox.int(event.FAILED);
    this.outbox.int(id);
    this.outbox.int(faultCodes.indexOf(code));
    this.outbox.text(message);
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
      this.#quiet.leave(run);
      this.#runs[run.subgraph] = GONE;
      run.isDone = true;
    }
    for (const run of request.runs) if (run.isDone) this.#freeSlot(run);
    for (const waypoint of request.session?.waypoints ?? []) {
      if (waypoint.kind === "fork" && !waypoint.child.ended) {
        this.#endWith(waypoint.child, "CANCELLED", "the session it was to be forked from has ended");
      }
    }
  }

  #takeSlot(model: LoadedModel): number {
    const slot = model.freeSlots.pop();
    if (slot !== undefined) return slot;
    const taken = model.slots++;
    if (taken >= model.reserved) {
      model.reserved = Math.max(model.kernel.maxBatch, model.reserved * 2);
      model.kernel.reserve(model.reserved);
      this.#weigh();
    }
    return taken;
  }

  #freeSlot(run: EngineRun): void {
    if (run.slot < 0 || run.isKnown) return;
    this.#giveSlot(run.request.model, run.slot);
    run.slot = -1;
  }

  #giveSlot(model: LoadedModel, slot: number): void {
    model.kernel.clear(slot);
    model.freeSlots.push(slot);
  }
}

/** When the time of a light request is over, unless it has ended or become an object. */
interface LightDeadline {
  readonly id: number;
  /** Tells it from others of that number. */
  readonly arrival: number;
  readonly deadlineMs: number;
}

/** By deadline; of those at one time the one that came first. */
function endsBefore(a: Ending, b: Ending): boolean {
  if (a.deadlineMs !== b.deadlineMs) return a.deadlineMs < b.deadlineMs;
  return (a.arrival ?? 0) < (b.arrival ?? 0);
}

interface Ending {
  readonly deadlineMs: number;
  readonly arrival?: number;
}

/** Stands for runs that have ended, so that the table stays of one kind. */
const GONE = undefined as unknown as EngineRun;
const NO_FLOATS: Kept = { values: new Float32Array(0), length: 0 };
const NO_INTEGERS: Kept = { values: new Int32Array(0), length: 0 };
const NONE_BEFORE: readonly number[] = [];
const FIRST_STEPS = 16;
/** More than any cell has. */
const MOST_INPUTS = 1024;
const tokenOut = new Int32Array(1);
/** Below this many values a loop is quicker than `set`. */
const FEW = 24;

/** Outputs that are put together, or were searched for. */
function lateOutputs({ given, found }: Request): readonly Found[] {
  if (given.length === 0) return found;
  const together = given.map(({ output, series }) => {
    const { collect, shape } = series;
    return { output, all: collect === "all", shape, values: valuesOf(series) };
  });
  return [...together, ...found];
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

/** What a run has to wait for. */
function subgraphsBefore(run: EngineRun): readonly number[] {
  const before = runsBefore(run);
  if (before.length === 0) return NONE_BEFORE;
  const subgraphs: number[] = [];
  for (const { isDone, subgraph } of before) if (!isDone) subgraphs.push(subgraph);
  return subgraphs;
}

/** How many of a run's outputs the caller gets. */
function given(outputs: readonly RunOutput[]): number {
  let count = 0;
  for (const { output } of outputs) if (output >= 0) count++;
  return count;
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

function copy(from: Values, at: number, to: Values, into: number, size: number): void {
  if (size < FEW) for (let i = 0; i < size; i++) to[into + i] = from[at + i]!;
  else to.set(from.subarray(at, at + size), into);
}

/** Values of `steps` steps, which begin at `first`, to where a task wants those of row `row`. */
function copySteps(
  from: Values,
  first: number,
  size: number,
  to: Values,
  row: number,
  rows: number,
  steps: number,
): void {
  for (let step = 0; step < steps; step++) {
    copy(from, first + step * size, to, (step * rows + row) * size, size);
  }
}

/** Keeps one step's values of a run's output number `i` for the answer; they stand at `at` in the kernel's outputs. */
function keep(run: EngineRun, i: number, outputs: readonly Values[], at: number): void {
  append(run, i, outputs[run.outputs[i]!.cellOutput]!, at * run.outputs[i]!.size);
}

function append(run: EngineRun, i: number, from: Values, at: number): void {
  const { size } = run.outputs[i]!;
  run.kept ??= run.outputs.map(() => ({ values: NO_FLOATS.values, length: 0 }));
  const kept = run.kept[i]!;
  if (kept.length + size > kept.values.length) grow(kept, run.outputs[i]!, run.steps);
  copy(from, at, kept.values, kept.length, size);
  kept.length += size;
}

/** Makes room in steps of doubling, from a few, up to what can come at most. */
function grow(kept: Kept, { size, all, dtype }: RunOutput, steps: number): void {
  const { values } = kept;
  const length = all ? Math.min(Math.max(values.length * 2, size * FIRST_STEPS), steps * size) : size;
  const grown = dtype === "int32" ? new Int32Array(length) : new Float32Array(length);
  grown.set(values);
  kept.values = grown;
}

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
