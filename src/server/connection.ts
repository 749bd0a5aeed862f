import { Fault } from "../core/faults.ts";
import type { ModelInfo, SessionHandle, Values } from "../runtime/types.ts";
import type { Caller } from "./access/caller.ts";
import type { Evictions } from "./evictions.ts";
import { type BinaryFrame, parseFrame } from "./frames.ts";
import { LastPush } from "./last-push.ts";
import {
  type ClientInputs,
  type ClientMessage,
  type ClientParameters,
  checkMessage,
  idOf,
} from "./messages.ts";
import { modelOf } from "./oip/metadata.ts";
import type { DoorOptions, Doorway } from "./oip/statistics.ts";
import type { OpenSessions } from "./open-sessions.ts";
import type { Outbox } from "./outbox.ts";
import type { EvictionReason } from "./protocol.ts";
import { type Attachment, Resumable, type ResumableSettings } from "./resumable.ts";
import type { Resumables } from "./resumables.ts";
import { errorOf, Stream } from "./stream.ts";
import { readValues } from "./tensors.ts";

export interface ConnectionLimits {
  /** Requests and sessions that one socket may have open. @default 1024 */
  readonly openIds: number;
  /** Inputs of one session that may wait. @default 256 */
  readonly inputs: number;
  /** Longest silence of a session before it is evicted, in milliseconds. @default 60 000 */
  readonly idleMs: number;
}

/** What the connections of a server share. */
export interface Shared {
  readonly doorway: Doorway;
  readonly limits: ConnectionLimits;
  readonly sessions: OpenSessions;
  readonly resumables: Resumables;
  readonly evictions: Evictions;
  /** Hears of errors that are no faults. */
  readonly unexpected: (error: unknown) => void;
}

type StreamMessage = Exclude<ClientMessage, { type: "infer" | "open" | "resume" }>;

/** Serves the requests and sessions of one socket. */
export class Connection {
  readonly #shared: Shared;
  readonly #caller: Caller;
  readonly #doorway: Doorway;
  readonly #outbox: Outbox;
  readonly #streams = new Map<string, Stream>();
  readonly #lastPush = new LastPush();
  #closing = false;
  #left = false;

