import { Fault } from "../core/faults.ts";
import type { Listener, SessionHandle, StepOutput, Values } from "../runtime/types.ts";

/** Who a resumable session speaks to. */
export interface Attachment {
  readonly listener: Listener;
  /** Another socket took the session up. */
  readonly replaced: () => void;
  /** It goes on: says how many inputs came so far and how many steps were done. */
  readonly opened: (session: Resumable) => void;
}

export interface ResumableSettings {
  readonly model: string;
  /** Class from 1 to 9. */
  readonly priority: number;
  /** Longest time that nobody may listen, in milliseconds. */
  readonly graceMs: number;
  /** Steps whose outputs are kept; as many as may be in flight. */
  readonly keep: number;
  readonly open: (state: string | undefined, listener: Listener) => SessionHandle;
  /** Nobody listens any more, or yet. */
  readonly detached: () => void;
  /** Nothing is left of it. */
  readonly ended: () => void;
}

/**
 * A session that outlives its socket. When that is gone the session goes on with the input it has, then its state is kept and
 * its slot is free; the next socket hears the outputs that the last may have missed, and goes on from the state.
 */
export class Resumable implements SessionHandle {
  readonly model: string;
  readonly priority: number;
  readonly graceMs: number;
  /** Inputs that came, over all sockets. */
  received = 0;
  /** Steps that were done, over all sockets. */
  processed = 0;
  readonly #settings: ResumableSettings;
  readonly #kept: StepOutput[] = [];
  /** Steps that were done before the present session began. */
  #before = 0;
  #session: SessionHandle | undefined;
  #attachment: Attachment | undefined;
  /** Where nobody listens or the state is on its way to a new session. */
  #isParking = false;
  #isSealed = false;
  #state: string | undefined;
  /** What it would have said last. */
  #last: ((listener: Listener) => void) | undefined;

  constructor(settings: ResumableSettings, attachment: Attachment, state: string | undefined) {
    this.#settings = settings;
    this.model = settings.model;
    this.priority = settings.priority;
    this.graceMs = settings.graceMs;
    this.#attachment = attachment;
    this.#session = settings.open(state, this.#listener());
  }

  push(inputs: Values): number {
    const steps = this.#live().push(inputs);
    this.received += steps;
    return steps;
  }

  end(): void {
    this.#live().end();
    this.#isSealed = true;
  }

  marker(marker: number): void {
    this.#live().marker(marker);
  }

  suspend(): void {
    this.#live().suspend();
  }

  fork(listener: Listener): SessionHandle {
    return this.#live().fork(listener);
  }

  cancel(): void {
    if (this.#session && !this.#isParking) {
      this.#session.cancel();
      return;
    }
    const attachment = this.#attachment;
    this.#session?.cancel();
    this.#end();
    attachment?.listener.failed(new Fault("CANCELLED", "the request was cancelled"));
  }

  pause(): void {
    this.#session?.pause();
  }

  resume(): void {
    this.#session?.resume();
  }

  /** The socket is gone. */
  detach(): void {
    this.#attachment = undefined;
    this.#settings.detached();
    // A reader that was slow may have paused it.
    this.#session?.resume();
    if (this.#isSealed || this.#isParking) return;
    this.#isParking = true;
    this.#session?.suspend();
  }

  /**
   * Another socket takes it up, from output `step` on; throws INVALID_REQUEST where that output is not kept. Calls
   * `opened`, and what was missed, as soon as the session goes on; what keeps it from that is thrown or told to the listener.
   */
  attach(attachment: Attachment, step: number): void {
    const first = this.processed - this.#kept.length;
    if (step < first || step > this.processed) {
      throw new Fault(
        "INVALID_REQUEST",
        `output ${step} of the session is not kept; outputs ${first} to ${this.processed - 1} are, and ${this.processed} comes next`,
      );
    }
    const last = this.#attachment;
    this.#session?.resume();
    if (this.#state !== undefined) this.#goOn(attachment, this.#state);
    this.#attachment = { ...attachment, opened: () => this.#greet(attachment, step) };
    last?.replaced();
    if (!this.#isParking) this.#attachment.opened(this);
  }

  /** Drops a session that nobody listens to. */
  drop(): void {
    this.#session?.cancel();
    this.#end();
  }

  #live(): SessionHandle {
    if (this.#session && !this.#isParking) return this.#session;
    throw new Fault("INVALID_REQUEST", "the session is being taken up again: wait for 'opened'");
  }

  #greet({ opened, listener }: Attachment, step: number): void {
    opened(this);
    for (const one of this.#kept) if (one.step >= step) listener.output?.(one);
    if (!this.#last) return;
    this.#end();
    this.#last(listener);
  }

  #goOn(attachment: Attachment, state: string): void {
    const session = this.#settings.open(state, this.#listener());
    this.#session = session;
    this.#state = undefined;
    this.#isParking = false;
    this.#before = this.processed;
    this.#attachment = attachment;
  }

  #end(): void {
    this.#session = undefined;
    this.#attachment = undefined;
    this.#settings.ended();
  }

  #listener(): Listener {
    return {
      output: ({ step, outputs }) => {
        const output = { step: this.#before + step, outputs };
        this.processed = output.step + 1;
        this.#kept.push(output);
        if (this.#kept.length > this.#settings.keep) this.#kept.shift();
        if (!this.#isParking) this.#attachment?.listener.output?.(output);
      },
      consumed: (inputs) => {
        if (!this.#isParking) this.#attachment?.listener.consumed?.(inputs);
      },
      marker: (marker) => {
        if (!this.#isParking) this.#attachment?.listener.marker?.(marker);
      },
      done: ({ outputs, usage }) => {
        const cells = this.#before + usage.cells;
        this.#finish((listener) => listener.done({ outputs, usage: { ...usage, cells } }));
      },
      failed: (fault) => this.#finish((listener) => listener.failed(fault)),
      suspended: (state, evicted) => this.#suspended(state, evicted),
    };
  }

  #finish(last: (listener: Listener) => void): void {
    this.#session = undefined;
    this.#last = last;
    const attachment = this.#attachment;
    const wasParking = this.#isParking;
    this.#isParking = false;
    if (!attachment) return;
    if (wasParking) {
      attachment.opened(this);
      return;
    }
    this.#end();
    last(attachment.listener);
  }

  #suspended(state: string, evicted?: "replaced"): void {
    this.#session = undefined;
    const attachment = this.#attachment;
    if (this.#isParking || !attachment) {
      this.#isParking = true;
      this.#state = state;
      if (attachment) this.#reopen(attachment, state);
      return;
    }
    this.#end();
    attachment.listener.suspended?.(state, evicted);
  }

  /** Somebody took it up while its state was on the way. */
  #reopen(attachment: Attachment, state: string): void {
    try {
      this.#goOn(attachment, state);
      attachment.opened(this);
    } catch (error) {
      this.#attachment = undefined;
      this.#settings.detached();
      attachment.listener.failed(Fault.from(error));
    }
  }
}
