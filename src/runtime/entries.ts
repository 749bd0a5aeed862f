import { Fault } from "../core/faults.ts";
import type { EngineSlot } from "./engines.ts";
import type { StepTexts } from "./step-texts.ts";
import type { Listener, Usage } from "./types.ts";
import type { Version } from "./versions.ts";

/** A request or session between its acceptance and its end. */
export interface Entry {
  readonly id: number;
  /** Counts entries, from 1; an `id` is used again. */
  readonly serial: number;
  readonly version: Version;
  readonly engine: EngineSlot;
  readonly listener: Listener;
  /** Whether it is a stage of a pipeline, which is counted in its place. */
  readonly isStage: boolean;
  /** Set once it has to leave, because its version is unloaded. */
  isEvicted: boolean;
  /** The texts among its steps, once there is a step. */
  texts?: StepTexts;
}

/** The requests and sessions of a runtime, and how many there were. */
export class Entries {
  readonly #all: (Entry | undefined)[] = [];
  readonly #freeIds: number[] = [];
  readonly #maxActive: number;
  readonly #ended: (entry: Entry, usage: Usage | undefined) => void;
  #lastSerial = 0;
  #accepted = 0;
  #completed = 0;
  #failed = 0;
  #isClosed = false;
  #drained: (() => void) | undefined;

  /** `ended` hears of each before its last word is said. */
  constructor(maxActive: number, ended: (entry: Entry, usage: Usage | undefined) => void) {
    this.#maxActive = maxActive;
    this.#ended = ended;
  }

  *[Symbol.iterator](): Generator<Entry> {
    for (const entry of this.#all) if (entry) yield entry;
  }

  at(id: number): Entry | undefined {
    return this.#all[id];
  }

  has(entry: Entry): boolean {
    return this.#all[entry.id] === entry;
  }

  get counts() {
    return {
      active: this.#active,
      accepted: this.#accepted,
      completed: this.#completed,
      failed: this.#failed,
    };
  }

  get #active(): number {
    return this.#accepted - this.#completed - this.#failed;
  }

  get isClosed(): boolean {
    return this.#isClosed;
  }

  /** Stages belong to a pipeline that was admitted, and go on while the runtime drains. Throws SHUTTING_DOWN and OVERLOADED. */
  accept(version: Version, listener: Listener, isStage: boolean, findEngine: () => EngineSlot): Entry {
    if (!isStage) this.#checkAdmission();
    const engine = findEngine();
    const id = this.#freeIds.pop() ?? this.#all.length;
    const serial = ++this.#lastSerial;
    const entry: Entry = { id, serial, version, engine, listener, isStage, isEvicted: false };
    this.#all[id] = entry;
    engine.active++;
    version.active++;
    if (!isStage) this.#accepted++;
    return entry;
  }

  /** Begins a pipeline, which is one request or session however many stages it has. Throws as `accept`. */
  counted<Begun>(listener: Listener, begin: (counted: Listener) => Begun): Begun {
    this.#checkAdmission();
    const begun = begin({
      ...listener,
      done: (result) => this.#count(true, () => listener.done(result)),
      suspended: (state, evicted) => this.#count(true, () => listener.suspended?.(state, evicted)),
      failed: (fault) => this.#count(false, () => listener.failed(fault)),
    });
    this.#accepted++;
    return begun;
  }

  /** Lets a request go, then says its last word; `usage` where it came to a result. */
  end(entry: Entry, tell: () => void, isSuccess = false, usage?: Usage): void {
    this.#all[entry.id] = undefined;
    this.#freeIds.push(entry.id);
    entry.engine.active--;
    entry.version.active--;
    this.#ended(entry, usage);
    if (entry.isStage) tell();
    else this.#count(isSuccess, tell);
    if (entry.version.active === 0) entry.version.onIdle?.();
  }

  fail(entry: Entry, fault: Fault): void {
    this.end(entry, () => entry.listener.failed(fault));
  }

  /** Accepts nothing more, and waits until all have ended, at most so long. */
  async close(drainMs: number): Promise<void> {
    this.#isClosed = true;
    if (this.#active === 0 || drainMs <= 0) return;
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, drainMs);
      this.#drained = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  #checkAdmission(): void {
    if (this.#isClosed) throw new Fault("SHUTTING_DOWN", "the runtime is closing and takes no more requests");
    if (this.#active >= this.#maxActive)
      throw new Fault("OVERLOADED", `${this.#maxActive} requests and sessions are active, which is the most`);
  }

  /** Counts what has ended, and says its last word. */
  #count(isSuccess: boolean, tell: () => void): void {
    if (isSuccess) this.#completed++;
    else this.#failed++;
    tell();
    if (this.#active === 0) this.#drained?.();
  }
}
