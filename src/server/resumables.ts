import { Fault } from "../core/faults.ts";
import type { Evictions } from "./evictions.ts";
import type { EvictionReason } from "./protocol.ts";
import { type Attachment, Resumable, type ResumableSettings } from "./resumable.ts";

export interface ResumableLimits {
  /** Longest time that a session waits for a client whose socket is gone, in milliseconds. @default 60 000 */
  readonly graceMs: number;
  /** Sessions that may wait so; past it the one that waited longest is evicted. @default 1024 */
  readonly parked: number;
}

interface Entry {
  readonly owner: string;
  readonly resumable: Resumable;
  /** Since when nobody listens; undefined where somebody does. */
  detachedMs: number | undefined;
}

/** What a resumable session is opened with; `owner` may take it up again. */
export type ResumableOpening = Omit<ResumableSettings, "detached" | "ended"> & { readonly owner: string };

/** The sessions that outlive their sockets, by the token that takes them up again. */
export class Resumables {
  readonly #limits: ResumableLimits;
  readonly #evictions: Evictions;
  readonly #newToken: () => string;
  readonly #entries = new Map<string, Entry>();
  /** Those that wait, longest first. */
  readonly #parked = new Set<string>();
  /** Those that were evicted lately, for clients that come back for them. */
  readonly #evicted = new Map<string, { readonly owner: string; readonly reason: EvictionReason }>();

  constructor(limits: ResumableLimits, evictions: Evictions, newToken: () => string) {
    this.#limits = limits;
    this.#evictions = evictions;
    this.#newToken = newToken;
  }

  /** Sessions that nobody listens to. */
  get parked(): number {
    return this.#parked.size;
  }

  /** Opens one; throws what its opening throws. `opened` of the attachment is left to the caller. */
  open(
    { owner, ...opening }: ResumableOpening,
    attachment: Attachment,
    state: string | undefined,
  ): { readonly token: string; readonly resumable: Resumable } {
    const token = this.#newToken();
    const graceMs = Math.min(opening.graceMs, this.#limits.graceMs);
    const life = { detached: () => this.#park(token), ended: () => this.#forget(token) };
    const resumable = new Resumable({ ...opening, graceMs, ...life }, attachment, state);
    this.#entries.set(token, { owner, resumable, detachedMs: undefined });
    return { token, resumable };
  }

  /** The session of a token; or, told once, why it was evicted. Throws SESSION_NOT_FOUND. */
  find(token: string, owner: string): Resumable | EvictionReason {
    const entry = this.#entries.get(token);
    if (entry?.owner === owner) return entry.resumable;
    const evicted = this.#evicted.get(token);
    if (evicted?.owner === owner) {
      this.#evicted.delete(token);
      return evicted.reason;
    }
    throw new Fault(
      "SESSION_NOT_FOUND",
      "no session waits for that token: it has ended, or its grace has passed",
    );
  }

  /** Somebody listens again. */
  attached(token: string): void {
    this.#parked.delete(token);
    const entry = this.#entries.get(token);
    if (entry) entry.detachedMs = undefined;
  }

  /** Evicts those whose grace has passed. */
  sweep(nowMs: number): void {
    for (const token of this.#parked) {
      const { detachedMs, resumable } = this.#entries.get(token)!;
      if (detachedMs! + resumable.graceMs < nowMs) this.#evict(token, "idle");
    }
  }

  /** Evicts all that wait. */
  close(): void {
    for (const token of this.#parked) this.#evict(token, "shutdown");
  }

  #park(token: string): void {
    const entry = this.#entries.get(token);
    if (!entry) return;
    entry.detachedMs = performance.now();
    this.#parked.add(token);
    if (this.#parked.size <= this.#limits.parked) return;
    const [oldest] = this.#parked;
    this.#evict(oldest!, "capacity");
  }

  #evict(token: string, reason: EvictionReason): void {
    const { owner, resumable } = this.#entries.get(token)!;
    this.#evicted.set(token, { owner, reason });
    if (this.#evicted.size > this.#limits.parked) this.#evicted.delete(this.#evicted.keys().next().value!);
    resumable.drop();
    this.#evictions.add({ model: resumable.model, reason });
  }

  #forget(token: string): void {
    this.#entries.delete(token);
    this.#parked.delete(token);
  }
}
