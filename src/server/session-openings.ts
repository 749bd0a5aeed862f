import type { SessionHandle } from "../runtime/types.ts";
import type { Caller } from "./access/caller.ts";
import { optionsOf } from "./door-options.ts";
import type { BinaryFrame } from "./frames.ts";
import type { ClientMessage } from "./messages.ts";
import { modelOf } from "./oip/metadata.ts";
import type { DoorOptions, Doorway } from "./oip/statistics.ts";
import type { OpenIds } from "./open-ids.ts";
import type { Outbox } from "./outbox.ts";
import type { Attachment, Resumable, ResumableSettings } from "./resumable.ts";
import type { Shared } from "./shared.ts";
import type { Stream } from "./stream.ts";

export interface SessionOpeningsSettings {
  readonly shared: Shared;
  readonly caller: Caller;
  /** The caller's own. */
  readonly doorway: Doorway;
  readonly outbox: Outbox;
  readonly ids: OpenIds;
}

/** The ways in which a session begins on a socket: it is new, or was left by another socket, or is a fork. */
export class SessionOpenings {
  readonly #shared: Shared;
  readonly #caller: Caller;
  readonly #doorway: Doorway;
  readonly #outbox: Outbox;
  readonly #ids: OpenIds;

  constructor({ shared, caller, doorway, outbox, ids }: SessionOpeningsSettings) {
    this.#shared = shared;
    this.#caller = caller;
    this.#doorway = doorway;
    this.#outbox = outbox;
    this.#ids = ids;
  }

  /** Opens a session; it is answered in binary frames where its message came in one. */
  open(message: ClientMessage & { type: "open" }, binary: BinaryFrame | undefined): void {
    const { id, model: name, version, parameters, state, grace_ms } = message;
    this.#ids.claim(id);
    const { sessions, resumables, limits } = this.#shared;
    const stream = this.#ids.stream(id, modelOf(this.#doorway, name, version), parameters?.priority);
    const { priority } = stream;
    stream.isBinary = binary !== undefined;
    const open = openerOf(this.#doorway, name, optionsOf(message));
    const giveWay = sessions.makeRoom(priority);
    if (grace_ms) {
      const settings = {
        model: name,
        priority,
        keep: limits.inputs,
        open,
        owner: this.#caller.name,
        graceMs: grace_ms,
      };
      const attachment = this.#attachment(stream);
      const { token, resumable } = resumables.open(settings, attachment, state);
      stream.token = token;
      this.#ids.addSession(stream, resumable);
      attachment.opened(resumable);
    } else {
      this.#ids.addSession(stream, open(state, stream.listener(true)));
      this.#welcome(stream);
    }
    giveWay();
  }

  /** Takes up a session whose socket is gone; one that was evicted meanwhile is told so. */
  resume({ id, token, step }: ClientMessage & { type: "resume" }, binary: BinaryFrame | undefined): void {
    this.#ids.claim(id);
    const { sessions, resumables } = this.#shared;
    const found = resumables.find(token, this.#caller.name);
    if (typeof found === "string") {
      this.#outbox.send({ type: "evicted", id, reason: found });
      return;
    }
    const stream = this.#ids.stream(id, modelOf(this.#doorway, found.model), found.priority);
    stream.isBinary = binary !== undefined;
    stream.token = token;
    const giveWay = sessions.makeRoom(stream.priority);
    this.#ids.addSession(stream, found);
    try {
      found.attach(this.#attachment(stream), step);
    } catch (error) {
      stream.end();
      throw error;
    }
    resumables.attached(token);
    giveWay();
  }

  /** Opens a copy of `session` under the id `as`. */
  fork({ model, priority, isBinary }: Stream, session: SessionHandle, as: string): void {
    this.#ids.claim(as);
    const giveWay = this.#shared.sessions.makeRoom(priority);
    const child = this.#ids.stream(as, model, priority);
    child.isBinary = isBinary;
    this.#ids.addSession(child, session.fork(child.listener(true)));
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
