import { Events } from "../../planner/events.ts";
import type { PolicyName } from "../../scheduler/policy.ts";
import type { RecordedType } from "../core/recording.ts";
import type { Tally } from "./figures.ts";
import { RecordedTimes } from "./recorded-times.ts";
import type { SessionWork } from "./reproduce.ts";
import { VirtualEngine, type VirtualWhole } from "./virtual-engine.ts";
import { VirtualRequest } from "./virtual-request.ts";
import type { BufferChange, LifeWork, WholeRequest, WorkRequest } from "./workload.ts";

/** What is to be otherwise than it was. */
export interface WhatIf {
  /** Most rows of a task, and most requests of a batch of whole requests. */
  readonly maxBatch?: number;
  readonly policy?: PolicyName;
  /** Requests go to the one with the fewest. @default where they went */
  readonly engines?: number;
  /** How many times as fast requests come; above 0. @default 1 */
  readonly speed?: number;
}

/** One engine of a server, and what comes to it while it is busy. */
interface Place {
  readonly engine: VirtualEngine;
  readonly inbox: (() => void)[];
  isBusy: boolean;
  /** When it wakes for a batch that is due. */
  alarmUs: number;
}

/** A server in virtual time: gives recorded requests to engines, and these the time that their batches take. */
export class VirtualServer {
  readonly #whatIf: WhatIf;
  readonly #tally: Tally;
  /** Times are microseconds. */
  readonly #events = new Events();
  readonly #places: readonly Place[];
  readonly #requests: VirtualRequest[] = [];
  readonly #wholes: VirtualWhole[] = [];

