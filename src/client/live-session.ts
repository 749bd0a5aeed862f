import { backOffMs } from "./backoff.ts";
import type { Connection } from "./connection.ts";
import type { Connector } from "./connector.ts";
import { ClientError, cancelled } from "./errors.ts";
import type { Heard } from "./frames.ts";
import { InputLog } from "./input-log.ts";
import { wireParameters } from "./parameters.ts";
import { errorOf, type Result, resultOf } from "./request.ts";
import type { PushOptions, Session, SessionOptions, WaitOptions } from "./session.ts";
import { type StepOutput, StepQueue } from "./steps.ts";
import { copySteps, sliceSteps, type Values, writeValues } from "./values.ts";
import { type Limit, limit, orAborted, pause } from "./waiting.ts";

/** Outputs that may wait for their reader before pushes do. */
const MOST_UNREAD = 1024;
const PUSH_TIMEOUT_MS = 30_000;
const CHECKPOINT_INPUTS = 128;
/** The log is given up, and with it the way back, when it grows to this many times what lies between two checkpoints. */
const LOG_CHECKPOINTS = 16;
/** Times in a row that a session is opened again without one more output. */
const MOST_REOPENS = 6;

/** The session on one connection. Positions count inputs over the whole session; every input gives one output. */
interface Link {
  readonly connection: Connection;
  readonly id: string;
  isOpen: boolean;
  /** Inputs that were sent, and outputs that came, up to these positions. */
  sent: number;
  received: number;
  credit: number;
  /** The last marker that was sent here, and whether the last word was. */
  marker: number;
  isSuspending: boolean;
  isEnding: boolean;
}

/** A state to go on from, and the position that it belongs to. */
interface Checkpoint {
  readonly at: number;
  /** Undefined for that of a new session. */
  readonly state: string | undefined;
}

/** What a session begins with. */
interface Beginning {
  readonly log: InputLog;
  readonly checkpoint: Checkpoint | undefined;
}

type End = { readonly result: Result } | { readonly state: string } | { readonly error: ClientError };

/** A session that outlives its connections: it goes on from its last checkpoint, or from the state it was evicted with. */
export class LiveSession implements Session {
  readonly #connector: Connector;
  readonly #model: string;
  readonly #options: SessionOptions;
  readonly #bound: Limit;
  readonly #log: InputLog;
  /** Absent where there is no way back. */
  #checkpoint: Checkpoint | undefined;
  #nextCheckpointAt: number;
  /** Absent while it waits for a connection, and while it sleeps: evicted for its silence, until there is more to do. */
  #link: Link | undefined;
  #isAsleep = false;
  readonly #queue = new StepQueue();
  /** Outputs before this position were given to the reader, here or to the session this was forked from. */
  #delivered: number;
  readonly #first: number;
  /** Whether pushes are tensors; how many steps a text is, only the server knows. */
  #isCounted = true;
  #reopens = 0;
  #turn: Promise<void> = Promise.resolve();
  #lastMarker = 0;
  readonly #markers = new Map<number, (error?: ClientError) => void>();
  #wantsEnd = false;
  #wantsSuspend = false;
  #end: End | undefined;
  readonly #ended: Promise<End>;
  #settle: (end: End) => void = () => {};
  readonly #wakes = new Set<() => void>();

