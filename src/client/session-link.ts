import type { WireParameters } from "../server/protocol.ts";
import type { Connection, Receiver } from "./connection.ts";
import type { InputLog } from "./input-log.ts";
import type { Markers } from "./markers.ts";

/** A session on one connection. Positions count inputs over the whole session; every input gives one output. */
export class SessionLink {
  readonly connection: Connection;
  readonly id: string;
  #isOpen = false;
  /** Inputs that were sent, up to this position. */
  #sent: number;
  /** Outputs that came, up to this position. */
  received: number;
  #credit = 0;
  /** The last marker that was sent here. */
  #marker = 0;
  #isSuspending = false;
  #isEnding = false;

  /** Claims an id, whose messages go to `receiver`; inputs are sent from position `at` on. */
  constructor(connection: Connection, at: number, receiver: Receiver) {
    this.connection = connection;
    this.id = connection.claim(receiver);
    this.#sent = at;
    this.received = at;
  }

  get isOpen(): boolean {
    return this.#isOpen;
  }

  get sent(): number {
    return this.#sent;
  }

  /** Inputs that may be sent. */
  get credit(): number {
    return this.#credit;
  }

  get isSuspending(): boolean {
    return this.#isSuspending;
  }

  /** Whether it is open and the last word was not said. */
  get takesMore(): boolean {
    return this.#isOpen && !this.#isSuspending && !this.#isEnding;
  }

  open(model: string, parameters: WireParameters, state: string | undefined): void {
    const from = state === undefined ? {} : { state };
    this.connection.send({ type: "open", id: this.id, model, parameters, ...from }, true);
  }

  /** The server opened it, and takes so many inputs. */
  opened(credit: number): void {
    this.#isOpen = true;
    this.#credit = credit;
  }

  addCredit(inputs: number): void {
    this.#credit += inputs;
  }

  /** Sends what the log has and the credit allows. */
  sendInputs(log: InputLog): void {
    while (this.#credit > 0) {
      const next = log.from(this.#sent, this.#credit);
      if (!next) return;
      this.connection.send({ type: "push", id: this.id, inputs: next.inputs }, true);
      this.#sent += next.steps;
      this.#credit -= next.steps;
    }
  }

  /** Sends those that were not sent here. */
  sendMarkers(markers: Markers): void {
    for (;;) {
      const marker = markers.nextAfter(this.#marker);
      if (marker === undefined) return;
      this.connection.send({ type: "marker", id: this.id, marker });
      this.#marker = marker;
    }
  }

  suspend(): void {
    this.#isSuspending = true;
    this.connection.send({ type: "suspend", id: this.id });
  }

  end(): void {
    this.#isEnding = true;
    this.connection.send({ type: "end", id: this.id });
  }

  cancel(): void {
    this.connection.send({ type: "cancel", id: this.id });
  }

  /** Opens a copy of it under an id of this connection. */
  fork(id: string): void {
    this.connection.send({ type: "fork", id: this.id, as: id });
  }

  /** Gets a copy of its state: a fork that is suspended at once. Where that fails, nobody hears of it. */
  copyState(taken: (state: string) => void): void {
    const { connection } = this;
    const copy = connection.claim({
      heard: (message) => {
        if (message.type !== "state" && message.type !== "error" && message.type !== "evicted") return;
        connection.release(copy);
        if (message.type !== "error" && message.state !== undefined) taken(message.state);
      },
      lost: () => {},
    });
    this.fork(copy);
    connection.send({ type: "suspend", id: copy });
  }

  /** What still comes is passed over. */
  release(): void {
    this.connection.release(this.id);
  }
}