  constructor(shared: Shared, caller: Caller, outbox: (pace: { pause(): void; resume(): void }) => Outbox) {
    this.#shared = shared;
    this.#caller = caller;
    this.#doorway = caller.guard(shared.doorway);
    this.#outbox = outbox({
      pause: () => this.#each((stream) => stream.handle.pause()),
      resume: () => this.#each((stream) => stream.handle.resume()),
    });
  }

  get size(): number {
    return this.#streams.size;
  }

  /** Obeys one frame. */
  hear(data: Buffer, isBinary: boolean): void {
    if (this.#left) return;
    let json: unknown;
    let id: string | undefined;
    try {
      const repeated = isBinary ? this.#lastPush.repeated(data) : undefined;
      if (repeated) {
        json = repeated.message;
        id = repeated.message.id;
        this.#tell(repeated.message, repeated.binary);
        return;
      }
      const frame = parseFrame(data, isBinary);
      json = frame.json;
      id = idOf(json);
      const message = checkMessage(json);
      if (message.type === "push" && frame.binary) this.#lastPush.keep(data, message, frame.binary);
      this.#obey(message, frame.binary);
    } catch (error) {
      const stream = id === undefined ? undefined : this.#streams.get(id);
      const type = (json as { type?: unknown } | undefined)?.type;
      // A bad push ends its session; a bad infer, open, resume or fork must not end the stream whose id it wanted.
      if (stream && !["infer", "open", "resume", "fork"].includes(type as string) && stream.end())
        stream.handle.cancel();
      this.#refuse(error, type === "fork" ? idOf({ id: (json as { as?: unknown }).as }) : id);
    }
  }

  /** The client is gone, whatever way it went: its requests are cancelled, its sessions too or kept for it to come back. */
  leave(): void {
    if (this.#left) return;
    this.#left = true;
    this.#outbox.close();
    this.#each((stream) => {
      if (!stream.end()) return;
      if (stream.session instanceof Resumable) stream.session.detach();
      else stream.handle.cancel();
    });
  }

  /** Tells the client to finish; new requests are refused from here on. */
  goAway(): void {
    this.#closing = true;
    this.#outbox.send({ type: "goaway" });
  }

  /** Ends all sessions, handing back their states. */
  evictSessions(reason: EvictionReason): void {
    this.#each((stream) => stream.session && stream.evict(reason));
  }

  /** Ends what is still open with SHUTTING_DOWN: there is no more time. */
  abandon(): void {
    const fault = new Fault("SHUTTING_DOWN", "the server shut down before the request was done");
    this.#each((stream) => {
      if (!stream.end()) return;
      stream.handle.cancel();
      this.#refuse(fault, stream.id);
    });
  }

  /** Ends the sessions that have not been heard of since `beforeMs` on the monotonic clock. */
  evictIdle(beforeMs: number): void {
    this.#each((stream) => stream.session && stream.heardMs < beforeMs && stream.evict("idle"));
  }

  #each(act: (stream: Stream) => void): void {
    for (const stream of this.#streams.values()) act(stream);
  }

  #obey(message: ClientMessage, binary: BinaryFrame | undefined): void {
    if (message.type === "infer") this.#infer(message, binary);
    else if (message.type === "open") this.#open(message, binary);
    else if (message.type === "resume") this.#resume(message, binary);
    else this.#tell(message, binary);
  }

  /** Obeys a message about an open id. */
  #tell(message: StreamMessage, binary: BinaryFrame | undefined): void {
    const { id } = message;
    const stream = this.#streams.get(id);
    if (!stream) throw new Fault("SESSION_NOT_FOUND", `nothing is open under id '${id}'`);
    stream.heardMs = performance.now();
    if (binary) stream.isBinary = true;
    if (message.type === "cancel") {
      stream.handle.cancel();
      return;
    }
    const { session } = stream;
    if (!session)
      throw new Fault("INVALID_REQUEST", `id '${id}' is a request, '${message.type}' needs a session`);
    if (message.type === "push") push(stream, session, readInputs(stream.model, message.inputs, binary));
    else if (message.type === "end") session.end();
    else if (message.type === "marker") session.marker(message.marker);
    else if (message.type === "suspend") session.suspend();
    else if (message.type === "fork") this.#fork(stream, session, message.as);
  }

  #infer(message: ClientMessage & { type: "infer" }, binary: BinaryFrame | undefined): void {
    const { id, model: name, version, inputs, parameters } = message;
    this.#claim(id);
    const model = modelOf(this.#doorway, name, version);
    const stream = this.#stream(id, model, parameters?.priority);
    stream.isBinary = binary !== undefined;
    const values = readInputs(model, inputs, binary);
    const listener = stream.listener(parameters?.stream !== false);
    stream.handle = this.#doorway.submit(name, values, optionsOf(message), listener);
    this.#add(stream);
  }

  #open(message: ClientMessage & { type: "open" }, binary: BinaryFrame | undefined): void {
    const { id, model: name, version, parameters, state, grace_ms } = message;
    this.#claim(id);
    const doorway = this.#doorway;
    const owner = this.#caller.name;
    const { sessions, resumables, limits } = this.#shared;
    const stream = this.#stream(id, modelOf(doorway, name, version), parameters?.priority);
    const { priority } = stream;
    stream.isBinary = binary !== undefined;
    const open = openerOf(doorway, name, optionsOf(message));
    const giveWay = sessions.makeRoom(priority);
    if (grace_ms) {
      const settings = { model: name, priority, keep: limits.inputs, open, owner, graceMs: grace_ms };
      const attachment = this.#attachment(stream);
      const { token, resumable } = resumables.open(settings, attachment, state);
      stream.token = token;
      this.#addSession(stream, resumable);
      attachment.opened(resumable);
    } else {
      this.#addSession(stream, open(state, stream.listener(true)));
      this.#welcome(stream);
    }
    giveWay();
  }

  #resume({ id, token, step }: ClientMessage & { type: "resume" }, binary: BinaryFrame | undefined): void {
    this.#claim(id);
    const { sessions, resumables } = this.#shared;
    const found = resumables.find(token, this.#caller.name);
    if (typeof found === "string") {
      this.#outbox.send({ type: "evicted", id, reason: found });
      return;
    }
    const stream = this.#stream(id, modelOf(this.#doorway, found.model), found.priority);
    stream.isBinary = binary !== undefined;
    stream.token = token;
    const giveWay = sessions.makeRoom(stream.priority);
    this.#addSession(stream, found);
    try {
      found.attach(this.#attachment(stream), step);
    } catch (error) {
      stream.end();
      throw error;
    }
    resumables.attached(token);
    giveWay();
  }

  #fork({ model, priority, isBinary }: Stream, session: SessionHandle, as: string): void {
    this.#claim(as);
    const giveWay = this.#shared.sessions.makeRoom(priority);
    const child = this.#stream(as, model, priority);
    child.isBinary = isBinary;
    this.#addSession(child, session.fork(child.listener(true)));
    this.#welcome(child);
    giveWay();
  }

  #attachment(stream: Stream): Attachment {
    return {
      listener: stream.listener(true),
      replaced: () => stream.replace(),
      opened: (resumable) => this.#welcome(stream, resumable),
    };
  }

  #welcome(stream: Stream, resumable?: Resumable): void {
    const { idleMs, inputs } = this.#shared.limits;
    if (resumable) stream.credit = inputs - (resumable.received - resumable.processed);
    this.#outbox.send({
      type: "opened",
      id: stream.id,
      limits: {
        idle_ms: idleMs,
        inputs: stream.credit,
        ...(resumable ? { grace_ms: resumable.graceMs } : {}),
      },
      ...(resumable
        ? {
            resume: {
              token: stream.token!,
              received: resumable.received,
              step: resumable.processed,
            },
          }
        : {}),
    });
  }

  /** Throws INVALID_REQUEST where an id is taken, and OVERLOADED where there are too many. */
  #claim(id: string): void {
    if (this.#closing)
      throw new Fault("SHUTTING_DOWN", "the server is shutting down and takes no more requests");
    if (this.#streams.has(id)) throw new Fault("INVALID_REQUEST", `id '${id}' is in use on this connection`);
    const { openIds } = this.#shared.limits;
    if (this.#streams.size < openIds) return;
    throw new Fault("OVERLOADED", `${openIds} ids are open on this connection, which is the most`);
  }

  #stream(id: string, model: ModelInfo, priority: number | undefined): Stream {
    const { sessions, evictions, limits } = this.#shared;
    return new Stream({
      id,
      model,
      priority: this.#caller.classOf(priority),
      outbox: this.#outbox,
      inputs: limits.inputs,
      evictions,
      ended: (stream) => {
        this.#streams.delete(id);
        sessions.delete(stream);
      },
    });
  }

  #addSession(stream: Stream, session: SessionHandle): void {
    stream.session = session;
    stream.handle = session;
    this.#shared.sessions.add(stream);
    this.#add(stream);
  }

  #add(stream: Stream): void {
    this.#streams.set(stream.id, stream);
    if (this.#outbox.isPaused) stream.handle.pause();
  }

  #refuse(error: unknown, id: string | undefined): void {
    if (!(error instanceof Fault)) this.#shared.unexpected(error);
    this.#outbox.send(errorOf(error instanceof Fault ? error : new Fault("INTERNAL", "internal error"), id));
  }
}

