import { BufferSet, type BufferSetOptions, type BufferSettings } from "../scheduler/buffer.ts";
import type { CostCurve } from "../scheduler/cost-curve.ts";
import { policies } from "../scheduler/policy.ts";
import { PublishPace } from "../scheduler/publish-pace.ts";
import { Scheduler, type Task } from "../scheduler/scheduler.ts";
import { Events } from "./events.ts";
import type { Outcome } from "./outcome.ts";
import { idleMs, type Overheads, typicalOverheads } from "./overheads.ts";
import type { Service } from "./service.ts";
import type { Trace } from "./trace.ts";

/** A model of one kind of cell whose requests take as many steps as they are large. */
export interface CellularLane {
  readonly kind: "cellular";
  readonly maxBatch: number;
  /** Milliseconds of a call, by rows; and of several steps in one call where the kernel has such calls. */
  readonly curve: CostCurve;
  readonly multiStep?: readonly { readonly steps: number; readonly curve: CostCurve }[];
  /** Most rows for which several steps per call pay. @default 0 */
  readonly maxStepRows?: number;
}

/** A model that is one graph: batches wait in buffers and are padded to the longest. */
export interface WholeGraphLane extends BufferSetOptions {
  readonly kind: "graph";
  readonly buffers: readonly BufferSettings[];
  readonly service: Service;
}

export interface ServerSettings {
  readonly lane: CellularLane | WholeGraphLane;
  /** @default 1 */
  readonly engines?: number;
  /** @default `typicalOverheads` */
  readonly overheads?: Overheads;
}

/** What an engine tells of its requests. */
interface Journal {
  started(request: number, atMs: number): void;
  ended(request: number, atMs: number): void;
  batch(rows: number, work: number, padding: number): void;
}

/** One engine under virtual time; requests are named by arrival number. */
interface SimulatedEngine {
  arrive(request: number, size: number, nowMs: number): void;
  /** Runs what is due; answers when the engine is free again, or undefined where nothing is due. */
  step(nowMs: number, journal: Journal): number | undefined;
  /** When something is due though nothing arrives. */
  nextDue(): number;
  readonly isBacklogged: boolean;
}

/**
 * A server in virtual time, with the scheduler, the buffers and the pace of publishing of its engines. Requests go to the engine
 * with least to do.
 */
export function simulateServer(trace: Trace, settings: ServerSettings): Outcome {
  const { lane, engines = 1, overheads = typicalOverheads } = settings;
  const { timesMs } = trace;
  const events = new Events();
  const latencyMs = new Float64Array(timesMs.length);
  const queueMs = new Float64Array(timesMs.length).fill(-1);
  const batches: number[] = [];
  let work = 0;
  let padding = 0;
  const journal: Omit<Journal, "ended"> = {
    started: (request, atMs) => {
      if (queueMs[request]! < 0) queueMs[request] = atMs - timesMs[request]!;
    },
    batch: (rows, units, padded) => {
      batches[rows] = (batches[rows] ?? 0) + 1;
      work += units;
      padding += padded;
    },
  };
  const answered = (request: number, atMs: number) => {
    latencyMs[request] = atMs - timesMs[request]!;
  };
  const slots = Array.from({ length: engines }, () => {
    const engine = lane.kind === "graph" ? graphEngine(lane, overheads) : cellularEngine(lane, overheads);
    return new EngineThread(engine, { events, journal, overheads, answered });
  });
  const arrive = (request: number) => {
    let least = slots[0]!;
    for (const slot of slots) if (slot.active < least.active) least = slot;
    least.submit(request, trace.sizes?.[request] ?? 1);
    if (request + 1 < timesMs.length) events.at(timesMs[request + 1]!, () => arrive(request + 1));
  };
  events.at(timesMs[0]!, () => arrive(0));
  events.run();
  return {
    latencyMs,
    queueMs,
    batches: Float64Array.from(batches, (count) => count ?? 0),
    paddingShare: work === 0 ? 0 : padding / work,
    usdOf: new Float64Array(timesMs.length),
    busyMs: slots.reduce((sum, { busyMs }) => sum + busyMs, 0),
  };
}

interface Surroundings {
  readonly events: Events;
  readonly journal: Omit<Journal, "ended">;
  readonly overheads: Overheads;
  readonly answered: (request: number, atMs: number) => void;
}

/** The thread of an engine: the way to it and back, and when it tells what it has done. */
class EngineThread {
  /** Requests that were sent to it and are not answered. */
  active = 0;
  busyMs = 0;
  readonly #engine: SimulatedEngine;
  readonly #around: Surroundings;
  readonly #journal: Journal;
  readonly #pace: PublishPace;
  /** What ended and was not told yet. */
  #held: number[] = [];
  /** What the main thread has written and not sent, and when it will have been copied. */
  #packet: Mail[] = [];
  #leavesMs = 0;
  /** What was sent and the engine has not taken. */
  #mail: Mail[] = [];
  #isBusy = false;
  /** Since when it sleeps. Undefined where it is busy, or was called and is about to wake up. */
  #asleepMs: number | undefined = 0;
  #alarmMs = Number.POSITIVE_INFINITY;

  constructor(engine: SimulatedEngine, around: Surroundings) {
    this.#engine = engine;
    this.#around = around;
    this.#pace = new PublishPace(around.overheads.publishMs);
    this.#journal = { ...around.journal, ended: (request) => void this.#held.push(request) };
  }

