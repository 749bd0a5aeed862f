import type { Server as HttpServer } from "node:http";
import type { Duplex } from "node:stream";
import { WebSocket, WebSocketServer } from "ws";
import type { Caller } from "./access/caller.ts";
import { Connection } from "./connection.ts";
import { Outbox, type OutboxLimits } from "./outbox.ts";
import { SUBPROTOCOL } from "./protocol.ts";
import type { ConnectionLimits, Shared } from "./shared.ts";
import { type Door, knock } from "./upgrade.ts";

export interface SocketLimits extends ConnectionLimits, OutboxLimits {
  /** Longest frame. @default 16 MiB */
  readonly frameBytes: number;
  /** Sockets that may be open. @default 10 000 */
  readonly connections: number;
  /** How often peers are pinged, in milliseconds; one that does not answer until the next ping is dead. @default 20 000 */
  readonly pingMs: number;
}

export interface SocketSettings extends Door {
  readonly limits: SocketLimits;
  /** Whether frames of 1 KiB and more are compressed for clients that offer it. */
  readonly compression: boolean;
}

/** The WebSocket door of an HTTP server. */
export interface Sockets {
  readonly size: number;
  /** Whether a request or session is open on any. */
  isBusy(): boolean;
  /** Tells clients to finish, and hands back their sessions. */
  goAway(): void;
  /** Closes those whose key was removed. */
  closeRevoked(): void;
  /** Ends what is still open with SHUTTING_DOWN, closes all, and resolves once they are gone. */
  close(): Promise<void>;
}

/** A socket that says when its closing begins, which may be long before its last bytes are taken. */
class TellingSocket extends WebSocket {
  override close(code?: number, reason?: string | Buffer): void {
    super.close(code, reason);
    this.emit("closing");
  }
}

/** Takes upgrades of `http` for `GET /v1/stream`. */
export function openSockets(http: HttpServer, shared: Shared, settings: SocketSettings): Sockets {
  const { limits, compression } = settings;
  const connections = new Map<WebSocket, { readonly connection: Connection; readonly caller: Caller }>();
  const sockets = new WebSocketServer({
    noServer: true,
    WebSocket: TellingSocket,
    maxPayload: limits.frameBytes,
    perMessageDeflate: compression && DEFLATE,
    handleProtocols: () => SUBPROTOCOL,
  });
  http.on("upgrade", (request, socket, head) => {
    socket.on("error", () => socket.destroy());
    const answer = knock(settings, request, connections.size >= limits.connections);
    if ("refusal" in answer) {
      socket.end(answer.refusal);
      return;
    }
    sockets.handleUpgrade(request, socket, head, (ws) => connect(ws, socket, answer.caller));
  });
  const alive = new WeakSet<WebSocket>();
  const connect = (ws: WebSocket, socket: Duplex, caller: Caller) => {
    const connection = new Connection(shared, caller, (pace) => new Outbox(ws, socket, limits, pace));
    const leave = () => connection.leave();
    ws.on("message", (data, isBinary) => connection.hear(data as Buffer, isBinary));
    ws.on("error", () => ws.terminate());
    ws.on("pong", () => alive.add(ws));
    ws.on("closing", leave);
    // A peer that has shut its side down may still read for long, but nothing more can come from it.
    socket.on("end", leave);
    ws.on("close", () => {
      leave();
      connections.delete(ws);
    });
    alive.add(ws);
    connections.set(ws, { connection, caller });
  };
  const pings = setInterval(() => {
    for (const ws of connections.keys()) {
      if (!alive.has(ws)) ws.terminate();
      alive.delete(ws);
      ws.ping();
    }
  }, limits.pingMs);
  const sweeps = setInterval(() => {
    const now = performance.now();
    for (const { connection } of connections.values()) connection.evictIdle(now - limits.idleMs);
  }, limits.idleMs / 4);
  const graces = setInterval(() => shared.resumables.sweep(performance.now()), GRACE_CHECK_MS);
  return {
    get size() {
      return connections.size;
    },
    isBusy: () => [...connections.values()].some(({ connection }) => connection.size > 0),
    goAway: () => {
      clearInterval(sweeps);
      for (const { connection } of connections.values()) {
        connection.goAway();
        connection.evictSessions("shutdown");
      }
    },
    closeRevoked: () => {
      for (const [ws, { caller }] of connections) {
        if (caller.isRevoked) ws.close(POLICY, "the key was removed");
      }
    },
    close: async () => {
      clearInterval(pings);
      clearInterval(graces);
      for (const [ws, { connection }] of connections) {
        connection.abandon();
        ws.close(GOING_AWAY, "the server is shutting down");
      }
      const late = setTimeout(() => {
        for (const ws of connections.keys()) ws.terminate();
      }, CLOSE_MS);
      while (connections.size > 0) await new Promise((resolve) => setTimeout(resolve, CLOSE_CHECK_MS));
      clearTimeout(late);
      shared.resumables.close();
    },
  };
}

/** Small messages cost more to compress than they save; no dictionary is kept between messages, which would cost 100s of kB a socket. */
const DEFLATE = {
  threshold: 1024,
  serverNoContextTakeover: true,
  clientNoContextTakeover: true,
  zlibDeflateOptions: { level: 1 },
} as const;
const POLICY = 1008;
const GOING_AWAY = 1001;
const CLOSE_MS = 1000;
const CLOSE_CHECK_MS = 10;
const GRACE_CHECK_MS = 1000;
