import { randomBytes, randomUUID } from "node:crypto";
import type { AddressInfo } from "node:net";
import type { Server as TlsServer } from "node:tls";
import type { Runtime } from "../runtime/types.ts";
import type { KeyEntry } from "./access/key-file.ts";
import { Keyring } from "./access/keyring.ts";
import { Origins } from "./access/origins.ts";
import { type Eviction, Evictions } from "./evictions.ts";
import type { Grpc } from "./grpc/server.ts";
import { createApp, type HttpLimits } from "./http/app.ts";
import { addBodies, addInferRoutes } from "./http/infer-routes.ts";
import { addModelRoutes } from "./http/model-routes.ts";
import { addPageRoutes } from "./http/page-routes.ts";
import { addServerRoutes } from "./http/server-routes.ts";
import { addWatchRoutes } from "./http/watch-routes.ts";
import { metricsOf } from "./metrics.ts";
import { Inference } from "./oip/inference.ts";
import { fixedRepository, type Repository } from "./oip/repository.ts";
import { type SequenceLimits, Sequences } from "./oip/sequences.ts";
import { counted, type Served, Statistics } from "./oip/statistics.ts";
import { OpenSessions } from "./open-sessions.ts";
import { type ResumableLimits, Resumables } from "./resumables.ts";
import { openSockets, type SocketLimits } from "./sockets.ts";
import { addSpans } from "./spans.ts";
import type { WireDecision } from "./watch-protocol.ts";

export interface ServerLimits extends SocketLimits, HttpLimits, SequenceLimits, ResumableLimits {
  /** Sessions that may be open over all sockets; past it one of a lower class gives way. @default 8192 */
  readonly sessions: number;
}

/** A certificate with its chain and its private key, as PEM. */
export interface Tls {
  readonly cert: string | Buffer;
  readonly key: string | Buffer;
}

export interface ServerSettings {
  readonly runtime: Runtime;
  /** @default "127.0.0.1" */
  readonly host?: string;
  /** Of HTTP and WebSocket; 0 takes a free one. @default 8080 */
  readonly port?: number;
  /** Of gRPC; 0 takes a free one. @default no gRPC */
  readonly grpcPort?: number;
  readonly limits?: Partial<ServerLimits>;
  /** What answers index, load and unload. @default the runtime's models, which cannot change */
  readonly repository?: Repository;
  /** What the server says its version is. @default "0" */
  readonly version?: string;
  /** The latest decisions about buffers, oldest first, for `GET /v2/decisions`. @default none */
  readonly decisions?: () => readonly WireDecision[];
  /** Keys that callers need, over every door. @default anybody may call */
  readonly keys?: readonly KeyEntry[];
  /** Whether `/metrics` needs no key. @default false */
  readonly openMetrics?: boolean;
  /** For HTTPS, WSS and gRPC over TLS. @default no encryption */
  readonly tls?: Tls;
  /** Origins whose pages may call besides this server's own; "*" for all. @default none */
  readonly allowedOrigins?: readonly string[];
  /** Whether WebSocket messages of 1 KiB and more are compressed for clients that offer it. @default false */
  readonly compression?: boolean;
  /** Hears of every session and sequence that the server ended. @default nobody */
  readonly evicted?: (eviction: Eviction) => void;
  /** Hears of errors that are no faults; their clients are told "internal error". @default nobody */
  readonly unexpected?: (error: unknown) => void;
  /** Hears of every request, session and request of a sequence once it has ended. @default nobody */
  readonly ended?: (model: string, served: Served) => void;
  /** Whether `ended` is to see the inputs of requests. @default false */
  readonly keepsInputs?: boolean;
}

export interface Server {
  readonly host: string;
  readonly port: number;
  readonly grpcPort?: number;
  /** Takes other keys or another certificate from now on; sockets whose key is gone are closed. Throws where the certificate is none. */
  reload(changes: { readonly keys?: readonly KeyEntry[]; readonly tls?: Tls }): void;
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
  bodyBytes: 64 * 2 ** 20,
  requestMs: 60_000,
  sequences: 4096,
  sequenceRequests: 64,
  sessions: 8192,
  graceMs: 60_000,
  parked: 1024,
};

