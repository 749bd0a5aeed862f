import { Mutex } from "async-mutex";
import { Fault } from "../core/faults.ts";
import type { Loaded, NumberedSource } from "../engine/load.ts";
import { PacketWriter } from "../engine/packet.ts";
import type { Link, LinkEvents } from "./link.ts";

/** Starts an engine with these models. */
export type OpenLink = (models: readonly NumberedSource[], events: LinkEvents) => Promise<Link>;
export interface SlotEvents {
  packet(packet: ArrayBuffer, slot: EngineSlot): void;
  /** It was started, for the first time or again. */
  up(slot: EngineSlot): void;
  died(slot: EngineSlot, reason: string): void;
}

/** One engine as the dispatcher sees it: up, or gone and about to be started again. */
export class EngineSlot {
  readonly index: number;
  link: Link | undefined;
  /** Requests and sessions that are with it. */
  active = 0;
  restarts = 0;
  readonly #open: OpenLink;
  readonly #wanted: () => readonly NumberedSource[];
  readonly #events: SlotEvents;
  readonly #writer = new PacketWriter();
  /** A stop waits for the start before it, so that no thread outlives its runtime. */
  readonly #lifecycle = new Mutex();
  #loaded = new Map<number, Loaded>();
  #flush: NodeJS.Immediate | undefined;
  #retry: NodeJS.Timeout | undefined;
  #backOffMs = FIRST_BACK_OFF_MS;
  #upSince = 0;
  #closed = false;

  constructor(index: number, open: OpenLink, wanted: () => readonly NumberedSource[], events: SlotEvents) {
    this.index = index;
    this.#open = open;
    this.#wanted = wanted;
    this.#events = events;
  }

  start(): Promise<void> {
    return this.#lifecycle.runExclusive(() => this.#start());
  }

  async #start(): Promise<void> {
    if (this.#closed) return;
    this.link = await this.#open(this.#wanted(), {
      packet: (packet) => this.#events.packet(packet, this),
      died: (reason) => this.#died(reason),
    });
    this.#loaded = new Map(this.link.loaded);
    this.#events.up(this);
    this.#upSince = performance.now();
  }

  /**
   * Loads a model that is among the wanted ones. Undefined where the engine is down: it loads all of them when it starts.
   * Rejects with the fault that keeps the model out, and where the engine dies of it.
   */
  load({ number, source }: NumberedSource): Promise<Loaded | undefined> {
    return this.#lifecycle.runExclusive(async () => {
      if (!this.link || this.#loaded.has(number)) return this.#loaded.get(number);
      const loaded = await this.link.load({ number, source });
      this.#loaded.set(number, loaded);
      return loaded;
    });
  }

  /** Takes a model out that is not wanted any more and that no request is with. */
  unload(number: number): Promise<void> {
    return this.#lifecycle.runExclusive(async () => {
      if (!this.#loaded.delete(number)) return;
      // What was written before goes first. An engine that dies has unloaded all.
      this.flush();
      await this.link?.unload(number).catch(() => {});
    });
  }

  /** Where the next command is written; all commands of one turn of the event loop go out together. */
  get writer(): PacketWriter {
    this.#flush ??= setImmediate(() => this.flush());
    return this.#writer;
  }

  flush(): void {
    if (this.#flush) clearImmediate(this.#flush);
    this.#flush = undefined;
    if (this.#writer.isEmpty) return;
    const packet = this.#writer.take();
    this.link?.send(packet);
  }

  async stop(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#retry);
    if (this.#flush) clearImmediate(this.#flush);
    const stopLink = async () => {
      const { link } = this;
      this.link = undefined;
      await link?.stop();
    };
    // A load under way ends with its engine; a start is waited for.
    await stopLink();
    await this.#lifecycle.runExclusive(stopLink);
  }

  #died(reason: string): void {
    if (!this.link) return;
    if (performance.now() - this.#upSince > HEALTHY_MS) this.#backOffMs = FIRST_BACK_OFF_MS;
    this.link = undefined;
    this.#loaded.clear();
    this.#events.died(this, reason);
    this.#startAgain();
  }

  #startAgain(): void {
    if (this.#closed) return;
    this.#retry = setTimeout(() => {
      this.restarts++;
      this.start().catch(() => this.#startAgain());
    }, this.#backOffMs);
    this.#backOffMs = Math.min(this.#backOffMs * 2, LONGEST_BACK_OFF_MS);
  }
}

/** The engine that is up and has the least to do. Throws MODEL_NOT_READY where none is up. */
export function leastLoaded(slots: readonly EngineSlot[]): EngineSlot {
  let least: EngineSlot | undefined;
  for (const slot of slots) if (slot.link && (!least || slot.active < least.active)) least = slot;
  if (!least) throw new Fault("MODEL_NOT_READY", "no engine is up; they are being started again");
  return least;
}

const FIRST_BACK_OFF_MS = 100;
const LONGEST_BACK_OFF_MS = 10_000;
/** An engine that was up for this long is not failing again and again. */
const HEALTHY_MS = 60_000;
