import type { Listener, Runtime, SessionHandle } from "../../src/runtime/types.ts";

/** Keeps account of a runtime: how often each accepted request and session heard its last word. */
export class Ledger {
  /** Accepted and not over. */
  readonly #open = new Set<symbol>();
  accepted = 0;
  answered = 0;
  /** Last words after the last word. */
  extra = 0;

  get unanswered(): number {
    return this.#open.size;
  }

  /** The runtime, with everything it accepts in the account. */
  watch(runtime: Runtime): Runtime {
    const forks = (session: SessionHandle): SessionHandle => ({
      ...session,
      fork: (listener) => this.#enter(listener, (told) => forks(session.fork(told))),
    });
    const watched: Pick<Runtime, "submit" | "open"> = {
      submit: (model, inputs, options, listener) =>
        this.#enter(listener, (told) => runtime.submit(model, inputs, options, told)),
      open: (model, options, listener) =>
        this.#enter(listener, (told) => forks(runtime.open(model, options, told))),
    };
    return new Proxy(runtime, {
      get: (target, name) => {
        if (name === "submit" || name === "open") return watched[name];
        const member: unknown = Reflect.get(target, name, target);
        return typeof member === "function" ? member.bind(target) : member;
      },
    });
  }

  #enter<T>(listener: Listener, begin: (told: Listener) => T): T {
    const request = Symbol();
    const over = () => {
      if (this.#open.delete(request)) this.answered++;
      else this.extra++;
    };
    const handle = begin({
      ...listener,
      done: (result) => {
        over();
        listener.done(result);
      },
      failed: (fault) => {
        over();
        listener.failed(fault);
      },
      suspended: (state, evicted) => {
        over();
        listener.suspended?.(state, evicted);
      },
    });
    // Nobody is told before the turn of the event loop is over.
    this.accepted++;
    this.#open.add(request);
    return handle;
  }
}
