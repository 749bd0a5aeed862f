import { Fault } from "../core/faults.ts";
import type { ModelInfo, SessionHandle, Values } from "../runtime/types.ts";
import type { Caller } from "./access/caller.ts";
import { optionsOf } from "./door-options.ts";
import { type BinaryFrame, parseFrame } from "./frames.ts";
import { LastPush } from "./last-push.ts";
import { type ClientInputs, type ClientMessage, checkMessage, idOf } from "./messages.ts";
import { modelOf } from "./oip/metadata.ts";
import type { Doorway } from "./oip/statistics.ts";
import { OpenIds } from "./open-ids.ts";
import type { Outbox } from "./outbox.ts";
import type { EvictionReason } from "./protocol.ts";
import { Resumable } from "./resumable.ts";
import { SessionOpenings } from "./session-openings.ts";
import type { Shared } from "./shared.ts";
import { errorOf, type Stream } from "./stream.ts";
import { readValues } from "./tensors.ts";

type StreamMessage = Exclude<ClientMessage, { type: "infer" | "open" | "resume" }>;

/** Serves the requests and sessions of one socket. */
export class Connection {
  readonly #unexpected: Shared["unexpected"];
  readonly #doorway: Doorway;
  readonly #outbox: Outbox;
  readonly #ids: OpenIds;
  readonly #sessions: SessionOpenings;
  readonly #lastPush = new LastPush();
  #left = false;

  constructor(shared: Shared, caller: Caller, outbox: (pace: { pause(): void; resume(): void }) => Outbox) {
    this.#unexpected = shared.unexpected;
    this.#doorway = caller.guard(shared.doorway);
    this.#outbox = outbox({
      pause: () => this.#ids.each((stream) => stream.handle.pause()),
      resume: () => this.#ids.each((stream) => stream.handle.resume()),
    });
    this.#ids = new OpenIds(shared, caller, this.#outbox);
    this.#sessions = new SessionOpenings({
      shared,
      caller,
      doorway: this.#doorway,
      outbox: this.#outbox,
      ids: this.#ids,
    });
  }

  get size(): number {
    return this.#ids.size;
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
      const stream = id === undefined ? undefined : this.#ids.get(id);
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
    this.#ids.each((stream) => {
      if (!stream.end()) return;
      if (stream.session instanceof Resumable) stream.session.detach();
      else stream.handle.cancel();
    });
  }

  /** Tells the client to finish; new requests are refused from here on. */
  goAway(): void {
    this.#ids.stopAdmitting();
    this.#outbox.send({ type: "goaway" });
  }

  /** Ends all sessions, handing back their states. */
  evictSessions(reason: EvictionReason): void {
    this.#ids.each((stream) => stream.session && stream.evict(reason));
  }

  /** Ends what is still open with SHUTTING_DOWN: there is no more time. */
  abandon(): void {
    const fault = new Fault("SHUTTING_DOWN", "the server shut down before the request was done");
    this.#ids.each((stream) => {
      if (!stream.end()) return;
      stream.handle.cancel();
      this.#refuse(fault, stream.id);
    });
  }

  /** Ends the sessions that have not been heard of since `beforeMs` on the monotonic clock. */
  evictIdle(beforeMs: number): void {
    this.#ids.each((stream) => stream.session && stream.heardMs < beforeMs && stream.evict("idle"));
  }

  #obey(message: ClientMessage, binary: BinaryFrame | undefined): void {
    if (message.type === "infer") this.#infer(message, binary);
    else if (message.type === "open") this.#sessions.open(message, binary);
    else if (message.type === "resume") this.#sessions.resume(message, binary);
    else this.#tell(message, binary);
  }

  /** Obeys a message about an open id. */
  #tell(message: StreamMessage, binary: BinaryFrame | undefined): void {
    const { id } = message;
    const stream = this.#ids.get(id);
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
    else if (message.type === "fork") this.#sessions.fork(stream, session, message.as);
  }

  #infer(message: ClientMessage & { type: "infer" }, binary: BinaryFrame | undefined): void {
    const { id, model: name, version, inputs, parameters } = message;
    this.#ids.claim(id);
    const model = modelOf(this.#doorway, name, version);
    const stream = this.#ids.stream(id, model, parameters?.priority);
    stream.isBinary = binary !== undefined;
    const values = readInputs(model, inputs, binary);
    const listener = stream.listener(parameters?.stream !== false);
    stream.handle = this.#doorway.submit(name, values, optionsOf(message), listener);
    this.#ids.add(stream);
  }

  #refuse(error: unknown, id: string | undefined): void {
    if (!(error instanceof Fault)) this.#unexpected(error);
    this.#outbox.send(errorOf(error instanceof Fault ? error : new Fault("INTERNAL", "internal error"), id));
  }
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
