import type { WebSocket } from "ws";
import { Fault, faults } from "../core/faults.ts";
import type { Handle, Listener, Runtime, SessionHandle, Values } from "../runtime/types.ts";
import { type BinaryFrame, parseFrame } from "./frames.ts";
import { type ClientMessage, type ClientParameters, checkMessage, idOf } from "./messages.ts";
import type { DoorOptions } from "./oip/statistics.ts";
import type { Outbox } from "./outbox.ts";
import type { EvictionReason } from "./protocol.ts";
import { readValues, writeValues } from "./tensors.ts";

export interface ConnectionLimits {
  /** Requests and sessions that one socket may have open. @default 1024 */
  readonly openIds: number;
  /** Inputs of one session that may wait. @default 256 */
  readonly inputs: number;
  /** Longest silence of a session before it is evicted, in milliseconds. @default 60 000 */
  readonly idleMs: number;
}

/** One open id of a socket. */
interface Stream {
  readonly id: string;
  readonly binary: boolean;
  handle: Handle;
  readonly session?: SessionHandle;
  /** Of a session: inputs that the client may still send, and those that wait to be given back as credit. */
  credit: number;
  consumed: number;
  heardMs: number;
  evicting?: EvictionReason;
}

/** Serves the requests and sessions of one socket. */
export class Connection {
  readonly #runtime: Pick<Runtime, "submit" | "open">;
  readonly #outbox: Outbox;
  readonly #limits: ConnectionLimits;
  readonly #streams = new Map<string, Stream>();
  #closing = false;