  /** Requests of one turn of the main thread's event loop leave together: it takes a quarter of the way there and back. */
  submit(request: number, size: number): void {
    const { events, overheads } = this.#around;
    const now = events.clock.now();
    this.active++;
    this.#packet.push({ request, size });
    const copyMs = size * overheads.sizeMs;
    if (this.#packet.length > 1) {
      this.#leavesMs += copyMs;
      return;
    }
    this.#leavesMs = now + overheads.hopMs / 4 + copyMs;
    events.at(this.#leavesMs, () => this.#send());
  }

  #send(): void {
    const { events, overheads } = this.#around;
    const now = events.clock.now();
    if (now < this.#leavesMs) {
      events.at(this.#leavesMs, () => this.#send());
      return;
    }
    this.#mail.push(...this.#packet);
    this.#packet = [];
    if (this.#asleepMs === undefined) return;
    const wakeMs = overheads.hopMs / 4 + idleMs(overheads, now - this.#asleepMs);
    this.#wake(now + wakeMs);
    events.at(now + wakeMs, () => this.#advance());
  }

  #wake(atMs: number): void {
    if (this.#asleepMs !== undefined) this.#pace.slept(this.#asleepMs, atMs);
    this.#asleepMs = undefined;
  }

  #advance(): void {
    if (this.#isBusy) return;
    const { events } = this.#around;
    const now = events.clock.now();
    for (const { request, size } of this.#mail.splice(0)) this.#engine.arrive(request, size, now);
    const free = this.#engine.step(now, this.#journal);
    if (free !== undefined) {
      this.#wake(now);
      this.#work(free, () => {
        if (this.#held.length > 0 && this.#pace.isDue(free)) this.#publish();
        else this.#advance();
      });
      return;
    }
    if (this.#held.length > 0) {
      this.#publish();
      return;
    }
    this.#asleepMs ??= now;
    const due = this.#engine.nextDue();
    if (due >= this.#alarmMs) return;
    this.#alarmMs = due;
    events.at(Math.max(due, now), () => {
      this.#alarmMs = Number.POSITIVE_INFINITY;
      this.#advance();
    });
  }

  #publish(): void {
    const { events, overheads, answered } = this.#around;
    const now = events.clock.now();
    const told = this.#held;
    this.#held = [];
    const until = now + overheads.publishMs;
    for (const request of told) answered(request, until + overheads.hopMs / 2);
    this.#pace.published(now, until, this.#engine.isBacklogged);
    this.#work(until, () => {
      this.active -= told.length;
      this.#advance();
    });
  }

  #work(untilMs: number, then: () => void): void {
    const { events } = this.#around;
    this.#isBusy = true;
    this.busyMs += untilMs - events.clock.now();
    events.at(untilMs, () => {
      this.#isBusy = false;
      then();
    });
  }
}

interface Mail {
  readonly request: number;
  readonly size: number;
}

function graphEngine(lane: WholeGraphLane, overheads: Overheads): SimulatedEngine {
  const set = new BufferSet(lane.buffers, lane);
  const sizes = new Map<number, number>();
  return {
    arrive: (request, size, nowMs) => {
      sizes.set(request, size);
      set.add({ id: request, size }, nowMs);
    },
    nextDue: () => set.nextDue(),
    // An engine counts only cells.
    isBacklogged: false,
    step: (nowMs, journal) => {
      const batch = set.due(nowMs, true);
      if (!batch) return undefined;
      const own = batch.ids.map((id) => sizes.get(id)!);
      const largest = Math.max(...own);
      const { taskMs, rowMs, requestMs } = overheads;
      const endMs =
        nowMs +
        taskMs +
        batch.ids.length * (largest * rowMs + requestMs) +
        lane.service.ms(batch.ids.length, largest, 0);
      const units = batch.ids.length * largest;
      journal.batch(batch.ids.length, units, units - own.reduce((sum, size) => sum + size, 0));
      for (const id of batch.ids) {
        sizes.delete(id);
        journal.started(id, nowMs);
        journal.ended(id, endMs);
      }
      return endMs;
    },
  };
}

function cellularEngine(lane: CellularLane, overheads: Overheads): SimulatedEngine {
  const { maxBatch, curve, multiStep = [], maxStepRows = 0 } = lane;
  const scheduler = new Scheduler({
    types: [
      {
        name: "cell",
        priority: 0,
        maxBatch,
        cost: curve,
        stepSizes: [1, ...multiStep.map(({ steps }) => steps)].sort((a, b) => a - b),
        maxStepRows,
        maxStepCells: curve.maxRows,
      },
    ],
    policy: policies.cellular,
  });
  /** By number of the subgraph. */
  const requests: number[] = [];
  let admitted = 0;
  const callMs = ({ rows, steps }: Task) => {
    const longer = multiStep.find((one) => one.steps === steps);
    return (longer?.curve ?? curve).ms(rows);
  };
  return {
    arrive: (request, size) => {
      admitted++;
      const id = scheduler.add({
        type: 0,
        steps: Math.max(1, Math.round(size)),
        priority: 5,
        deadlineMs: Number.POSITIVE_INFINITY,
        arrival: request,
      });
      requests[id] = request;
    },
    nextDue: () => Number.POSITIVE_INFINITY,
    get isBacklogged() {
      return scheduler.waiting > 0;
    },
    step: (nowMs, journal) => {
      const task = scheduler.next(0);
      if (!task) return undefined;
      // Those that came since the last task were admitted before this one.
      const startMs = nowMs + admitted * overheads.requestMs;
      admitted = 0;
      const { taskMs, rowMs } = overheads;
      const endMs = startMs + callMs(task) + taskMs + task.rows * task.steps * rowMs;
      journal.batch(task.rows, task.rows * task.steps, 0);
      for (let row = 0; row < task.rows; row++) journal.started(requests[task.subgraphs[row]!]!, startMs);
      scheduler.complete(task, (id) => journal.ended(requests[id]!, endMs));
      return endMs;
    },
  };
}
