import { type Fault, faults } from "../core/faults.ts";
import type { Handle, Listener, ModelInfo, SessionHandle, Values } from "../runtime/types.ts";
import type { Evictions } from "./evictions.ts";
import type { Evictable } from "./open-sessions.ts";
import type { Outbox } from "./outbox.ts";
import type { EvictionReason, ServerMessage } from "./protocol.ts";
import { writeValues } from "./tensors.ts";

export interface StreamSettings {
  readonly id: string;
  readonly model: ModelInfo;
  /** Class from 1 to 9. */
  readonly priority: number;
  readonly outbox: Pick<Outbox, "send">;
  /** Inputs of a session that may be in flight. */
  readonly inputs: number;
  readonly evictions: Evictions;
  /** Called once, before the last word. */
  readonly ended: (stream: Stream) => void;
}

/** One open id of a socket: what its client may still send, and what it is told. */
export class Stream implements Evictable {
  readonly id: string;
  readonly model: ModelInfo;
  readonly priority: number;
  /** Answered in binary frames, from the first binary frame of its client on. */
  isBinary = false;
  heardMs = performance.now();
  handle: Handle = NO_HANDLE;
  session: SessionHandle | undefined;
  /** Of a session that outlives its socket. */
  token: string | undefined;
  /** Inputs that the client may still send. */
  credit: number;
  readonly #settings: StreamSettings;
  /** Inputs that were processed and not given back as credit. */
  #consumed = 0;
  #isOver = false;
  #evicting: EvictionReason | undefined;

  constructor(settings: StreamSettings) {
    this.#settings = settings;
    this.id = settings.id;
    this.model = settings.model;
    this.priority = settings.priority;
    this.credit = settings.inputs;
  }

  /** Ends a session; its client hears why once the input that is there was processed. */
  evict(reason: EvictionReason): void {
    if (this.#evicting || this.#isOver) return;
    this.#evicting = reason;
    this.session!.suspend();
  }

  /** Another socket has taken the session up. */
  replace(): void {
    if (this.end()) this.#tellEvicted("replaced");
  }

  /** Ends it here, without a word. False where it had ended. */
  end(): boolean {
    if (this.#isOver) return false;
    this.#isOver = true;
    this.#settings.ended(this);
    return true;
  }

  /** What a runtime tells it; with the outputs of `steps` where the client wants them. */
  listener(steps: boolean): Listener {
    const { id } = this;
    const { outbox, inputs } = this.#settings;
    return {
      ...(steps
        ? {
            output: ({ step, outputs }) => {
              if (!this.#isOver)
                this.#sendValues(outputs, (wire) => ({ type: "output", id, step, outputs: wire }));
            },
          }
        : {}),
      done: ({ outputs, usage: { cells, queueMs, computeMs } }) => {
        if (!this.end()) return;
        const usage = { cells, queue_ms: round(queueMs), compute_ms: round(computeMs) };
        this.#sendValues(outputs, (wire) => ({ type: "done", id, outputs: wire, usage }));
      },
      failed: (fault) => {
        if (this.end()) outbox.send(errorOf(fault, id));
      },
      marker: (marker) => {
        if (!this.#isOver) outbox.send({ type: "marker", id, marker });
      },
      consumed: (count) => {
        this.#consumed += count;
        if (this.#isOver || this.#consumed < inputs / 2) return;
        this.credit += this.#consumed;
        outbox.send({ type: "credit", id, inputs: this.#consumed });
        this.#consumed = 0;
      },
      suspended: (state, evicted) => {
        const reason = this.#evicting ?? evicted;
        if (!this.end()) return;
        if (reason) this.#tellEvicted(reason, state);
        else outbox.send({ type: "state", id, state });
      },
    };
  }

  #tellEvicted(reason: EvictionReason, state?: string): void {
    const { id, model } = this;
    const { outbox, evictions } = this.#settings;
    outbox.send({ type: "evicted", id, reason, ...(state === undefined ? {} : { state }) });
    evictions.add({ model: model.name, reason });
  }

  #sendValues(values: Values, messageOf: (wire: ReturnType<typeof writeValues>) => ServerMessage): void {
    const chunks: Uint8Array[] | undefined = this.isBinary ? [] : undefined;
    this.#settings.outbox.send(messageOf(writeValues(values, chunks)), chunks);
  }
}

/** What a client is told of a fault; ends the id that it names. */
export function errorOf({ code, message, retryAfterMs }: Fault, id: string | undefined): ServerMessage {
  return {
    type: "error",
    ...(id === undefined ? {} : { id }),
    code,
    message,
    ...(faults[code].retry ? { retry_after_ms: Math.ceil(retryAfterMs ?? RETRY_AFTER_MS) } : {}),
  };
}

const RETRY_AFTER_MS = 500;
const NO_HANDLE: Handle = { cancel: () => {}, pause: () => {}, resume: () => {} };

function round(ms: number): number {
  return Math.round(ms * 1000) / 1000;
}
