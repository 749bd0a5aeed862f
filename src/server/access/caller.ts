import { Fault } from "../../core/faults.ts";
import type { Listener, RequestOptions, SessionHandle } from "../../runtime/types.ts";
import { modelOf } from "../oip/metadata.ts";
import type { Doorway } from "../oip/statistics.ts";
import { TokenBucket } from "./bucket.ts";
import type { KeyLimits } from "./key-file.ts";

const DEFAULT_PRIORITY = 5;

/** Somebody who asks, over whichever door: what they may do, and how much of it they are doing. */
export class Caller {
  /** Of its key; "" where the server has no keys. */
  readonly name: string;
  #limits: KeyLimits;
  #bucket: TokenBucket | undefined;
  #open = 0;
  #isRevoked = false;
  readonly #guards = new Map<Doorway, Doorway>();

  constructor(name: string, limits: KeyLimits) {
    this.name = name;
    this.#limits = limits;
    this.limit(limits);
  }

  get isRevoked(): boolean {
    return this.#isRevoked;
  }

  /** Throws UNAUTHORIZED where it may not change the server, as to load and unload models. */
  checkAdmin(what: string): void {
    if (this.name === "" || this.#limits.admin) return;
    throw new Fault("UNAUTHORIZED", `key '${this.name}' may not ${what}: that takes a key made with --admin`);
  }

  /** Changes its limits; what is open stays open. */
  limit(limits: KeyLimits): void {
    const { requestsPerSecond: rate, burst } = limits;
    const isSame = rate === this.#limits.requestsPerSecond && burst === this.#limits.burst;
    if (rate === undefined) this.#bucket = undefined;
    else if (!isSame || !this.#bucket)
      this.#bucket = new TokenBucket(rate, burst ?? Math.max(1, Math.ceil(rate)), performance.now());
    this.#limits = limits;
  }

  /** Its key is no more; what is open is refused further input. */
  revoke(): void {
    this.#isRevoked = true;
  }

  mayUse(model: string): boolean {
    const { models } = this.#limits;
    return models === undefined || models.includes(model);
  }

  /** The class of a request that asks for one, 0 or none being the default. Throws INVALID_REQUEST for one above the caller's highest. */
  classOf(asked: number | undefined): number {
    const { priority: highest = 1 } = this.#limits;
    if (!asked) return Math.max(highest, DEFAULT_PRIORITY);
    if (!(asked < highest)) return asked;
    throw new Fault(
      "INVALID_REQUEST",
      `key '${this.name}' may ask for priority ${highest} and below, not for ${asked}`,
    );
  }

  /** Counts one request. Throws RATE_LIMITED that says when the next may come. */
  spend(): void {
    if (this.#isRevoked) throw new Fault("UNAUTHORIZED", `key '${this.name}' was removed`);
    const retryAfterMs = this.#bucket?.take(performance.now()) ?? 0;
    if (retryAfterMs === 0) return;
    const rate = this.#limits.requestsPerSecond;
    throw new Fault(
      "RATE_LIMITED",
      `key '${this.name}' may begin ${rate} requests a second: try again in ${Math.ceil(retryAfterMs)} ms`,
      { retryAfterMs },
    );
  }

  /** A runtime as this caller may use it. */
  guard(doorway: Doorway): Doorway {
    const isFree = Object.values(this.#limits).every((limit) => limit === undefined) && this.name === "";
    if (isFree) return doorway;
    let guarded = this.#guards.get(doorway);
    if (!guarded) {
      guarded = this.#guarded(doorway);
      this.#guards.set(doorway, guarded);
    }
    return guarded;
  }

  #guarded(doorway: Doorway): Doorway {
    const models = () => doorway.models.filter(({ name }) => this.mayUse(name));
    const guardForks = (session: SessionHandle): SessionHandle => ({
      ...session,
      fork: (listener) => this.#enter(listener, (told) => guardForks(session.fork(told))),
    });
    return {
      get models() {
        return models();
      },
      stats: () => doorway.stats(),
      submit: (model, inputs, options, listener) => {
        modelOf({ models: models() }, model, options.version);
        const allowed = this.#optionsOf(options);
        return this.#enter(listener, (told) => doorway.submit(model, inputs, allowed, told));
      },
      open: (model, options, listener) => {
        modelOf({ models: models() }, model, options.version);
        const allowed = this.#optionsOf(options);
        return this.#enter(listener, (told) => guardForks(doorway.open(model, allowed, told)));
      },
    };
  }

  #optionsOf<Options extends RequestOptions>(options: Options): Options {
    const priority = this.classOf(options.priority);
    return priority === options.priority ? options : { ...options, priority };
  }

  /** Counts a request from here to its last word. */
  #enter<T>(listener: Listener, begin: (told: Listener) => T): T {
    this.spend();
    const { openIds } = this.#limits;
    if (openIds !== undefined && this.#open >= openIds) {
      throw new Fault(
        "RATE_LIMITED",
        `key '${this.name}' has ${this.#open} requests and sessions open, which is the most it may have`,
      );
    }
    this.#open++;
    try {
      return begin({
        ...listener,
        done: (result) => {
          this.#open--;
          listener.done(result);
        },
        failed: (fault) => {
          this.#open--;
          listener.failed(fault);
        },
        suspended: (state, evicted) => {
          this.#open--;
          listener.suspended?.(state, evicted);
        },
      });
    } catch (error) {
      this.#open--;
      throw error;
    }
  }
}
