import { backOffMs } from "./backoff.ts";
import type { Connection } from "./connection.ts";
import type { Connector } from "./connector.ts";
import { type ClientError, cancelled, sessionGone } from "./errors.ts";
import type { Heard } from "./frames.ts";
import { Markers } from "./markers.ts";
import { wireParameters } from "./parameters.ts";
import { errorOf, type Result, resultOf } from "./request.ts";
import type { SessionOptions } from "./session.ts";
import { SessionLink } from "./session-link.ts";
import { SessionOutputs } from "./session-outputs.ts";
import type { StepOutput } from "./steps.ts";
import type { Values } from "./values.ts";
import { type Limit, limit, orAborted, pause } from "./waiting.ts";
import { WayBack } from "./way-back.ts";

/** Times in a row that a session is opened again without one more output. */
const MOST_REOPENS = 6;

export type SessionEnd =
  | { readonly result: Result }
  | { readonly state: string }
  | { readonly error: ClientError };

/** What a session is opened with, here and wherever it moves. */
interface Opening {
  readonly connector: Connector;
  readonly model: string;
  readonly options: SessionOptions;
}

/** A session that outlives its connections: it goes on from its last checkpoint, or from the state it was evicted with. */
export class RoamingSession {
  /** Resolves with its end, whatever that is. */
  readonly ended: Promise<SessionEnd>;
  readonly #opening: Opening;
  readonly #bound: Limit;
  readonly #back: WayBack;
  /** Absent while it waits for a connection, and while it sleeps: evicted for its silence, until there is more to do. */
  #link: SessionLink | undefined;
  #isAsleep = false;
  readonly #outputs: SessionOutputs;
  /** Whether pushes are tensors; how many steps a text is, only the server knows. */
  #isCounted: boolean;
  #reopens = 0;
  readonly #markers = new Markers();
  #wantsEnd = false;
  #wantsSuspend = false;
  #end: SessionEnd | undefined;
  #settle: (end: SessionEnd) => void = () => {};
  readonly #wakes = new Set<() => void>();

