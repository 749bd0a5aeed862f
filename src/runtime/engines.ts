import { Mutex } from "async-mutex";
import { Fault } from "../core/faults.ts";
import { PacketWriter } from "../engine/packet.ts";
import type { Link, LinkEvents } from "./link.ts";

/** One engine as the dispatcher sees it: up, or gone and about to be started again. */
export class EngineSlot {
  readonly index: number;
  link: Link | undefined;
  /** Requests and sessions that are with it. */
  active = 0;
  restarts = 0;
  readonly #open: (events: LinkEvents) => Promise<Link>;
  readonly #events: { packet(packet: ArrayBuffer): void; died(slot: EngineSlot, reason: string): void };
  readonly #writer = new PacketWriter();
  /** A stop waits for the start before it, so that no thread outlives its runtime. */
  readonly #lifecycle = new Mutex();
  #flush: NodeJS.Immediate | undefined;
  #retry: NodeJS.Timeout | undefined;
  #backOffMs = FIRST_BACK_OFF_MS;
  #upSince = 0;
  #closed = false;

  constructor(
    index: number,
    open: (events: LinkEvents) => Promise<Link>,
    events: { packet(packet: ArrayBuffer): void; died(slot: EngineSlot, reason: string): void },
  ) {
    this.index = index;
    this.#open = open;
    this.#events = events;
  }

  start(): Promise<void> {
    return this.#lifecycle.runExclusive(() => this.#start());
  }

  async #start(): Promise<void> {
    if (this.#closed) return;
    const link = await this.#open({
      packet: (packet) => this.#events.packet(packet),
      died: (reason) => this.#died(reason),
    });
    this.link = link;
    this.#upSince = performance.now();
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
    await this.#lifecycle.runExclusive(async () => {
      await this.link?.stop();
      this.link = undefined;
    });
  }

  #died(reason: string): void {
    if (!this.link) return;
    if (performance.now() - this.#upSince > HEALTHY_MS) this.#backOffMs = FIRST_BACK_OFF_MS;
    this.link = undefined;
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
