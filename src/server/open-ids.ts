import { Fault } from "../core/faults.ts";
import type { ModelInfo, SessionHandle } from "../runtime/types.ts";
import type { Caller } from "./access/caller.ts";
import type { Outbox } from "./outbox.ts";
import type { Shared } from "./shared.ts";
import { Stream } from "./stream.ts";

/** The ids that are open on one socket, each with its stream. */
export class OpenIds {
  readonly #shared: Shared;
  readonly #caller: Caller;
  readonly #outbox: Outbox;
  readonly #streams = new Map<string, Stream>();
  #closing = false;

  constructor(shared: Shared, caller: Caller, outbox: Outbox) {
    this.#shared = shared;
    this.#caller = caller;
    this.#outbox = outbox;
  }

  get size(): number {
    return this.#streams.size;
  }

  get(id: string): Stream | undefined {
    return this.#streams.get(id);
  }

  each(act: (stream: Stream) => void): void {
    for (const stream of this.#streams.values()) act(stream);
  }

  /** Refuses new ids from here on. */
  stopAdmitting(): void {
    this.#closing = true;
  }

  /** Throws INVALID_REQUEST where an id is taken, OVERLOADED where there are too many, SHUTTING_DOWN where none is admitted. */
  claim(id: string): void {
    if (this.#closing)
      throw new Fault("SHUTTING_DOWN", "the server is shutting down and takes no more requests");
    if (this.#streams.has(id)) throw new Fault("INVALID_REQUEST", `id '${id}' is in use on this connection`);
    const { openIds } = this.#shared.limits;
    if (this.#streams.size < openIds) return;
    throw new Fault("OVERLOADED", `${openIds} ids are open on this connection, which is the most`);
  }

  /** A stream for an id that was claimed; it is open once it is added. */
  stream(id: string, model: ModelInfo, priority: number | undefined): Stream {
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

  add(stream: Stream): void {
    this.#streams.set(stream.id, stream);
    if (this.#outbox.isPaused) stream.handle.pause();
  }

  addSession(stream: Stream, session: SessionHandle): void {
    stream.session = session;
    stream.handle = session;
    this.#shared.sessions.add(stream);
    this.add(stream);
  }
}
