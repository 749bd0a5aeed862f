import { backOffMs } from "./backoff.ts";
import { Connection } from "./connection.ts";
import type { Dial } from "./dial.ts";
import { ClientError, connectionLost } from "./errors.ts";
import { limit, orAborted, pause } from "./waiting.ts";

/** `open`: requests go out. `connecting`: they wait. `lost`: nothing is tried until the next request. `closed`: the end. */
export type ConnectionState = "open" | "connecting" | "lost" | "closed";

export interface ConnectorOptions {
  readonly dial: Dial;
  readonly url: string;
  readonly key: string | undefined;
  readonly connectTimeoutMs: number;
  readonly reconnectMs: number;
  readonly onState: (state: ConnectionState, error?: ClientError) => void;
}

/** Keeps one connection that takes new work, beside those that drain. */
export class Connector {
  readonly #options: ConnectorOptions;
  readonly #all = new Set<Connection>();
  readonly #closed = new AbortController();
  #current: Connection | undefined;
  #dialling: Promise<Connection> | undefined;
  #state: ConnectionState = "connecting";

  constructor(options: ConnectorOptions) {
    this.#options = options;
  }

  get state(): ConnectionState {
    return this.#state;
  }

  /** The connection for new work, once there is one. Rejects when none could be had for `reconnectMs`. */
  async next(signal: AbortSignal): Promise<Connection> {
    if (this.#closed.signal.aborted) throw this.#closed.signal.reason;
    if (this.#current) return this.#current;
    return orAborted(this.#redial(this.#options.reconnectMs), signal);
  }

  /** One attempt, for the beginning: a wrong address should be told at once. */
  async first(signal: AbortSignal | undefined): Promise<void> {
    const bound = limit("connecting", signal, undefined);
    try {
      await orAborted(this.#redial(0), bound.signal);
    } catch (error) {
      this.close();
      throw error;
    } finally {
      bound.release();
    }
  }

  close(): void {
    const reason = new ClientError("CANCELLED", "the client was closed");
    this.#closed.abort(reason);
    this.#current = undefined;
    for (const connection of [...this.#all]) connection.close(reason);
    this.#become("closed");
  }

  #redial(forMs: number): Promise<Connection> {
    if (!this.#dialling) {
      this.#dialling = this.#dial(forMs).finally(() => {
        this.#dialling = undefined;
      });
      // Whoever waits is told; nobody need wait.
      this.#dialling.catch(() => {});
    }
    return this.#dialling;
  }

  async #dial(forMs: number): Promise<Connection> {
    const untilMs = performance.now() + forMs;
    this.#become("connecting");
    for (let attempt = 1; ; attempt++) {
      try {
        return await this.#open();
      } catch (thrown) {
        const error = thrown as ClientError;
        if (this.#closed.signal.aborted) throw this.#closed.signal.reason;
        const waitMs = backOffMs(attempt, Math.random());
        if (!error.isRetryable || performance.now() + waitMs > untilMs) {
          this.#become("lost", error);
          throw error;
        }
        await pause(waitMs, this.#closed.signal);
      }
    }
  }

  async #open(): Promise<Connection> {
    const { connectTimeoutMs } = this.#options;
    const bound = limit("connecting", this.#closed.signal, connectTimeoutMs);
    try {
      const connection = await Connection.open(
        this.#options,
        {
          draining: (one) => this.#leave(one),
          ended: (one, error) => {
            this.#all.delete(one);
            this.#leave(one, error);
          },
        },
        bound.signal,
      );
      this.#all.add(connection);
      this.#current = connection;
      this.#become("open");
      return connection;
    } catch (error) {
      // Unlike a request's, a connection's time limit says nothing about what will be the next time.
      if (error instanceof ClientError && error.code === "DEADLINE_EXCEEDED") {
        throw connectionLost(
          `could not connect to ${this.#options.url} within ${connectTimeoutMs} ms`,
          error,
        );
      }
      throw error;
    } finally {
      bound.release();
    }
  }

  /** The connection takes no more new work; another is looked for at once, so that the next request need not wait. */
  #leave(connection: Connection, error?: ClientError): void {
    if (this.#current !== connection) return;
    this.#current = undefined;
    if (this.#closed.signal.aborted) return;
    if (this.#options.reconnectMs > 0) void this.#redial(this.#options.reconnectMs);
    else this.#become("lost", error);
  }

  #become(state: ConnectionState, error?: ClientError): void {
    if (this.#state === state && state !== "connecting") return;
    this.#state = state;
    this.#options.onState(state, error);
  }
}