  private constructor(
    connector: Connector,
    model: string,
    options: SessionOptions,
    { log, checkpoint }: Beginning,
  ) {
    this.#connector = connector;
    this.#model = model;
    this.#options = options;
    this.#log = log;
    this.#checkpoint = checkpoint;
    this.#first = log.end;
    this.#delivered = log.end;
    this.#nextCheckpointAt = log.end + this.#every;
    this.#ended = new Promise((resolve) => {
      this.#settle = resolve;
    });
    this.#bound = limit(`the session of model '${model}'`, options.signal, options.timeoutMs);
    const abort = () => this.#stop(cancelled(this.#bound.signal));
    if (this.#bound.signal.aborted) abort();
    else this.#bound.signal.addEventListener("abort", abort, { once: true });
  }

  static open(connector: Connector, model: string, options: SessionOptions): LiveSession {
    const checkpoint = { at: 0, state: options.state };
    const session = new LiveSession(connector, model, options, { log: new InputLog(0), checkpoint });
    void session.#connect();
    return session;
  }

  push(inputs: Values, options: PushOptions = {}): Promise<void> {
    const { steps, signal, timeoutMs = PUSH_TIMEOUT_MS } = options;
    const what = "waiting for room for an input (is somebody reading the outputs?)";
    const bound = limit(what, signal, timeoutMs);
    const pushed = this.#turn.then(async () => {
      checkPush(inputs, steps);
      await this.#push(copySteps(inputs, steps === undefined), steps ?? 1, bound.signal);
    });
    this.#turn = pushed.catch(() => {});
    return orAborted(pushed, bound.signal).finally(() => bound.release());
  }

  async end({ signal }: WaitOptions = {}): Promise<Result> {
    await this.#ask(signal, () => {
      this.#wantsEnd = true;
    });
    const end = await this.#orAborted(this.#ended, signal);
    if ("result" in end) return end.result;
    throw "error" in end ? end.error : gone("was suspended");
  }

  async flush({ signal }: WaitOptions = {}): Promise<void> {
    const marker = ++this.#lastMarker;
    const reached = new Promise<void>((resolve, reject) => {
      this.#markers.set(marker, (error) => (error ? reject(error) : resolve()));
    });
    reached.catch(() => {});
    if (this.#end) this.#settleMarkers(this.#end);
    await this.#ask(signal, () => {});
    await this.#orAborted(reached, signal);
  }

  async suspend({ signal }: WaitOptions = {}): Promise<string> {
    await this.#ask(signal, () => {
      this.#wantsSuspend = true;
    });
    const end = await this.#orAborted(this.#ended, signal);
    if ("state" in end) return end.state;
    throw "error" in end ? end.error : gone("has ended");
  }

  fork(): Session {
    if (this.#end) throw gone("has ended");
    const link = this.#link;
    const isHere =
      link?.isOpen && link.sent === this.#log.end && !link.isSuspending && !link.connection.isDraining;
    if (!isHere && !this.#checkpoint)
      throw gone("is between two connections and has no checkpoint to fork from");
    const { signal: _, state: __, ...options } = this.#options;
    const beginning = { log: this.#log.copy(), checkpoint: this.#checkpoint };
    const child = new LiveSession(this.#connector, this.#model, options, beginning);
    child.#isCounted = this.#isCounted;
    if (isHere) {
      const { id } = child.#attach(link.connection, this.#log.end);
      link.connection.send({ type: "fork", id: link.id, as: id });
    } else void child.#connect();
    return child;
  }

  cancel(): void {
    this.#stop(new ClientError("CANCELLED", "the session was cancelled"));
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<StepOutput> {
    try {
      for (let step = await this.#queue.next(); step; step = await this.#queue.next()) {
        this.#wake();
        yield step;
      }
    } finally {
      this.cancel();
    }
  }

  get #every(): number {
    return this.#options.checkpointInputs ?? CHECKPOINT_INPUTS;
  }

  /** Waits for the pushes before, then puts down what is wanted and sees to it. */
  async #ask(signal: AbortSignal | undefined, want: () => void): Promise<void> {
    await this.#orAborted(this.#turn, signal);
    want();
    this.#pump();
  }

  #orAborted<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
    return signal ? orAborted(promise, signal) : promise;
  }

  async #push(inputs: Values, steps: number, signal: AbortSignal): Promise<void> {
    writeValues(inputs, []);
    for (let from = 0; from < steps; ) {
      const taken = Math.min(await this.#room(signal), steps - from);
      if (Object.values(inputs).some((value) => typeof value === "string")) {
        this.#isCounted = false;
        this.#checkpoint = undefined;
      }
      if (this.#log.end - this.#log.start >= Math.max(1, this.#every) * LOG_CHECKPOINTS) this.#forget();
      this.#log.append(taken === steps ? inputs : sliceSteps(inputs, from, taken), taken);
      from += taken;
      this.#pump();
    }
  }

  /** How many inputs may be sent now, once that is more than none. */
  async #room(signal: AbortSignal): Promise<number> {
    for (;;) {
      if (this.#end) throw "error" in this.#end ? this.#end.error : gone("has ended");
      if (signal.aborted) throw signal.reason;
      const link = this.#link;
      const isFree = link?.isOpen && !link.isSuspending && link.sent === this.#log.end;
      if (isFree && link.credit > 0 && this.#queue.size < MOST_UNREAD) return link.credit;
      if (this.#isAsleep) void this.#connect();
      await orAborted(new Promise<void>((resolve) => this.#wakes.add(resolve)), signal);
    }
  }

  #wake(): void {
    for (const wake of this.#wakes) wake();
    this.#wakes.clear();
  }

  /** Gets a connection and opens the session on it, from its checkpoint. */
  async #connect(): Promise<void> {
    this.#isAsleep = false;
    try {
      if (this.#reopens > 1) await pause(backOffMs(this.#reopens, Math.random()), this.#bound.signal);
      const connection = await this.#connector.next(this.#bound.signal);
      if (this.#end) return;
      const { at, state } = this.#checkpoint!;
      const { id } = this.#attach(connection, at);
      const parameters = wireParameters(this.#options, this.#bound.leftMs());
      const from = state === undefined ? {} : { state };
      connection.send({ type: "open", id, model: this.#model, parameters, ...from }, true);
    } catch (error) {
      this.#stop(error as ClientError);
    }
  }

  #attach(connection: Connection, at: number): Link {
    const id = connection.claim({
      heard: (message) => this.#link === link && this.#hear(link, message),
      lost: (error) => this.#link === link && this.#lose(error),
      draining: () => this.#link === link && this.#leave(link),
    });
    const progress = { sent: at, received: at, credit: 0, marker: 0 };
    const link: Link = { connection, id, isOpen: false, isSuspending: false, isEnding: false, ...progress };
    this.#link = link;
    return link;
  }

  #hear(link: Link, message: Heard): void {
    if (message.type === "opened") {
      link.isOpen = true;
      // A quiet session may lose any number of connections.
      if (link.received === this.#log.end) this.#reopens = 0;
      link.credit = message.limits.inputs;
      this.#pump();
      if (link.connection.isDraining) this.#leave(link);
    } else if (message.type === "credit") {
      link.credit += message.inputs;
      this.#pump();
    } else if (message.type === "output") this.#deliver(link, message.outputs);
    else if (message.type === "marker") {
      this.#markers.get(message.marker)?.();
      this.#markers.delete(message.marker);
    } else if (message.type === "done") this.#finish({ result: resultOf(message) });
    else if (message.type === "state") this.#takeState(link, message.state);
    else if (message.type === "evicted") {
      const error = gone(`was ended by the server: ${message.reason}`);
      if (message.state === undefined || message.reason === "replaced") this.#stop(error);
      else this.#takeState(link, message.state, message.reason);
    } else if (message.type === "error") {
      const error = errorOf(message);
      const isAgain = error.isRetryable && (this.#reopens > 0 || this.#log.end > this.#first);
      if (error.code === "SHUTTING_DOWN") link.connection.drain();
      if (this.#link !== link) return;
      if (error.code === "SHUTTING_DOWN" || isAgain) this.#lose(error);
      else this.#stop(error);
    }
  }

  #deliver(link: Link, outputs: Values): void {
    const position = link.received++;
    const isNews = !this.#isCounted || position >= this.#delivered;
    if (isNews) {
      this.#delivered = position + 1;
      this.#queue.push({ step: position - this.#first, outputs });
    }
    if (isNews || link.received === this.#log.end) this.#reopens = 0;
    if (this.#every === 0) this.#forget();
  }

  /** Forgets what was answered, and with it the way back to the last checkpoint. */
  #forget(): void {
    this.#log.dropBefore(this.#link?.received ?? 0);
    this.#checkpoint = undefined;
  }

  /** The session is over there; its state is that after all outputs which came. */
  #takeState(link: Link, state: string, reason?: string): void {
    const isWhole = this.#isCounted ? link.received === this.#log.end : link.isSuspending;
    if (this.#wantsSuspend && isWhole) {
      this.#finish({ state });
      return;
    }
    if (!this.#isCounted) {
      this.#stop(gone("was ended by the server, and how far its text had been read cannot be known"));
      return;
    }
    this.#keep({ at: link.received, state });
    this.#detach();
    const isQuiet = isWhole && !this.#wantsEnd && this.#markers.size === 0;
    if (reason === "idle" && isQuiet) this.#isAsleep = true;
    else void this.#connect();
    this.#wake();
  }

  #keep(checkpoint: Checkpoint): void {
    this.#checkpoint = checkpoint;
    this.#log.dropBefore(checkpoint.at);
    this.#nextCheckpointAt = checkpoint.at + this.#every;
  }

  #lose(error: ClientError): void {
    this.#detach();
    if (!this.#checkpoint || ++this.#reopens > MOST_REOPENS) this.#stop(error);
    else void this.#connect();
  }

  #detach(): void {
    const link = this.#link;
    this.#link = undefined;
    link?.connection.release(link.id);
  }

  /** Asks for the state where the server drains, to go on elsewhere. */
  #leave(link: Link): void {
    if (!link.isOpen || link.isSuspending || link.isEnding || !this.#isCounted) return;
    link.isSuspending = true;
    link.connection.send({ type: "suspend", id: link.id });
  }

  /** Sends what can be sent: inputs, then what was asked for after them. */
  #pump(): void {
    if (this.#isAsleep) void this.#connect();
    const link = this.#link;
    if (!link?.isOpen || link.isSuspending || link.isEnding) return;
    const { connection, id } = link;
    while (link.credit > 0) {
      const next = this.#log.from(link.sent, link.credit);
      if (!next) break;
      connection.send({ type: "push", id, inputs: next.inputs }, true);
      link.sent += next.steps;
      link.credit -= next.steps;
    }
    this.#wake();
    if (link.sent < this.#log.end) return;
    if (!this.#isCounted) this.#log.dropBefore(link.sent);
    for (const marker of this.#markers.keys()) {
      if (marker <= link.marker) continue;
      connection.send({ type: "marker", id, marker });
      link.marker = marker;
    }
    if (this.#wantsSuspend) {
      link.isSuspending = true;
      connection.send({ type: "suspend", id });
    } else if (this.#wantsEnd) {
      link.isEnding = true;
      connection.send({ type: "end", id });
    } else this.#copyState(link);
  }

  /** Gets a copy of the state where one is due: a fork that is suspended at once. */
  #copyState({ connection, id, sent: at }: Link): void {
    if (this.#every === 0 || !this.#isCounted || at < this.#nextCheckpointAt || connection.isDraining) return;
    this.#nextCheckpointAt = at + this.#every;
    const copy = connection.claim({
      heard: (message) => {
        if (message.type !== "state" && message.type !== "error" && message.type !== "evicted") return;
        connection.release(copy);
        const state = message.type === "error" ? undefined : message.state;
        if (state !== undefined && at > (this.#checkpoint?.at ?? -1)) this.#keep({ at, state });
      },
      lost: () => {},
    });
    connection.send({ type: "fork", id, as: copy });
    connection.send({ type: "suspend", id: copy });
  }

  #stop(error: ClientError): void {
    if (this.#end) return;
    const link = this.#link;
    link?.connection.send({ type: "cancel", id: link.id });
    this.#finish({ error });
  }

  #finish(end: End): void {
    this.#end = end;
    this.#detach();
    this.#isAsleep = false;
    this.#bound.release();
    this.#queue.end("error" in end ? end.error : undefined);
    this.#settleMarkers(end);
    this.#settle(end);
    this.#wake();
  }

  #settleMarkers(end: End): void {
    for (const reached of this.#markers.values()) reached("error" in end ? end.error : undefined);
    this.#markers.clear();
  }
}

/** Throws INVALID_INPUT where `steps` and the inputs do not agree. */
function checkPush(inputs: Values, steps: number | undefined): void {
  if (steps === undefined) return;
  if (!Number.isInteger(steps) || steps < 1) {
    throw new ClientError("INVALID_INPUT", `'steps' is ${steps}, it must be an integer of 1 or more`);
  }
  for (const [name, value] of Object.entries(inputs)) {
    if (typeof value === "string") {
      throw new ClientError(
        "INVALID_INPUT",
        `input '${name}' is text, which cannot be pushed as ${steps} steps`,
      );
    }
    if (value.shape[0] !== steps) {
      const message = `input '${name}' of shape [${value.shape.join(", ")}] has no leading axis of ${steps} steps`;
      throw new ClientError("INVALID_INPUT", message);
    }
  }
}

function gone(how: string): ClientError {
  return new ClientError("SESSION_NOT_FOUND", `the session ${how}`);
}