  constructor({ lives, policy }: SessionWork, whatIf: WhatIf, tally: Tally) {
    this.#whatIf = whatIf;
    this.#tally = tally;
    const types = typesOf(lives, whatIf.maxBatch);
    const times = new RecordedTimes(lives.flatMap(({ batches }) => batches));
    const ran = tally.batch.bind(tally);
    const wanted = (whatIf.policy ?? policy) as PolicyName;
    const count = lives.length === 0 ? 0 : (whatIf.engines ?? lives.length);
    this.#places = Array.from({ length: count }, () => ({
      engine: new VirtualEngine({ policy: wanted, types, times, ran }),
      inbox: [],
      isBusy: false,
      alarmUs: Number.POSITIVE_INFINITY,
    }));
    const first = lives.reduce((least, { startUs }) => Math.min(least, startUs), Number.POSITIVE_INFINITY);
    const { speed = 1 } = whatIf;
    const sooner = (atUs: number) => first + Math.round((atUs - first) / speed);
    for (const [life, { requests, buffers }] of lives.entries()) {
      const home = whatIf.engines === undefined ? this.#places[life] : undefined;
      // Where requests go elsewhere than they did, all engines have the buffers of the first.
      const places = home ? [home] : life === 0 ? this.#places : [];
      for (const change of buffers) this.#expectBuffers(change, sooner(change.atUs), places);
      for (const work of requests) {
        const arrivalUs = sooner(work.arrivalUs);
        if (work.kind === "cells") this.#expect(work, arrivalUs, home);
        else this.#expectWhole(work, arrivalUs, home);
      }
    }
  }

  run(): void {
    this.#events.run();
    for (const { work, arrivalUs, lastUs, isEnded, wasRemoved } of this.#requests)
      if (!work.isSession) this.#tally.request({ arrivalUs, endUs: isEnded ? lastUs : -1, wasRemoved });
    for (const whole of this.#wholes) this.#tally.request(whole);
  }

  #expectBuffers(change: BufferChange, atUs: number, places: readonly Place[]): void {
    const { maxBatch } = this.#whatIf;
    // Buffers are told the time in the unit that their timeouts have.
    const buffers = change.buffers.map((one) => ({
      ...one,
      timeoutMs: one.timeoutMs * 1000,
      maxBatch: maxBatch ?? one.maxBatch,
    }));
    this.#events.at(atUs, () => {
      for (const place of places) this.#give(place, () => place.engine.setBuffers({ ...change, buffers }));
    });
  }

  #expect(work: WorkRequest, arrivalUs: number, home: Place | undefined): void {
    const request = new VirtualRequest(work, arrivalUs);
    this.#requests.push(request);
    this.#events.at(arrivalUs, () => {
      const place = home ?? this.#leastActive();
      const { engine } = place;
      for (const { afterUs, changes } of request.timed()) {
        const act = () => {
          if (!request.isEnded) engine.change(request, changes);
        };
        if (afterUs === 0) this.#give(place, act);
        else this.#events.at(arrivalUs + afterUs, () => this.#give(place, act));
      }
      if (Number.isFinite(work.timeoutUs))
        this.#events.at(arrivalUs + work.timeoutUs, () => this.#give(place, () => engine.expire(request)));
    });
  }

  #expectWhole(work: WholeRequest, arrivalUs: number, home: Place | undefined): void {
    const whole = { id: this.#wholes.length, work, arrivalUs, endUs: -1, wasRemoved: false };
    this.#wholes.push(whole);
    this.#events.at(arrivalUs, () => {
      const place = home ?? this.#leastActive();
      this.#give(place, () => place.engine.wait(whole));
      const untilUs = Math.min(work.removedAfterUs, work.timeoutUs);
      if (Number.isFinite(untilUs))
        this.#events.at(arrivalUs + untilUs, () => this.#give(place, () => place.engine.leave(whole)));
    });
  }

  /** Those that it has been given and has not heard of yet count too, or a burst would all go to one. */
  #leastActive(): Place {
    const load = ({ engine, inbox }: Place) => engine.active + inbox.length;
    return this.#places.reduce((least, place) => (load(place) < load(least) ? place : least));
  }

  /** Lets an engine know of something, between two steps. */
  #give(place: Place, act: () => void): void {
    place.inbox.push(act);
    // All that comes at one time comes before the next step.
    if (!place.isBusy) this.#events.at(this.#events.clock.now(), () => this.#step(place));
  }

  #step(place: Place): void {
    if (place.isBusy) return;
    for (const act of place.inbox.splice(0)) act();
    const running = place.engine.begin(this.#events.clock.now());
    if (!running) {
      this.#wakeWhenDue(place);
      return;
    }
    place.isBusy = true;
    this.#events.at(running.endUs, () => {
      const freeUs = running.complete();
      this.#events.at(freeUs, () => {
        place.isBusy = false;
        this.#step(place);
      });
    });
  }

  #wakeWhenDue(place: Place): void {
    const { nextDueUs } = place.engine;
    if (nextDueUs === Number.POSITIVE_INFINITY || nextDueUs === place.alarmUs) return;
    place.alarmUs = nextDueUs;
    this.#events.at(nextDueUs, () => {
      place.alarmUs = Number.POSITIVE_INFINITY;
      this.#step(place);
    });
  }
}

/** Cells of all engines by key: one that began later knows models that others had no more. */
function typesOf(
  lives: readonly LifeWork[],
  maxBatch: number | undefined,
): ReadonlyMap<string, RecordedType> {
  const all = new Map<string, RecordedType>();
  for (const { types } of lives)
    for (const [key, type] of types)
      if (!all.has(key)) all.set(key, maxBatch === undefined ? type : withRows(type, maxBatch));
  return all;
}

/** With a curve that goes on in proportion where more rows are wanted than were measured. */
function withRows({ cost, ...type }: RecordedType, maxBatch: number): RecordedType {
  const [rows, ms] = cost?.at(-1) ?? [maxBatch, 0];
  if (!cost || rows >= maxBatch) return { ...type, maxBatch, ...(cost ? { cost } : {}) };
  return { ...type, maxBatch, cost: [...cost, [maxBatch, (ms * maxBatch) / rows]] };
}
