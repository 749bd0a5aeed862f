import { randomUUID } from "node:crypto";
import type { AddressInfo } from "node:net";
import type { Runtime } from "../runtime/types.ts";
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
import { openSockets, type SocketLimits } from "./sockets.ts";
import { addSpans } from "./spans.ts";

export interface ServerLimits extends SocketLimits, HttpLimits, SequenceLimits {}

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
  readonly decisions?: () => readonly unknown[];
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
};

/** Serves a runtime over WebSocket and HTTP, and gRPC where it has a port. Rejects where a port cannot be had. Does not close the runtime. */
export async function startServer(settings: ServerSettings): Promise<Server> {
  const { runtime, host = "127.0.0.1", port = 8080, version = "0", unexpected = () => {} } = settings;
  const { grpcPort, repository = fixedRepository(runtime) } = settings;
  const limits = { ...DEFAULTS, ...settings.limits };
  let ready = true;
  const isReady = () => ready && repository.isReady();
  const isOpen = () => ready;
  const statistics = new Statistics(Date.now, settings.keepsInputs);
  if (settings.ended) statistics.observe(settings.ended);
  await addSpans(statistics, version);
  const doorway = counted(runtime, statistics);
  const sequences = new Sequences(runtime, statistics, limits);
  const inference = new Inference(doorway, sequences, randomUUID);
  const app = await createApp(limits, { version, unexpected });
  const sockets = openSockets(app.server, doorway, limits, isOpen);
  const registry = metricsOf(runtime, () => sockets.size, sequences, statistics);
  const door = { doorway, inference, repository, statistics, limits, version, isReady, unexpected };
  addBodies(app, limits);
  addServerRoutes(app, door);
  addModelRoutes(app, door);
  addInferRoutes(app, door);
  app.get("/v2/decisions", { schema: { hide: true } }, async () => ({
    decisions: settings.decisions?.() ?? [],
  }));
  addWatchRoutes(app, runtime, limits);
  addPageRoutes(app);
  app.get("/metrics", { schema: { hide: true } }, async (_, reply) =>
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
      grpc = await startGrpc(host, grpcPort, door);
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
  return { ...bound, ...(grpc ? { grpcPort: grpc.port } : {}), close };
}

const DRAIN_CHECK_MS = 10;
