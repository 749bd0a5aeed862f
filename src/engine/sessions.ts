import type { Scheduler } from "../../scheduler/scheduler.ts";
import type { Tensor } from "../core/tensor.ts";
import { checkInput } from "./graph.ts";
import { event } from "./messages.ts";
import type { PacketWriter } from "./packet.ts";
import { EngineRun, type Request, type SessionRun, type Waypoint } from "./request.ts";
import type { RunTable } from "./run-table.ts";
import type { Slots } from "./slots.ts";

export interface SessionEnds {
  /** A session has no steps left and none will follow. */
  done(run: EngineRun): void;
  /** A session was suspended. */
  gone(request: Request): void;
}

/** Sessions: one run each, whose steps come by pushes, and which stops where somebody wants its state. */
export class Sessions {
  readonly #scheduler: Scheduler;
  readonly #runs: RunTable;
  readonly #slots: Slots;
  readonly #outbox: PacketWriter;
  readonly #ends: SessionEnds;

  constructor(scheduler: Scheduler, runs: RunTable, slots: Slots, outbox: PacketWriter, ends: SessionEnds) {
    this.#scheduler = scheduler;
    this.#runs = runs;
    this.#slots = slots;
    this.#outbox = outbox;
    this.#ends = ends;
  }

  /** Makes a request a session that begins with `state`, where it is given. */
  open(request: Request, state?: Float32Array): EngineRun {
    const { model } = request;
    const { program, cells, outputs } = model.definition;
    const cell = program.kind === "session" ? program.cell : "";
    const index = cells.findIndex(({ name }) => name === cell);
    const run = new EngineRun(request, index, [], []);
    const progress = { steps: 0, known: 0, released: 0, sealed: false, awaitsState: false };
    request.session = { run, pushed: [], waypoints: [], ...progress };
    request.runs = [run];
    request.open = 1;
    for (const { name } of outputs) run.outputs = model.outputs.with(run.outputs, index, name, name, false);
    run.subgraph = this.#scheduler.add({
      type: run.type,
      steps: 0,
      open: true,
      priority: request.options.priority,
      deadlineMs: request.deadlineMs,
      arrival: request.arrival,
    });
    this.#runs.enter(run);
    if (state) this.#begin(run, state);
    return run;
  }

  /** Makes a request a session that begins with the state another has once its steps until now have run. */
  fork(session: SessionRun, child: Request): void {
    const run = this.open(child);
    child.session!.awaitsState = true;
    this.#scheduler.pause(run.subgraph);
    this.stopAt(session, { at: session.known, kind: "fork", child });
  }

  /** Steps for a session, by input of the model. Throws INVALID_INPUT where they do not fit it. */
  push(request: Request, tensors: readonly Tensor[]): void {
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

  /** No push will follow. */
  seal(session: SessionRun): void {
    session.sealed = true;
    this.#release(session);
  }

  stopAt(session: SessionRun, waypoint: Waypoint): void {
    session.waypoints.push(waypoint);
    if (session.run.done >= waypoint.at && !session.awaitsState) this.#reach(session);
  }

  /** A session's steps have run. */
  stepped(session: SessionRun): void {
    const { run } = session;
    while (run.position >= session.steps && session.pushed.length > 0) {
      const next = session.pushed.shift()!;
      run.position -= session.steps;
      run.inputs = next.inputs;
      session.steps = next.steps;
    }
    if (session.waypoints.length > 0) this.#reach(session);
  }

  #begin(run: EngineRun, state: Float32Array): void {
    const { model } = run.request;
    run.slot = this.#slots.take(model);
    model.kernel.write(run.slot, state);
  }

  /** Lets a session's steps run up to the next state that somebody asked for: a call of several steps would pass it. */
  #release(session: SessionRun): void {
    const { run, waypoints, known } = session;
    const until = waypoints.find(({ kind }) => kind !== "marker")?.at ?? known;
    if (until > session.released) this.#scheduler.extend(run.subgraph, until - session.released);
    session.released = until;
    if (!session.sealed || until < known || !this.#scheduler.seal(run.subgraph)) return;
    this.#scheduler.settle(run.subgraph);
    this.#ends.done(run);
  }

  /** Does what was asked for once the present step has run. */
  #reach(session: SessionRun): void {
    const { run, waypoints } = session;
    const { request } = run;
    const { model } = request;
    while (waypoints.length > 0 && waypoints[0]!.at <= run.done) {
      const waypoint = waypoints.shift()!;
      if (waypoint.kind === "marker") {
        this.#outbox.int(event.MARKER);
        this.#outbox.int(request.id);
        this.#outbox.int(waypoint.marker);
        continue;
      }
      if (run.slot < 0) run.slot = this.#slots.take(model);
      const state = model.kernel.read(run.slot);
      if (waypoint.kind === "suspend") {
        this.#outbox.int(event.SUSPENDED);
        this.#outbox.int(request.id);
        this.#outbox.values(state);
        this.#ends.gone(request);
        return;
      }
      const { child } = waypoint;
      if (child.ended) continue;
      this.#begin(child.session!.run, state);
      child.session!.awaitsState = false;
      if (!child.paused) this.#scheduler.resume(child.session!.run.subgraph);
      this.#reach(child.session!);
    }
    this.#release(session);
  }
}