/** Serves a runtime over WebSocket and HTTP, and gRPC where it has a port. Rejects where a port cannot be had. Does not close the runtime. */
export async function startServer(settings: ServerSettings): Promise<Server> {
  const { runtime, host = "127.0.0.1", port = 8080, version = "0", unexpected = () => {} } = settings;
  const { grpcPort, repository = fixedRepository(runtime), tls, evicted = () => {} } = settings;
  const limits = { ...DEFAULTS, ...settings.limits };
  let ready = true;
  const isReady = () => ready && repository.isReady();
  const isOpen = () => ready;
  const statistics = new Statistics(Date.now, settings.keepsInputs);
  if (settings.ended) statistics.observe(settings.ended);
  await addSpans(statistics, version);
  const doorway = counted(runtime, statistics);
  const evictions = new Evictions(evicted);
  const keyring = new Keyring(settings.keys);
  const origins = new Origins(settings.allowedOrigins ?? [], host);
  const sequences = new Sequences(runtime, statistics, evictions, limits);
  const inference = new Inference(doorway, sequences, randomUUID);
  const app = await createApp(limits, { version, unexpected, keyring, origins, tls });
  const sessions = new OpenSessions(limits.sessions);
  const resumables = new Resumables(limits, evictions, () => randomBytes(18).toString("base64url"));
  const sockets = openSockets(
    app.server,
    { doorway, limits, sessions, resumables, evictions, unexpected },
    { limits, keyring, origins, isReady: isOpen, compression: settings.compression === true },
  );
  const registry = metricsOf(runtime, {
    connections: () => sockets.size,
    sequences,
    statistics,
    resumables,
    evictions,
  });
  const door = { doorway, inference, repository, statistics, limits, version, isReady, keyring, unexpected };
  addBodies(app, limits);
  addServerRoutes(app, door);
  addModelRoutes(app, door);
  addInferRoutes(app, door);
  app.get("/v2/decisions", { schema: { hide: true } }, async () => ({
    decisions: settings.decisions?.() ?? [],
  }));
  addWatchRoutes(app, runtime, door);
  addPageRoutes(app);
  const metricsRoute = { schema: { hide: true }, config: { isOpen: settings.openMetrics === true } };
  app.get("/metrics", metricsRoute, async (_, reply) =>
    reply.type(registry.contentType).send(await registry.metrics()),
  );
  const closeAll = async () => {
    sequences.close();
    await Promise.all([sockets.close(), grpc?.close()]);
    await app.close();
  };
  let grpc: Grpc | undefined;
  try {
    if (grpcPort !== undefined) {
      const { startGrpc } = await import("./grpc/server.ts");
      grpc = await startGrpc(host, grpcPort, door, tls);
    }
    await app.listen({ host, port });
  } catch (error) {
    sockets.goAway();
    await closeAll();
    throw error;
  }
  const close = async (drainMs = 10_000) => {
    ready = false;
    inference.stopAdmitting();
    sockets.goAway();
    const until = performance.now() + drainMs;
    const isBusy = () => sockets.isBusy() || inference.active > 0 || sequences.size > 0;
    while (performance.now() < until && isBusy()) {
      await new Promise((resolve) => setTimeout(resolve, DRAIN_CHECK_MS));
    }
    await closeAll();
  };
  const bound = { host, port: (app.server.address() as AddressInfo).port };
  const reload: Server["reload"] = ({ keys, tls: next }) => {
    if (next) (app.server as unknown as TlsServer).setSecureContext(next);
    if (!keys) return;
    keyring.replace(keys);
    sockets.closeRevoked();
  };
  return { ...bound, ...(grpc ? { grpcPort: grpc.port } : {}), reload, close };
}

const DRAIN_CHECK_MS = 10;
