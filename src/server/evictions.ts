import type { EvictionReason } from "./protocol.ts";

/** One session or sequence that the server ended. */
export interface Eviction {
  readonly model: string;
  readonly reason: EvictionReason;
}

/** Counts evictions by reason and hands each to the operator's hook. */
export class Evictions {
  readonly #counts = new Map<EvictionReason, number>();
  readonly #hook: (eviction: Eviction) => void;

  constructor(hook: (eviction: Eviction) => void) {
    this.#hook = hook;
  }

  get counts(): ReadonlyMap<EvictionReason, number> {
    return this.#counts;
  }

  add(eviction: Eviction): void {
    this.#counts.set(eviction.reason, (this.#counts.get(eviction.reason) ?? 0) + 1);
    this.#hook(eviction);
  }
}
