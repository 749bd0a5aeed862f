import { Fault } from "../core/faults.ts";
import type { EvictionReason } from "./protocol.ts";

/** A session as the others see it when there is no room. */
export interface Evictable {
  /** Class from 1 (first) to 9 (last). */
  readonly priority: number;
  /** When its client was last heard of, in milliseconds on the monotonic clock. */
  readonly heardMs: number;
  evict(reason: EvictionReason): void;
}

/** The sessions of all sockets. One of a higher class takes the place of one of a lower where there are no more places. */
export class OpenSessions {
  readonly #open = new Set<Evictable>();
  readonly #most: number;

  constructor(most: number) {
    this.#most = most;
  }

  /**
   * Finds a place for a session of a class. Answers what evicts the session that gives way, if one must: that of the lowest
   * class, of those the one that was silent longest. Throws OVERLOADED where no class is lower.
   */
  makeRoom(priority: number): () => void {
    if (this.#open.size < this.#most) return () => {};
    let last: Evictable | undefined;
    for (const one of this.#open) if (one.priority > priority && (!last || isAfter(one, last))) last = one;
    if (!last) {
      throw new Fault(
        "OVERLOADED",
        `${this.#most} sessions are open, which is the most, none of a lower class`,
      );
    }
    const gives = last;
    return () => {
      this.#open.delete(gives);
      gives.evict("capacity");
    };
  }

  add(session: Evictable): void {
    this.#open.add(session);
  }

  /** Of one that has ended or is being evicted. */
  delete(session: Evictable): void {
    this.#open.delete(session);
  }
}

function isAfter(a: Evictable, b: Evictable): boolean {
  return a.priority > b.priority || (a.priority === b.priority && a.heardMs < b.heardMs);
}
