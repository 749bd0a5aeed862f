import { SUBPROTOCOL } from "../server/protocol.ts";
import { ClientError, connectionLost } from "./errors.ts";

/** What is needed of a WebSocket: what those of browsers, of Node and of the package `ws` have in common. */
export interface Socket {
  binaryType: string;
  onopen: ((event: never) => void) | null;
  onmessage: ((event: { data: unknown }) => void) | null;
  onerror: ((event: never) => void) | null;
  onclose: ((event: { code: number; reason: string }) => void) | null;
  send(data: string | Uint8Array<ArrayBuffer>): void;
  close(code?: number, reason?: string): void;
  /** Ends it without asking the peer, where that can be done. */
  terminate?(): void;
}

/** Begins a WebSocket to `url` that offers the subprotocol and, where there is one, shows the key. */
export type Dial = (url: string, key: string | undefined) => Socket;

/** The global WebSocket: it cannot send headers, so the key travels as a second subprotocol. */
export const dialGlobal: Dial = (url, key) => {
  const { WebSocket } = globalThis as unknown as {
    WebSocket?: new (url: string, protocols: readonly string[]) => Socket;
  };
  if (!WebSocket) {
    throw new ClientError(
      "UNSUPPORTED",
      "there is no global WebSocket here: give connect() a 'dial' of your own",
    );
  }
  return new WebSocket(url, key === undefined ? [SUBPROTOCOL] : [SUBPROTOCOL, `cellbatch.key.${key}`]);
};

/** `http://host:1`, `ws://host:1` or `ws://host:1/v1/stream` as the last; a path in front of it is kept. */
export function streamUrl(text: string): string {
  let url: URL;
  try {
    url = new URL(text);
  } catch (cause) {
    throw new ClientError("INVALID_REQUEST", `'${text}' is no URL; expected one as ws://127.0.0.1:8080`, {
      cause,
    });
  }
  url.protocol = url.protocol.replace("http", "ws");
  if (url.protocol !== "ws:" && url.protocol !== "wss:") {
    throw new ClientError(
      "INVALID_REQUEST",
      `'${text}' begins with neither ws://, wss://, http:// nor https://`,
    );
  }
  if (!url.pathname.endsWith(PATH)) url.pathname = url.pathname.replace(/\/?$/, PATH);
  return url.href;
}

const PATH = "/v1/stream";

/** Opens a socket. Rejects with CONNECTION_LOST, with the code that a refusal stands for where it can be known, or with the signal's reason. */
export function openSocket(
  dial: Dial,
  url: string,
  key: string | undefined,
  signal: AbortSignal,
): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = begin(dial, url, key);
    let reason: unknown;
    const settle = (act: () => void) => {
      signal.removeEventListener("abort", abort);
      socket.onopen = null;
      socket.onerror = ignore;
      socket.onclose = null;
      act();
    };
    const abort = () =>
      settle(() => {
        socket.close();
        reject(signal.reason);
      });
    socket.binaryType = "arraybuffer";
    socket.onopen = () => settle(() => resolve(socket));
    socket.onerror = (event: { error?: unknown; message?: string }) => {
      reason = event.error ?? event.message;
    };
    socket.onclose = ({ code }) => settle(() => reject(refusal(url, code, reason)));
    if (signal.aborted) abort();
    else signal.addEventListener("abort", abort, { once: true });
  });
}

/** An error event that nobody listens to would end a Node process. */
const ignore = () => {};

function begin(dial: Dial, url: string, key: string | undefined): Socket {
  try {
    return dial(url, key);
  } catch (cause) {
    if (cause instanceof ClientError) throw cause;
    // A browser refuses what is no token of HTTP; its message would tell the key.
    throw new ClientError("INVALID_REQUEST", `no WebSocket to ${url} can be made with this URL and key`);
  }
}

/** Browsers do not say why an upgrade failed; `ws` has the status in its message. */
function refusal(url: string, code: number, reason: unknown): ClientError {
  const text =
    reason instanceof Error ? reason.message : typeof reason === "string" ? reason : `code ${code}`;
  const status = Number(/server response: (\d{3})/.exec(text)?.[1]);
  const message = `could not connect to ${url}: ${text}`;
  if (status === 401 || status === 403) return new ClientError("UNAUTHORIZED", message, { cause: reason });
  if (status === 429) {
    return new ClientError("RATE_LIMITED", message, { cause: reason, isRetryable: true });
  }
  if (status >= 400 && status < 500) return new ClientError("INVALID_REQUEST", message, { cause: reason });
  return connectionLost(message, reason);
}
