import {
  Server as GrpcServer,
  type handleUnaryCall,
  type Metadata,
  ServerCredentials,
  type ServerUnaryCall,
  type ServerWritableStream,
  status,
  type UntypedServiceImplementation,
} from "@grpc/grpc-js";
import { Fault } from "../../core/faults.ts";
import type { Caller } from "../access/caller.ts";
import type { Keyring } from "../access/keyring.ts";
import type { Inference } from "../oip/inference.ts";
import { configOf, extensions, metadataOf, modelOf } from "../oip/metadata.ts";
import { refuseReserved } from "../oip/parameters.ts";
import { type Repository, refuseOverrides } from "../oip/repository.ts";
import type { SequenceLimits } from "../oip/sequences.ts";
import type { Doorway, Statistics } from "../oip/statistics.ts";
import { failureOf } from "./failures.ts";
import { readRequest, type WireRequest, writeAnswer } from "./messages.ts";
import { loadServices } from "./protos.ts";
import { ALLOWED_RESERVED, type InferStream, serveStream } from "./stream-infer.ts";

/** What the calls answer from. */
export interface GrpcDoor {
  readonly doorway: Doorway;
  readonly inference: Inference;
  readonly repository: Repository;
  readonly statistics: Statistics;
  readonly limits: SequenceLimits & { readonly bodyBytes: number; readonly slowMs: number };
  /** Of this server, for its metadata. */
  readonly version: string;
  readonly isReady: () => boolean;
  readonly keyring: Keyring;
  readonly unexpected: (error: unknown) => void;
}

export interface Grpc {
  readonly port: number;
  /** Ends open streams after their answers, and resolves once all calls are over. */
  close(): Promise<void>;
}

/** Serves `inference.GRPCInferenceService` and the standard health service. Rejects where the port cannot be had. */
export async function startGrpc(
  host: string,
  port: number,
  door: GrpcDoor,
  tls?: { readonly cert: string | Buffer; readonly key: string | Buffer },
): Promise<Grpc> {
  const { inference, health } = loadServices();
  const streams = new Set<{ readonly end: () => void }>();
  const watchers = new HealthWatchers(door.isReady);
  const server = new GrpcServer({
    "grpc.max_receive_message_length": door.limits.bodyBytes,
    "grpc.max_send_message_length": -1,
  });
  server.addService(inference, inferenceOf(door, streams));
  server.addService(health, healthOf(watchers, streams));
  const address = `${host.includes(":") ? `[${host}]` : host}:${port}`;
  const bound = await new Promise<number>((resolve, reject) => {
    server.bindAsync(address, credentialsOf(tls), (cause, taken) => {
      if (!cause) return resolve(taken);
      const message = `port ${port} of ${host} for gRPC cannot be had: ${cause.message}`;
      reject(new Fault("INTERNAL", message, { cause }));
    });
  });
  return {
    port: bound,
    close: async () => {
      for (const stream of streams) stream.end();
      watchers.close();
      const late = setTimeout(() => server.forceShutdown(), CLOSE_MS);
      await new Promise<void>((resolve) => server.tryShutdown(() => resolve()));
      clearTimeout(late);
    },
  };
}

const CLOSE_MS = 1000;

function credentialsOf(tls: Parameters<typeof startGrpc>[3]): ServerCredentials {
  if (!tls) return ServerCredentials.createInsecure();
  const pair = { cert_chain: Buffer.from(tls.cert), private_key: Buffer.from(tls.key) };
  return ServerCredentials.createSsl(null, [pair], false);
}

/** Whose key a call's metadata holds, as `authorization: Bearer <key>`. Throws UNAUTHORIZED. */
function callerOf(keyring: Keyring, metadata: Metadata): Caller {
  return keyring.callerOfHeader(metadata.get("authorization")[0]?.toString());
}

interface OfModel {
  readonly name: string;
  readonly version: string;
}

interface OfRepository {
  readonly model_name: string;
  readonly parameters: Readonly<Record<string, unknown>>;
}

