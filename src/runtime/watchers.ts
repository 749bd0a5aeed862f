import { command } from "../engine/messages.ts";
import type { EngineSlot } from "./engines.ts";
import type { Entry } from "./entries.ts";
import { NO_REQUEST } from "./tell.ts";
import type { Usage, WatchedStep, Watcher } from "./types.ts";

/** Who watches what engines do; while there is nobody, engines say nothing of it. */
export class Watchers {
  readonly #all = new Set<Watcher>();
  readonly #engines: readonly EngineSlot[];

  constructor(engines: readonly EngineSlot[]) {
    this.#engines = engines;
  }

  /** Answers what ends it. */
  add(watcher: Watcher): () => void {
    this.#all.add(watcher);
    if (this.#all.size === 1) for (const slot of this.#engines) this.#tell(slot);
    return () => {
      if (!this.#all.delete(watcher) || this.#all.size > 0) return;
      for (const slot of this.#engines) this.#tell(slot);
    };
  }

  /** Of an engine that was started, again maybe. */
  retell(slot: EngineSlot): void {
    if (this.#all.size > 0) this.#tell(slot);
  }

  step(step: WatchedStep): void {
    for (const watcher of this.#all) watcher.step(step);
  }

  ended({ serial, version, isStage }: Entry, usage: Usage | undefined): void {
    if (this.#all.size === 0) return;
    const { definition } = version.served;
    const isRequest = definition.program.kind !== "session" && !isStage;
    const ms = usage && isRequest ? usage.queueMs + usage.computeMs : undefined;
    for (const watcher of this.#all) watcher.ended(serial, definition.name, ms);
  }

  #tell({ link, writer }: EngineSlot): void {
    if (!link) return;
    writer.int(command.WATCH);
    writer.int(NO_REQUEST);
    writer.int(this.#all.size > 0 ? 1 : 0);
    writer.double(performance.now());
  }
}