  constructor(
    ws: WebSocket,
    runtime: Pick<Runtime, "submit" | "open">,
    limits: ConnectionLimits,
    outbox: (pace: { pause(): void; resume(): void }) => Outbox,
  ) {
    this.#runtime = runtime;
    this.#limits = limits;
    this.#outbox = outbox({
      pause: () => this.#each((stream) => stream.handle.pause()),
      resume: () => this.#each((stream) => stream.handle.resume()),
    });
    ws.on("message", (data, isBinary) => this.#hear(data as Buffer, isBinary));
    ws.on("close", () => {
      this.#outbox.close();
      this.#each((stream) => stream.handle.cancel());
      this.#streams.clear();
    });
  }

  get size(): number {
    return this.#streams.size;
  }

  /** Tells the client to finish; new requests are refused from here on. */
  goAway(): void {
    this.#closing = true;
    this.#outbox.send({ type: "goaway" });
  }

  /** Ends all sessions, handing back their states. */
  evictSessions(reason: EvictionReason): void {
    this.#each((stream) => stream.session && this.#evict(stream, reason));
  }

  /** Ends what is still open with SHUTTING_DOWN: there is no more time. */
  abandon(): void {
    const fault = new Fault("SHUTTING_DOWN", "the server shut down before the request was done");
    this.#each((stream) => {
      this.#streams.delete(stream.id);
      stream.handle.cancel();
      this.#refuse(fault, stream.id);
    });
  }

  /** Ends the sessions that have not been heard of since `beforeMs` on the monotonic clock. */
  evictIdle(beforeMs: number): void {
    this.#each((stream) => stream.session && stream.heardMs < beforeMs && this.#evict(stream, "idle"));
  }

  #each(act: (stream: Stream) => void): void {
    for (const stream of this.#streams.values()) act(stream);
  }

  #evict(stream: Stream, reason: EvictionReason): void {
    if (stream.evicting) return;
    stream.evicting = reason;
    stream.session!.suspend();
  }

  #hear(data: Buffer, isBinary: boolean): void {
    let json: unknown;
    let id: string | undefined;
    try {
      const frame = parseFrame(data, isBinary);
      json = frame.json;
      id = idOf(json);
      this.#obey(checkMessage(json), frame.binary);
    } catch (error) {
      const stream = id === undefined ? undefined : this.#streams.get(id);
      const type = (json as { type?: unknown } | undefined)?.type;
      // A bad push ends its session; a bad infer, open or fork must not end the stream whose id it wanted.
      if (stream && type !== "infer" && type !== "open" && type !== "fork") {
        this.#streams.delete(stream.id);
        stream.handle.cancel();
      }
      this.#refuse(Fault.from(error), type === "fork" ? idOf({ id: (json as { as?: unknown }).as }) : id);
    }
  }

  #obey(message: ClientMessage, binary: BinaryFrame | undefined): void {
    const { id } = message;
    if (message.type === "infer") {
      this.#claim(id);
      const inputs = readInputs(message.inputs, binary);
      const stream = this.#stream(id, binary !== undefined);
      const options = optionsOf(message);
      const listener = this.#listener(stream, message.parameters?.stream !== false);
      stream.handle = this.#runtime.submit(message.model, inputs, options, listener);
      this.#add(stream);
      return;
    }
    if (message.type === "open") {
      this.#claim(id);
      const { state } = message;
      const options = { ...optionsOf(message), ...(state === undefined ? {} : { state }) };
      this.#open(id, binary !== undefined, (listener) =>
        this.#runtime.open(message.model, options, listener),
      );
      return;
    }
    const stream = this.#streams.get(id);
    if (!stream) throw new Fault("SESSION_NOT_FOUND", `nothing is open under id '${id}'`);
    stream.heardMs = performance.now();
    if (message.type === "cancel") {
      stream.handle.cancel();
      return;
    }
    const { session } = stream;
    if (!session)
      throw new Fault("INVALID_REQUEST", `id '${id}' is a request, '${message.type}' needs a session`);
    if (message.type === "push") this.#push(stream, session, readInputs(message.inputs, binary));
    else if (message.type === "end") session.end();
    else if (message.type === "marker") session.marker(message.marker);
    else if (message.type === "suspend") session.suspend();
    else if (message.type === "fork") {
      this.#claim(message.as);
      this.#open(message.as, stream.binary, (listener) => session.fork(listener));
    }
  }

  #open(id: string, binary: boolean, open: (listener: Listener) => SessionHandle): void {
    const stream: Stream = this.#stream(id, binary);
    const session = open(this.#listener(stream, true));
    this.#add(Object.assign(stream, { session, handle: session }));
    this.#outbox.send({
      type: "opened",
      id,
      limits: { idle_ms: this.#limits.idleMs, inputs: this.#limits.inputs },
    });
  }

  #push(stream: Stream, session: SessionHandle, inputs: Values): void {
    const first = Object.values(inputs)[0];
    const steps = typeof first === "object" && first.shape.length > 1 ? first.shape[0]! : 1;
    if (steps > stream.credit) {
      const { id, credit } = stream;
      throw new Fault("OVERLOADED", `session '${id}' pushed ${steps} inputs with a credit of ${credit}`);
    }
    session.push(inputs);
    stream.credit -= steps;
  }

  /** Throws INVALID_REQUEST where an id is taken, and OVERLOADED where there are too many. */
  #claim(id: string): void {
    if (this.#closing)
      throw new Fault("SHUTTING_DOWN", "the server is shutting down and takes no more requests");
    if (this.#streams.has(id)) throw new Fault("INVALID_REQUEST", `id '${id}' is in use on this connection`);
    if (this.#streams.size >= this.#limits.openIds) {
      throw new Fault(
        "OVERLOADED",
        `${this.#limits.openIds} ids are open on this connection, which is the most`,
      );
    }
  }

  #stream(id: string, binary: boolean): Stream {
    const heardMs = performance.now();
    return { id, binary, handle: NO_HANDLE, credit: this.#limits.inputs, consumed: 0, heardMs };
  }

  #add(stream: Stream): void {
    this.#streams.set(stream.id, stream);
    if (this.#outbox.isPaused) stream.handle.pause();
  }

  #listener(stream: Stream, steps: boolean): Listener {
    const { id, binary } = stream;
    /** Says the last word, unless the stream was ended by an error of its own. */
    const end = (tell: () => void) => {
      if (this.#streams.get(id) !== stream) return;
      this.#streams.delete(id);
      tell();
    };
    return {
      ...(steps
        ? {
            output: ({ step, outputs }) => {
              if (this.#streams.get(id) !== stream) return;
              const chunks: Uint8Array[] | undefined = binary ? [] : undefined;
              this.#outbox.send({ type: "output", id, step, outputs: writeValues(outputs, chunks) }, chunks);
            },
          }
        : {}),
      done: ({ outputs, usage }) =>
        end(() => {
          const chunks: Uint8Array[] | undefined = binary ? [] : undefined;
          const { cells, queueMs, computeMs } = usage;
          const wire = { cells, queue_ms: round(queueMs), compute_ms: round(computeMs) };
          this.#outbox.send({ type: "done", id, outputs: writeValues(outputs, chunks), usage: wire }, chunks);
        }),
      failed: (fault) => end(() => this.#refuse(fault, id)),
      marker: (marker) => this.#outbox.send({ type: "marker", id, marker }),
      consumed: (inputs) => {
        stream.consumed += inputs;
        if (stream.consumed < this.#limits.inputs / 2) return;
        stream.credit += stream.consumed;
        this.#outbox.send({ type: "credit", id, inputs: stream.consumed });
        stream.consumed = 0;
      },
      suspended: (state, evicted) =>
        end(() => {
          const reason = stream.evicting ?? evicted;
          this.#outbox.send(reason ? { type: "evicted", id, reason, state } : { type: "state", id, state });
        }),
    };
  }

  #refuse({ code, message }: Fault, id: string | undefined): void {
    this.#outbox.send({
      type: "error",
      ...(id === undefined ? {} : { id }),
      code,
      message,
      ...(faults[code].retry ? { retry_after_ms: RETRY_AFTER_MS } : {}),
    });
  }
}

const RETRY_AFTER_MS = 500;
const NO_HANDLE: Handle = { cancel: () => {}, pause: () => {}, resume: () => {} };

function readInputs(inputs: Parameters<typeof readValues>[0], binary: BinaryFrame | undefined): Values {
  const values = readValues(inputs, binary);
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

function round(ms: number): number {
  return Math.round(ms * 1000) / 1000;
}