function inferenceOf(door: GrpcDoor, streams: Set<{ end: () => void }>): UntypedServiceImplementation {
  const { doorway, inference, repository, statistics, limits, version, isReady, keyring, unexpected } = door;
  const unary =
    <Request>(
      answer: (
        request: Request,
        caller: Caller,
        call: ServerUnaryCall<Request, object>,
      ) => object | Promise<object>,
    ): handleUnaryCall<Request, object> =>
    async (call, callback) => {
      try {
        callback(null, await answer(call.request, callerOf(keyring, call.metadata), call));
      } catch (error) {
        callback(failureOf(error, unexpected));
      }
    };
  const find = ({ name, version: wanted }: OfModel, caller: Caller) =>
    modelOf(caller.guard(doorway), name, wanted);
  return {
    // Open to all, as over HTTP.
    ServerLive: ((_, callback) => callback(null, { live: true })) satisfies handleUnaryCall<unknown, object>,
    ServerReady: ((_, callback) => callback(null, { ready: isReady() })) satisfies handleUnaryCall<
      unknown,
      object
    >,
    ServerMetadata: unary(() => ({ name: "cellbatch", version, extensions })),
    ModelReady: unary(({ name, version: wanted }: OfModel, caller) => ({
      ready: caller
        .guard(doorway)
        .models.some((model) => model.name === name && (!wanted || wanted === model.version)),
    })),
    ModelMetadata: unary((request: OfModel, caller) =>
      metadataOf(find(request, caller), caller.guard(doorway)),
    ),
    ModelConfig: unary((request: OfModel, caller) => ({
      config: configOf(find(request, caller), caller.guard(doorway), limits),
    })),
    ModelStatistics: unary((request: OfModel, caller) => {
      const models = request.name === "" ? caller.guard(doorway).models : [find(request, caller)];
      return { model_stats: models.map((model) => statistics.of(model.name, model.version)) };
    }),
    RepositoryIndex: unary(({ ready }: { readonly ready: boolean }, caller) => ({
      models: repository
        .index()
        .filter(({ name, state }) => caller.mayUse(name) && (!ready || state === "READY")),
    })),
    RepositoryModelLoad: unary(async ({ model_name, parameters }: OfRepository, caller) => {
      caller.checkAdmin("load models");
      refuseOverrides(model_name, Object.keys(parameters));
      await repository.load(model_name);
      return {};
    }),
    RepositoryModelUnload: unary(async ({ model_name }: OfRepository, caller) => {
      caller.checkAdmin("unload models");
      await repository.unload(model_name);
      return {};
    }),
    ModelInfer: unary(async (wire: WireRequest, caller, call) => {
      const request = readRequest(wire, call.metadata);
      refuseReserved(request.parameters, ALLOWED_RESERVED);
      const gone = new AbortController();
      call.on("cancelled", () => gone.abort());
      return writeAnswer(await inference.infer(request, { caller, signal: gone.signal }));
    }),
    ModelStreamInfer: (call: InferStream) => {
      let caller: Caller;
      try {
        caller = callerOf(keyring, call.metadata);
      } catch (error) {
        call.emit("error", failureOf(error, unexpected));
        return;
      }
      const stream = serveStream(call, caller, { inference, slowMs: limits.slowMs, unexpected });
      streams.add(stream);
      call.on("close", () => streams.delete(stream));
      call.on("end", () => streams.delete(stream));
      call.on("cancelled", () => streams.delete(stream));
    },
  };
}

interface HealthRequest {
  readonly service: string;
}

type HealthCall = ServerWritableStream<HealthRequest, object>;

/** Tells those who watch the server's health whenever it changes. */
class HealthWatchers {
  readonly #isReady: () => boolean;
  readonly #calls = new Set<HealthCall>();
  readonly #timer: NodeJS.Timeout;
  #told: string;

  constructor(isReady: () => boolean) {
    this.#isReady = isReady;
    this.#told = this.status;
    this.#timer = setInterval(() => this.#tell(), HEALTH_MS);
    this.#timer.unref();
  }

  get status(): string {
    return this.#isReady() ? "SERVING" : "NOT_SERVING";
  }

  add(call: HealthCall): void {
    call.write({ status: this.status });
    this.#calls.add(call);
    call.on("cancelled", () => this.#calls.delete(call));
  }

  close(): void {
    clearInterval(this.#timer);
    this.#tell();
    for (const call of this.#calls) call.end();
  }

  #tell(): void {
    const { status } = this;
    if (status === this.#told) return;
    this.#told = status;
    for (const call of this.#calls) call.write({ status });
  }
}

const HEALTH_MS = 100;

function healthOf(watchers: HealthWatchers, streams: Set<{ end: () => void }>): UntypedServiceImplementation {
  const isKnown = ({ service }: HealthRequest) =>
    service === "" || service === "inference.GRPCInferenceService";
  return {
    Check: ((call, callback) => {
      if (isKnown(call.request)) callback(null, { status: watchers.status });
      else callback({ code: status.NOT_FOUND, details: `there is no service '${call.request.service}'` });
    }) satisfies handleUnaryCall<HealthRequest, object>,
    Watch: (call: HealthCall) => {
      if (isKnown(call.request)) watchers.add(call);
      else {
        // It may become known: the protocol wants the stream to stay.
        call.write({ status: "SERVICE_UNKNOWN" });
        const stream = { end: () => call.end() };
        streams.add(stream);
        call.on("cancelled", () => streams.delete(stream));
      }
    },
  };
}
