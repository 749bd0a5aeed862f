import type { Server as HttpServer, IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";
import { type WebSocket, WebSocketServer } from "ws";
import type { Runtime } from "../runtime/types.ts";
import { Connection, type ConnectionLimits } from "./connection.ts";
import { Outbox, type OutboxLimits } from "./outbox.ts";
import { SUBPROTOCOL } from "./protocol.ts";

export interface SocketLimits extends ConnectionLimits, OutboxLimits {
  /** Longest frame. @default 16 MiB */
  readonly frameBytes: number;
  /** Sockets that may be open. @default 10 000 */
  readonly connections: number;
  /** How often peers are pinged, in milliseconds; one that does not answer until the next ping is dead. @default 20 000 */
  readonly pingMs: number;
}

/** The WebSocket door of an HTTP server. */
export interface Sockets {
  readonly size: number;
  /** Whether a request or session is open on any. */
  isBusy(): boolean;
  /** Tells clients to finish, and hands back their sessions. */
  goAway(): void;
  /** Ends what is still open with SHUTTING_DOWN, closes all, and resolves once they are gone. */
  close(): Promise<void>;
}

/** Takes upgrades of `http` for `GET /v1/stream`, while `isReady`. */
export function openSockets(
  http: HttpServer,
  runtime: Pick<Runtime, "submit" | "open">,
  limits: SocketLimits,
  isReady: () => boolean,
): Sockets {
  const connections = new Map<WebSocket, Connection>();
  const sockets = new WebSocketServer({
    noServer: true,
    maxPayload: limits.frameBytes,
    perMessageDeflate: false,
    handleProtocols: (offered) => (offered.has(SUBPROTOCOL) ? SUBPROTOCOL : false),
  });
  http.on("upgrade", (request, socket, head) => {
    socket.on("error", () => socket.destroy());
    const refusal = refusalOf(request, isReady(), connections.size >= limits.connections);
    if (refusal) {
      socket.end(`HTTP/1.1 ${refusal}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`);
      return;
    }
    sockets.handleUpgrade(request, socket, head, (ws) => connect(ws, socket));
  });
  const alive = new WeakSet<WebSocket>();
  const connect = (ws: WebSocket, socket: Duplex) => {
    ws.on("error", () => ws.terminate());
    ws.on("pong", () => alive.add(ws));
    ws.on("close", () => connections.delete(ws));
    alive.add(ws);
    connections.set(ws, new Connection(ws, runtime, limits, (pace) => new Outbox(ws, socket, limits, pace)));
  };
  const pings = setInterval(() => {
    for (const ws of connections.keys()) {
      if (!alive.has(ws)) ws.terminate();
      alive.delete(ws);
      ws.ping();
    }
  }, limits.pingMs);
  const sweeps = setInterval(() => {
    for (const connection of connections.values()) connection.evictIdle(performance.now() - limits.idleMs);
  }, limits.idleMs / 4);
  return {
    get size() {
      return connections.size;
    },
    isBusy: () => [...connections.values()].some(({ size }) => size > 0),
    goAway: () => {
      clearInterval(sweeps);
      for (const connection of connections.values()) {
        connection.goAway();
        connection.evictSessions("shutdown");
      }
    },
    close: async () => {
      clearInterval(pings);
      for (const [ws, connection] of connections) {
        connection.abandon();
        ws.close(1001, "the server is shutting down");
      }
      const late = setTimeout(() => {
        for (const ws of connections.keys()) ws.terminate();
      }, CLOSE_MS);
      while (connections.size > 0) await new Promise((resolve) => setTimeout(resolve, CLOSE_CHECK_MS));
      clearTimeout(late);
    },
  };
}

const CLOSE_MS = 1000;
const CLOSE_CHECK_MS = 10;

/** Why an upgrade is refused, as an HTTP status line; undefined where it is not. */
function refusalOf(request: IncomingMessage, ready: boolean, full: boolean): string | undefined {
  if (request.url?.split("?")[0] !== "/v1/stream") return "404 Not Found";
  if (!ready || full) return "503 Service Unavailable";
  const offered = (request.headers["sec-websocket-protocol"] ?? "").split(",").map((name) => name.trim());
  return offered.includes(SUBPROTOCOL) ? undefined : "400 Bad Request";
}
