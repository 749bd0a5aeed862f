import { type Dial, openSocket, type Socket } from "./dial.ts";
import { type ClientError, connectionLost } from "./errors.ts";
import { type ClientMessage, type Heard, readFrame, writeFrame } from "./frames.ts";

/** Who hears about one id of a connection. */
export interface Receiver {
  heard(message: Heard): void;
  /** The connection is gone, and the id with it. */
  lost(error: ClientError): void;
  /** The server drains: what can leave should leave. */
  draining?(): void;
}

export interface ConnectionEvents {
  /** It takes nothing new; what runs on it may go on. */
  draining(connection: Connection): void;
  ended(connection: Connection, error: ClientError): void;
}

/** One open socket and the ids on it. */
export class Connection {
  readonly #socket: Socket;
  readonly #events: ConnectionEvents;
  readonly #receivers = new Map<string, Receiver>();
  #lastId = 0;
  #isDraining = false;
  #error: ClientError | undefined;
  /** When a frame last came, on the monotonic clock. */
  heardMs = performance.now();

  private constructor(socket: Socket, events: ConnectionEvents) {
    this.#socket = socket;
    this.#events = events;
    socket.onmessage = ({ data }) => this.#hear(data as string | ArrayBuffer);
    socket.onclose = ({ code, reason }) =>
      this.#end(connectionLost(`the connection was closed with ${code}${reason ? `: ${reason}` : ""}`));
  }

  /** Rejects with a `ClientError`, or with the signal's reason. */
  static async open(
    { dial, url, key }: { readonly dial: Dial; readonly url: string; readonly key: string | undefined },
    events: ConnectionEvents,
    signal: AbortSignal,
  ): Promise<Connection> {
    return new Connection(await openSocket(dial, url, key, signal), events);
  }

  get isDraining(): boolean {
    return this.#isDraining;
  }

  /** A new id, whose messages go to `receiver` until it is released. */
  claim(receiver: Receiver): string {
    const id = `${++this.#lastId}`;
    const error = this.#error;
    if (error) queueMicrotask(() => receiver.lost(error));
    else this.#receivers.set(id, receiver);
    return id;
  }

  /** What still comes for the id is passed over. */
  release(id: string): void {
    this.#receivers.delete(id);
    this.#closeIfDone();
  }

  send(message: ClientMessage, isBinary = false): void {
    if (!this.#error) this.#socket.send(writeFrame(message, isBinary));
  }

  /** Nothing new begins here, and the socket is closed once nothing is left. */
  drain(): void {
    if (this.#isDraining) return;
    this.#isDraining = true;
    this.#events.draining(this);
    for (const receiver of [...this.#receivers.values()]) receiver.draining?.();
    this.#closeIfDone();
  }

  /** Ends it for everybody on it. */
  close(error: ClientError): void {
    this.#socket.close();
    this.#end(error);
  }

  /** As `close`, for a peer that would not answer a close. */
  drop(error: ClientError): void {
    if (this.#socket.terminate) this.#socket.terminate();
    else this.#socket.close();
    this.#end(error);
  }

  #closeIfDone(): void {
    if (this.#isDraining && this.#receivers.size === 0) this.#socket.close();
  }

  #hear(data: string | ArrayBuffer): void {
    this.heardMs = performance.now();
    let message: Heard | undefined;
    try {
      message = readFrame(data);
    } catch (error) {
      this.drop(connectionLost(`the server sent a frame that is none: ${(error as Error).message}`, error));
      return;
    }
    if (message?.type === "goaway") this.drain();
    else if (message && "id" in message && message.id !== undefined) {
      this.#receivers.get(message.id)?.heard(message);
    }
  }

  #end(error: ClientError): void {
    if (this.#error) return;
    this.#error = error;
    this.#socket.onmessage = null;
    this.#socket.onclose = null;
    this.#events.ended(this, error);
    const receivers = [...this.#receivers.values()];
    this.#receivers.clear();
    for (const receiver of receivers) receiver.lost(error);
  }
}
