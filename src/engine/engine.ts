import type { Policy } from "../../scheduler/policy.ts";
import { Scheduler } from "../../scheduler/scheduler.ts";
import type { Clock } from "../core/clock.ts";
import { Fault, type FaultCode } from "../core/faults.ts";
import type { Tensor } from "../core/tensor.ts";
import { writeFailed } from "./answers.ts";
import type { ChainPlan } from "./chain-plan.ts";
import { refuseImpossible } from "./deadline.ts";
import { Deadlines } from "./deadlines.ts";
import type { DecisionLog } from "./decision-log.ts";
import { RequestGraph, runsBefore } from "./graph.ts";
import { GraphLane, GraphRequest } from "./graph-lane.ts";
import { type DueBatch, GraphLanes } from "./graph-lanes.ts";
import { command, type EngineOptions, event, readOptions } from "./messages.ts";
import { sumBy, type TaskMeter, writeMeters } from "./meters.ts";
import type { LoadedModel } from "./model.ts";
import { PacketReader, PacketWriter } from "./packet.ts";
import { RecordedScheduler } from "./recorded-scheduler.ts";
import { type EngineRun, Request, type SessionRun } from "./request.ts";
import { RequestTables } from "./request-tables.ts";
import { Slots } from "./slots.ts";
import { StepWatch } from "./step-watch.ts";
import { TaskRunner } from "./task-runner.ts";
import type { TreePlan } from "./tree-plan.ts";

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
  readonly #requests = new Map<number, Request | GraphRequest>();
  readonly #tables = new RequestTables();
  readonly #slots = new Slots(() => this.#weigh());
  readonly #runner: TaskRunner;
  readonly #lanes: GraphLanes;
  readonly #deadlines = new Deadlines(this.#tables.light);
  #arrivals = 0;
  /** How long all decisions took. */
  #scheduleMs = 0;
  /** Cells and whole requests take turns where both wait. */
  #isLanesTurn = false;
  readonly #log: DecisionLog | undefined;

  constructor({ models, policy, clock, log }: EngineSettings) {
    this.#clock = clock;
    this.#log = log;
    const { outbox } = this;
    const scheduler = log ? new RecordedScheduler({ policy }, log) : new Scheduler({ types: [], policy });
    this.#scheduler = scheduler;
    this.#runner = new TaskRunner({
      ...{ scheduler, tables: this.#tables, slots: this.#slots, clock, outbox },
      ends: {
        answered: (request) => this.#forget(request),
        failed: (request, code, message) => this.#endWith(request, code, message),
        toObject: (last) => this.#toObject(last),
        numberOf: (model) => this.#models.indexOf(model),
      },
    });
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
      this.#runner.add(model);
    }
    this.#weigh();
  }

  /** Takes a model out and frees what it held. Requests of it that have not ended fail with MODEL_NOT_READY. */
  async remove(number: number): Promise<void> {
    const model = this.#models[number];
    if (!model) return;
    if (!(model instanceof GraphLane)) for (const id of this.#tables.light.of(model)) this.#find(id);
    for (const request of this.#requests.values()) {
      if ((request instanceof GraphRequest ? request.lane : request.model) === model)
        this.#endWith(request, "MODEL_NOT_READY", `model '${model.definition.name}' was unloaded`);
    }
    this.#models[number] = undefined;
    if (model instanceof GraphLane) this.#lanes.remove(model);
    else {
      this.#scheduler.removeTypes(model.firstType, model.types.length);
      this.#runner.remove(model);
    }
    this.#weigh();
    await (model instanceof GraphLane ? model : model.kernel).dispose();
  }

  #weigh(): void {
    this.bytes = this.#models.reduce((sum, model) => sum + (model?.bytes ?? 0), 0);
  }

  /** Requests and sessions that have not ended. */
  get active(): number {
    return this.#requests.size + this.#tables.light.count;
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
    const chosenMs = this.#clock.now();
    this.#scheduleMs += chosenMs - askedMs;
    if (!task) {
      const ran = this.#lanes.count > 0 && this.#runBatch(true);
      if (!ran) this.rows = 0;
      return ran;
    }
    this.tasks++;
    this.rows = task.rows;
    this.cells += task.rows * task.steps;
    const pending = this.#runner.run(task, chosenMs);
    return pending ? pending.then(() => true) : true;
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
    this.#runner.watch?.tell({
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
      this.#runner.watch = isWanted ? new StepWatch(this.outbox, this.#clock.now(), theirMs) : undefined;
    } else this.#change(kind, id, reader);
  }

  #tellMeters(id: number): void {
    const metered = (model: string, cell: string, meter: TaskMeter) => {
      const { tasks, rows, busyMs } = meter;
      return { model, cell, buckets: [...meter.buckets], tasks, rows, busyMs };
    };
    const cells = this.#runner.types.flatMap((model, type) => {
      if (!model) return [];
      const { name, cells: specs } = model.definition;
      const cell = specs[type - model.firstType]!.name;
      return { ...metered(name, cell, this.#runner.meterOf(type)), ...this.#scheduler.countsOf(type) };
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
      decisions: this.#runner.decisions,
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
      else if (kind === command.PUSH) this.#runner.sessions.push(request, inputs!);
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
    const sessions = this.#runner.sessions;
    const at = session.known;
    if (kind === command.END) sessions.seal(session);
    else if (kind === command.MARKER) sessions.stopAt(session, { at, kind: "marker", marker: argument });
    else if (kind === command.SUSPEND) sessions.stopAt(session, { at, kind: "suspend" });
    else if (kind === command.FORK)
      sessions.fork(session, this.#newRequest(argument, request.model, options!));
  }

  /** The request or session with a number, as an object. */
  #find(id: number): Request | GraphRequest | undefined {
    const last = this.#tables.light.find(id);
    return last === undefined ? this.#requests.get(id) : this.#toObject(last);
  }

  /** Makes an object of the light request that ends with a subgraph. */
  #toObject(last: number): Request {
    const plan = this.#tables.light.modelOf(last).plan!;
    const request =
      plan.kind === "chain"
        ? this.#tables.chains.toObject(last, plan)
        : this.#tables.trees.toObject(last, plan);
    this.#enter(request);
    for (const run of request.runs) if (!run.isDone) this.#tables.runs.enter(run);
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
        ? this.#tables.chains.admit(id, model, plan, reader, this.#scheduler, this.#arrivals, now)
        : this.#tables.trees.admit(id, model, plan, reader, this.#scheduler, this.#arrivals, now);
    if (!isAdmitted) return false;
    const deadlineMs = now + this.#tables.light.timeoutOf(this.#tables.light.find(id)!);
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
    this.#runner.sessions.open(request, state);
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
    this.#tables.runs.enter(run);
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
      this.#tables.runs.leave(run);
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

function readInputs(reader: PacketReader): Tensor[] {
  const inputs: Tensor[] = [];
  for (let count = reader.int(); count > 0; count--) inputs[reader.int()] = reader.tensor();
  return inputs;
}
