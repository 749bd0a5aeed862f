import { BufferSet, type BufferSetOptions, type BufferSettings } from "../scheduler/buffer.ts";
import type { CostCurve } from "../scheduler/cost-curve.ts";
import { policies } from "../scheduler/policy.ts";
import { Scheduler, type Task } from "../scheduler/scheduler.ts";
import { Events } from "./events.ts";
import type { Outcome } from "./outcome.ts";
import type { Service } from "./service.ts";
import type { Trace } from "./trace.ts";

/** What an engine does besides its kernel, in milliseconds. */
export interface Overheads {
  /** Each task. */
  readonly taskMs: number;
  /** Each row of a task. */
  readonly rowMs: number;
  /** Each request: admission, placing, answering. */
  readonly requestMs: number;
}

/** What was measured of this engine; see docs/performance.md. */
export const engineOverheads: Overheads = { taskMs: 0.01, rowMs: 0.0001, requestMs: 0.015 };

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
  /** @default `engineOverheads` */
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
}

/** A server in virtual time, with the scheduler and the buffers that its engines run. Requests go to the engine with least to do. */
export function simulateServer(trace: Trace, settings: ServerSettings): Outcome {
  const { lane, engines = 1, overheads = engineOverheads } = settings;
  const { timesMs } = trace;
  const events = new Events();
  const { clock } = events;
  const latencyMs = new Float64Array(timesMs.length);
  const queueMs = new Float64Array(timesMs.length).fill(-1);
  const batches: number[] = [];
  let work = 0;
  let padding = 0;
  let busyMs = 0;
  const journal = (slot: { active: number }): Journal => ({
    started: (request, atMs) => {
      if (queueMs[request]! < 0) queueMs[request] = atMs - timesMs[request]!;
    },
    ended: (request, atMs) => {
      latencyMs[request] = atMs - timesMs[request]!;
      events.at(atMs, () => slot.active--);
    },
    batch: (rows, units, padded) => {
      batches[rows] = (batches[rows] ?? 0) + 1;
      work += units;
      padding += padded;
    },
  });
  const slots = Array.from({ length: engines }, () => ({
    engine: lane.kind === "graph" ? graphEngine(lane, overheads) : cellularEngine(lane, overheads),
    active: 0,
    isBusy: false,
    alarmMs: Number.POSITIVE_INFINITY,
  }));
  const advance = (slot: (typeof slots)[number]) => {
    if (slot.isBusy) return;
    const free = slot.engine.step(clock.now(), journal(slot));
    if (free !== undefined) {
      slot.isBusy = true;
      busyMs += free - clock.now();
      events.at(free, () => {
        slot.isBusy = false;
        advance(slot);
      });
      return;
    }
    const due = slot.engine.nextDue();
    if (due >= slot.alarmMs) return;
    slot.alarmMs = due;
    events.at(Math.max(due, clock.now()), () => {
      slot.alarmMs = Number.POSITIVE_INFINITY;
      advance(slot);
    });
  };
  const arrive = (request: number) => {
    let least = slots[0]!;
    for (const slot of slots) if (slot.active < least.active) least = slot;
    least.active++;
    least.engine.arrive(request, trace.sizes?.[request] ?? 1, clock.now());
    if (request + 1 < timesMs.length) events.at(timesMs[request + 1]!, () => arrive(request + 1));
    advance(least);
  };
  events.at(timesMs[0]!, () => arrive(0));
  events.run();
  return {
    latencyMs,
    queueMs,
    batches: Float64Array.from(batches, (count) => count ?? 0),
    paddingShare: work === 0 ? 0 : padding / work,
    usdOf: new Float64Array(timesMs.length),
    busyMs,
  };
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
    step: (nowMs, journal) => {
      const batch = set.due(nowMs, true);
      if (!batch) return undefined;
      const own = batch.ids.map((id) => sizes.get(id)!);
      const largest = Math.max(...own);
      const { taskMs, rowMs, requestMs } = overheads;
      const endMs =
        nowMs +
        taskMs +
        batch.ids.length * (rowMs + requestMs) +
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
    step: (nowMs, journal) => {
      const task = scheduler.next(0);
      if (!task) return undefined;
      // Those that came since the last task were admitted before this one.
      const startMs = nowMs + admitted * overheads.requestMs;
      admitted = 0;
      const endMs = startMs + callMs(task) + overheads.taskMs + task.rows * overheads.rowMs;
      journal.batch(task.rows, task.rows * task.steps, 0);
      for (let row = 0; row < task.rows; row++) journal.started(requests[task.subgraphs[row]!]!, startMs);
      scheduler.complete(task, (id) => journal.ended(requests[id]!, endMs));
      return endMs;
    },
  };
}
