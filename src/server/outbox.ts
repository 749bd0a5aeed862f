import type { Duplex } from "node:stream";
import type { WebSocket } from "ws";
import { binaryFrame } from "./frames.ts";
import type { ServerMessage } from "./protocol.ts";

export interface OutboxLimits {
  /** Bytes that may wait for a reader before its streams are paused; they go on below half. @default 1 MiB */
  readonly bufferedBytes: number;
  /** Longest time that a reader may stay behind before its socket is closed, in milliseconds. @default 30 000 */
  readonly slowMs: number;
}

/** What goes to one socket. A reader that is slow pauses its own streams, and loses its socket if it stays so. */
export class Outbox {
  readonly #ws: WebSocket;
  readonly #socket: Duplex;
  readonly #limits: OutboxLimits;
  readonly #pace: { pause(): void; resume(): void };
  #slow: NodeJS.Timeout | undefined;
  #corked = false;
  /** Bytes of answers that were made while the reader was behind, other than outputs. */
  #late = 0;

  constructor(ws: WebSocket, socket: Duplex, limits: OutboxLimits, pace: { pause(): void; resume(): void }) {
    this.#ws = ws;
    this.#socket = socket;
    this.#limits = limits;
    this.#pace = pace;
    socket.on("drain", () => this.#drained());
  }

  get isPaused(): boolean {
    return this.#slow !== undefined;
  }

  send(message: ServerMessage, chunks?: readonly Uint8Array[]): void {
    if (this.#ws.readyState !== this.#ws.OPEN) return;
    if (!this.#corked) {
      // All frames of one turn of the event loop leave in one write.
      this.#corked = true;
      this.#socket.cork();
      setImmediate(() => {
        this.#corked = false;
        this.#socket.uncork();
      });
    }
    const frame = chunks ? binaryFrame(message, chunks) : JSON.stringify(message);
    this.#ws.send(frame);
    // Outputs stop once their streams are paused; what a reader that is behind still asks for must not pile up either.
    if (this.#slow && message.type !== "output" && message.type !== "done") this.#late += frame.length;
    if (this.#late > this.#limits.bufferedBytes) this.#giveUp("asked on without reading the answers");
    else if (this.#slow === undefined && this.#ws.bufferedAmount > this.#limits.bufferedBytes)
      this.#fallBehind();
  }

  close(): void {
    clearTimeout(this.#slow);
  }

  #fallBehind(): void {
    this.#pace.pause();
    this.#slow = setTimeout(() => {
      this.#giveUp(`did not read for ${this.#limits.slowMs} ms`);
    }, this.#limits.slowMs);
  }

  #giveUp(why: string): void {
    this.#ws.close(1008, why);
    // A peer that does not read does not answer the close either.
    setTimeout(() => this.#ws.terminate(), CLOSE_MS).unref();
  }

  #drained(): void {
    if (this.#slow === undefined || this.#ws.bufferedAmount > this.#limits.bufferedBytes / 2) return;
    clearTimeout(this.#slow);
    this.#slow = undefined;
    this.#late = 0;
    this.#pace.resume();
  }
}

const CLOSE_MS = 1000;