/** Opens a session, or opens it again from its state with what is left of its time limit. */
function openerOf(doorway: Doorway, model: string, options: DoorOptions): ResumableSettings["open"] {
  const startMs = performance.now();
  return (state, listener) => {
    const { timeoutMs } = options;
    // A time limit that has passed is refused by the engine.
    const left = timeoutMs && Math.max(Number.MIN_VALUE, timeoutMs - (performance.now() - startMs));
    const rest = left === undefined ? options : { ...options, timeoutMs: left };
    return doorway.open(model, state === undefined ? options : { ...rest, state }, listener);
  };
}

/** Throws OVERLOADED where a session ignores its credit: it ends, so that the input needs no place to wait. */
function push(stream: Stream, session: SessionHandle, inputs: Values): void {
  const steps = session.push(inputs);
  const { id, credit } = stream;
  if (steps > credit) {
    throw new Fault("OVERLOADED", `session '${id}' pushed ${steps} inputs with a credit of ${credit}`);
  }
  stream.credit -= steps;
}

function readInputs(model: ModelInfo, inputs: ClientInputs, binary: BinaryFrame | undefined): Values {
  const values = readValues(model, inputs, binary);
  if (binary && binary.left > 0) {
    throw new Fault("INVALID_REQUEST", `${binary.left} bytes of the frame belong to no tensor`);
  }
  return values;
}

function optionsOf(message: {
  readonly version?: string | undefined;
  readonly parameters?: ClientParameters | undefined;
}): DoorOptions {
  const { version, parameters = {} } = message;
  const { priority, timeout_ms, max_steps, temperature, top_k, top_p, seed, beam_width } = parameters;
  const { traceparent } = parameters;
  return {
    ...(version === undefined ? {} : { version }),
    ...(traceparent === undefined ? {} : { traceparent }),
    ...(priority ? { priority } : {}),
    ...(timeout_ms === undefined ? {} : { timeoutMs: timeout_ms }),
    ...(max_steps === undefined ? {} : { maxSteps: max_steps }),
    ...(temperature === undefined ? {} : { temperature }),
    ...(top_k === undefined ? {} : { topK: top_k }),
    ...(top_p === undefined ? {} : { topP: top_p }),
    ...(seed === undefined ? {} : { seed }),
    ...(beam_width === undefined ? {} : { beamWidth: beam_width }),
  };
}
