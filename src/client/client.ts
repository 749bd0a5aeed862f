import { type ConnectionState, Connector } from "./connector.ts";
import { type Dial, streamUrl } from "./dial.ts";
import { ClientError } from "./errors.ts";
import { LiveSession } from "./live-session.ts";
import { type RequestOptions, type Result, send } from "./request.ts";
import type { Session, SessionOptions } from "./session.ts";
import { type StepOutput, StepQueue } from "./steps.ts";
import type { Values } from "./values.ts";

export interface ConnectOptions {
  /** Key of the API, where the server asks for one. */
  readonly key?: string;
  /** Longest time for one attempt to connect, in milliseconds. @default 10 000 */
  readonly connectTimeoutMs?: number;
  /** How long requests and sessions wait for a broken connection to be restored, in milliseconds; 0 never restores it. @default 60 000 */
  readonly reconnectMs?: number;
  /** Gives up the first attempt to connect. */
  readonly signal?: AbortSignal;
  /** Hears how the connection does; `error` says why it is `lost`. */
  readonly onState?: (state: ConnectionState, error?: ClientError) => void;
  /** Makes the socket. @default the package `ws` in Node, the global WebSocket elsewhere */
  readonly dial?: Dial;
}

/** Many requests and sessions over one socket, which is restored when it breaks. */
export interface Client {
  readonly state: ConnectionState;
  /** One request; resolves with its result or rejects with a `ClientError`. */
  run(model: string, inputs: Values, options?: RequestOptions): Promise<Result>;
  /** One request, step by step; it is sent when the first step is asked for, and leaving the loop cancels it. */
  stream(model: string, inputs: Values, options?: RequestOptions): AsyncIterable<StepOutput>;
  /** An open-ended request of a streaming model. */
  session(model: string, options?: SessionOptions): Session;
  /** Closes the socket; what is under way ends with CANCELLED. */
  close(): void;
}

/** Connects to a server. Rejects with a `ClientError` where it cannot be reached or refuses the key. */
export async function connectWith(url: string, dial: Dial, options: ConnectOptions): Promise<Client> {
  const { key, connectTimeoutMs = 10_000, reconnectMs = 60_000, signal, onState = () => {} } = options;
  for (const [name, value] of Object.entries({ connectTimeoutMs, reconnectMs })) {
    if (value >= 0) continue;
    throw new ClientError(
      "INVALID_REQUEST",
      `'${name}' is ${value}, it must be a number of milliseconds, 0 or more`,
    );
  }
  const connector = new Connector({
    dial: options.dial ?? dial,
    url: streamUrl(url),
    key,
    connectTimeoutMs,
    reconnectMs,
    onState,
  });
  await connector.first(signal);
  return {
    get state() {
      return connector.state;
    },
    run: (model, inputs, of = {}) => send(connector, { model, inputs, options: of }),
    stream: (model, inputs, of = {}) => stepsOf(connector, model, inputs, of),
    session: (model, of = {}) => LiveSession.open(connector, model, of),
    close: () => connector.close(),
  };
}

async function* stepsOf(
  connector: Connector,
  model: string,
  inputs: Values,
  options: RequestOptions,
): AsyncGenerator<StepOutput> {
  const queue = new StepQueue();
  const left = new AbortController();
  const signal = options.signal ? AbortSignal.any([options.signal, left.signal]) : left.signal;
  const output = (step: StepOutput) => queue.push(step);
  send(connector, { model, inputs, options: { ...options, signal }, output }).then(
    () => queue.end(),
    (error: ClientError) => queue.end(error),
  );
  try {
    for (let step = await queue.next(); step; step = await queue.next()) yield step;
  } finally {
    left.abort();
  }
}
