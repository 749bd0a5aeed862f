import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import type { Duplex } from "node:stream";
import { type WebSocket, WebSocketServer } from "ws";
import type { Runtime } from "../runtime/types.ts";
import { Connection, type ConnectionLimits } from "./connection.ts";
import { metricsOf } from "./metrics.ts";
import { Outbox, type OutboxLimits } from "./outbox.ts";
import { SUBPROTOCOL } from "./protocol.ts";

export interface ServerLimits extends ConnectionLimits, OutboxLimits {
  /** Longest frame. @default 16 MiB */
  readonly frameBytes: number;
  /** Sockets that may be open. @default 10 000 */
  readonly connections: number;
  /** How often peers are pinged, in milliseconds; one that does not answer until the next ping is dead. @default 20 000 */
  readonly pingMs: number;
}

export interface ServerSettings {
  readonly runtime: Runtime;
  /** @default "127.0.0.1" */
  readonly host?: string;
  /** 0 takes a free one. @default 8080 */
  readonly port?: number;
  readonly limits?: Partial<ServerLimits>;
}

export interface Server {
  readonly host: string;
  readonly port: number;
  /** Refuses new work, lets what runs finish for up to `drainMs` (default 10 000), hands back sessions, closes. */
  close(drainMs?: number): Promise<void>;
}

const DEFAULTS: ServerLimits = {
  openIds: 1024,
  inputs: 256,
  idleMs: 60_000,
  bufferedBytes: 2 ** 20,
  slowMs: 30_000,
  frameBytes: 16 * 2 ** 20,
  connections: 10_000,
  pingMs: 20_000,
};

/** Serves a runtime over WebSocket and HTTP. Rejects where the port cannot be had. Does not close the runtime. */
export async function startServer(settings: ServerSettings): Promise<Server> {
  const { runtime, host = "127.0.0.1", port = 8080 } = settings;
  const limits = { ...DEFAULTS, ...settings.limits };
  const connections = new Map<WebSocket, Connection>();
  const registry = metricsOf(runtime, () => connections.size);
  let ready = true;
  const http = createServer((request, response) => {
    answer(request, response, () => ready, registry).catch(() => response.destroy());
  });
  const sockets = new WebSocketServer({
    noServer: true,
    maxPayload: limits.frameBytes,
    perMessageDeflate: false,
    handleProtocols: (offered) => (offered.has(SUBPROTOCOL) ? SUBPROTOCOL : false),
  });
  http.on("upgrade", (request, socket, head) => {
    socket.on("error", () => socket.destroy());
    const refusal = refusalOf(request, ready, connections.size >= limits.connections);
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
  await new Promise<void>((resolve, reject) => {
    http.once("error", reject);
    http.listen(port, host, resolve);
  });
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
  const close = async (drainMs = 10_000) => {
    ready = false;
    clearInterval(sweeps);
    for (const connection of connections.values()) {
      connection.goAway();
      connection.evictSessions("shutdown");
    }
    const until = performance.now() + drainMs;
    while (performance.now() < until && [...connections.values()].some(({ size }) => size > 0))
      await pause(DRAIN_CHECK_MS);
    clearInterval(pings);
    for (const ws of connections.keys()) ws.close(1001, "the server is shutting down");
    const late = setTimeout(() => {
      for (const ws of connections.keys()) ws.terminate();
    }, CLOSE_MS);
    http.closeAllConnections();
    await new Promise<void>((resolve) => http.close(() => resolve()));
    while (connections.size > 0) await pause(DRAIN_CHECK_MS);
    clearTimeout(late);
  };
  return { host, port: (http.address() as AddressInfo).port, close };
}

const DRAIN_CHECK_MS = 10;
const CLOSE_MS = 1000;

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** Why an upgrade is refused, as an HTTP status line; undefined where it is not. */
function refusalOf(request: IncomingMessage, ready: boolean, full: boolean): string | undefined {
  if (new URL(request.url ?? "/", "http://server").pathname !== "/v1/stream") return "404 Not Found";
  if (!ready || full) return "503 Service Unavailable";
  const offered = (request.headers["sec-websocket-protocol"] ?? "").split(",").map((name) => name.trim());
  return offered.includes(SUBPROTOCOL) ? undefined : "400 Bad Request";
}

async function answer(
  request: IncomingMessage,
  response: ServerResponse,
  ready: () => boolean,
  registry: ReturnType<typeof metricsOf>,
): Promise<void> {
  const { pathname } = new URL(request.url ?? "/", "http://server");
  if (request.method !== "GET") return void response.writeHead(405, { allow: "GET" }).end();
  if (pathname === "/v2/health/live") return void response.writeHead(200).end();
  if (pathname === "/v2/health/ready") return void response.writeHead(ready() ? 200 : 503).end();
  if (pathname === "/metrics") {
    const text = await registry.metrics();
    return void response.writeHead(200, { "content-type": registry.contentType }).end(text);
  }
  response.writeHead(404).end();
}