  private constructor(opening: Opening, back: WayBack, isCounted: boolean) {
    this.#opening = opening;
    this.#back = back;
    this.#isCounted = isCounted;
    this.#outputs = new SessionOutputs(back.log.end);
    this.ended = new Promise((resolve) => {
      this.#settle = resolve;
    });
    const { signal, timeoutMs } = opening.options;
    this.#bound = limit(`the session of model '${opening.model}'`, signal, timeoutMs);
    const abort = () => this.stop(cancelled(this.#bound.signal));
    if (this.#bound.signal.aborted) abort();
    else this.#bound.signal.addEventListener("abort", abort, { once: true });
  }

  static open(connector: Connector, model: string, options: SessionOptions): RoamingSession {
    const back = WayBack.from(options.state, options.checkpointInputs);
    const session = new RoamingSession({ connector, model, options }, back, true);
    void session.#connect();
    return session;
  }

  /** How many inputs may be sent now, once that is more than none. Rejects with what ended the session, or the signal's reason. */
  async room(signal: AbortSignal): Promise<number> {
    for (;;) {
      if (this.#end) throw "error" in this.#end ? this.#end.error : sessionGone("has ended");
      if (signal.aborted) throw signal.reason;
      const { credit } = this.#current ?? { credit: 0 };
      if (credit > 0 && !this.#outputs.isFull) return credit;
      if (this.#isAsleep) void this.#connect();
      await orAborted(new Promise<void>((resolve) => this.#wakes.add(resolve)), signal);
    }
  }

  /** More input, for which there is room. */
  append(inputs: Values, steps: number): void {
    if (Object.values(inputs).some((value) => typeof value === "string")) {
      this.#isCounted = false;
      this.#back.close();
    }
    if (this.#back.isTooLong) this.#forget();
    this.#back.log.append(inputs, steps);
    this.pump();
  }

  /** The next output; undefined after the last. */
  async next(): Promise<StepOutput | undefined> {
    const step = await this.#outputs.next();
    if (step) this.#wake();
    return step;
  }

  /** Ends it once what was appended is processed. */
  finish(): void {
    this.#wantsEnd = true;
    this.pump();
  }

  /** Ends it with its state once what was appended is processed. */
  suspend(): void {
    this.#wantsSuspend = true;
    this.pump();
  }

  /** Resolves once what was appended is processed; the marker goes out with the next `pump`. */
  mark(): Promise<void> {
    const reached = this.#markers.place();
    if (this.#end) this.#markers.settle(errorIn(this.#end));
    return reached;
  }

  /** A second session that goes on from here. Throws SESSION_NOT_FOUND where there is no state to go on from. */
  fork(): RoamingSession {
    if (this.#end) throw sessionGone("has ended");
    const link = this.#current;
    const isHere = link && !link.connection.isDraining;
    if (!isHere && !this.#back.checkpoint)
      throw sessionGone("is between two connections and has no checkpoint to fork from");
    const { signal: _, state: __, ...options } = this.#opening.options;
    const child = new RoamingSession({ ...this.#opening, options }, this.#back.copy(), this.#isCounted);
    if (isHere) link.fork(child.#attach(link.connection, this.#back.log.end).id);
    else void child.#connect();
    return child;
  }

  /** Ends it with an error, if it has not ended. */
  stop(error: ClientError): void {
    if (this.#end) return;
    this.#link?.cancel();
    this.#finish({ error });
  }

  /** Sends what can be sent: inputs, then what was asked for after them. */
  pump(): void {
    if (this.#isAsleep) void this.#connect();
    const link = this.#link;
    if (!link?.takesMore) return;
    const { log } = this.#back;
    link.sendInputs(log);
    this.#wake();
    if (link.sent < log.end) return;
    if (!this.#isCounted) log.dropBefore(link.sent);
    link.sendMarkers(this.#markers);
    if (this.#wantsSuspend) link.suspend();
    else if (this.#wantsEnd) link.end();
    else this.#copyState(link);
  }

  /** The link, where it is open, was sent all input and not yet suspended. */
  get #current(): SessionLink | undefined {
    const link = this.#link;
    return link?.isOpen && !link.isSuspending && link.sent === this.#back.log.end ? link : undefined;
  }

  #wake(): void {
    for (const wake of this.#wakes) wake();
    this.#wakes.clear();
  }

  /** Gets a connection and opens the session on it, from its checkpoint. */
  async #connect(): Promise<void> {
    const { connector, model, options } = this.#opening;
    this.#isAsleep = false;
    try {
      if (this.#reopens > 1) await pause(backOffMs(this.#reopens, Math.random()), this.#bound.signal);
      const connection = await connector.next(this.#bound.signal);
      if (this.#end) return;
      const { at, state } = this.#back.checkpoint!;
      const link = this.#attach(connection, at);
      link.open(model, wireParameters(options, this.#bound.leftMs()), state);
    } catch (error) {
      this.stop(error as ClientError);
    }
  }

  #attach(connection: Connection, at: number): SessionLink {
    const link: SessionLink = new SessionLink(connection, at, {
      heard: (message) => this.#link === link && this.#hear(link, message),
      lost: (error) => this.#link === link && this.#lose(error),
      draining: () => this.#link === link && this.#leave(link),
    });
    this.#link = link;
    return link;
  }

  #hear(link: SessionLink, message: Heard): void {
    if (message.type === "opened") {
      // A quiet session may lose any number of connections.
      if (link.received === this.#back.log.end) this.#reopens = 0;
      link.opened(message.limits.inputs);
      this.pump();
      if (link.connection.isDraining) this.#leave(link);
    } else if (message.type === "credit") {
      link.addCredit(message.inputs);
      this.pump();
    } else if (message.type === "output") this.#deliver(link, message.outputs);
    else if (message.type === "marker") this.#markers.reach(message.marker);
    else if (message.type === "done") this.#finish({ result: resultOf(message) });
    else if (message.type === "state") this.#takeState(link, message.state);
    else if (message.type === "evicted") {
      const error = sessionGone(`was ended by the server: ${message.reason}`);
      if (message.state === undefined || message.reason === "replaced") this.stop(error);
      else this.#takeState(link, message.state, message.reason);
    } else if (message.type === "error") this.#refused(link, errorOf(message));
  }

  #refused(link: SessionLink, error: ClientError): void {
    const isAgain = error.isRetryable && (this.#reopens > 0 || this.#back.log.end > this.#outputs.first);
    if (error.code === "SHUTTING_DOWN") link.connection.drain();
    if (this.#link !== link) return;
    if (error.code === "SHUTTING_DOWN" || isAgain) this.#lose(error);
    else this.stop(error);
  }

  #deliver(link: SessionLink, outputs: Values): void {
    const position = link.received++;
    const isNews = !this.#isCounted || this.#outputs.isNews(position);
    if (isNews) this.#outputs.push(position, outputs);
    if (isNews || link.received === this.#back.log.end) this.#reopens = 0;
    if (this.#back.every === 0) this.#forget();
  }

  /** Forgets what was answered, and with it the way back to the last checkpoint. */
  #forget(): void {
    this.#back.log.dropBefore(this.#link?.received ?? 0);
    this.#back.close();
  }

  /** The session is over there; its state is that after all outputs which came. */
  #takeState(link: SessionLink, state: string, reason?: string): void {
    const isWhole = this.#isCounted ? link.received === this.#back.log.end : link.isSuspending;
    if (this.#wantsSuspend && isWhole) {
      this.#finish({ state });
      return;
    }
    if (!this.#isCounted) {
      this.stop(sessionGone("was ended by the server, and how far its text had been read cannot be known"));
      return;
    }
    this.#back.keep({ at: link.received, state });
    this.#detach();
    const isQuiet = isWhole && !this.#wantsEnd && this.#markers.size === 0;
    if (reason === "idle" && isQuiet) this.#isAsleep = true;
    else void this.#connect();
    this.#wake();
  }

  #lose(error: ClientError): void {
    this.#detach();
    if (!this.#back.checkpoint || ++this.#reopens > MOST_REOPENS) this.stop(error);
    else void this.#connect();
  }

  #detach(): void {
    const link = this.#link;
    this.#link = undefined;
    link?.release();
  }

  /** Asks for the state where the server drains, to go on elsewhere. */
  #leave(link: SessionLink): void {
    if (link.takesMore && this.#isCounted) link.suspend();
  }

  /** Makes a checkpoint where one is due. */
  #copyState(link: SessionLink): void {
    const at = link.sent;
    if (!this.#isCounted || !this.#back.isDue(at) || link.connection.isDraining) return;
    this.#back.began(at);
    link.copyState((state) => {
      if (at > (this.#back.checkpoint?.at ?? -1)) this.#back.keep({ at, state });
    });
  }

  #finish(end: SessionEnd): void {
    this.#end = end;
    this.#detach();
    this.#isAsleep = false;
    this.#bound.release();
    this.#outputs.end(errorIn(end));
    this.#markers.settle(errorIn(end));
    this.#settle(end);
    this.#wake();
  }
}

function errorIn(end: SessionEnd): ClientError | undefined {
  return "error" in end ? end.error : undefined;
}
