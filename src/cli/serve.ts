import { pino } from "pino";
import type { PolicyName } from "../../scheduler/policy.ts";
import { Fault } from "../core/faults.ts";
import { createRuntime } from "../runtime/create.ts";
import { type Server, startServer } from "../server/server.ts";
import { modelLine } from "./models.ts";
import { modelPaths } from "./paths.ts";

export interface ServeOptions {
  readonly host: string;
  readonly port: number;
  readonly grpcPort?: number;
  readonly model?: readonly string[];
  readonly profile?: readonly string[];
  readonly engines?: number;
  readonly threads: number;
  readonly device: "auto" | "cuda" | "cpu";
  readonly provider?: readonly string[];
  readonly kernel?: string;
  readonly maxBatch?: number;
  readonly maxActive: number;
  readonly policy: PolicyName;
  readonly drainMs: number;
  readonly logLevel: string;
}

/** Serves until SIGTERM or SIGINT, then drains; a second signal ends the process at once. `version` is this program's. */
export async function serve(options: ServeOptions, version: string): Promise<void> {
  const {
    host,
    port,
    grpcPort,
    engines,
    threads,
    device,
    provider,
    kernel,
    maxBatch,
    maxActive,
    policy,
    drainMs,
  } = options;
  const log = pino({ level: options.logLevel }, pino.destination(2));
  const started = performance.now();
  const { paths, missing } = modelPaths(options.model);
  const runtime = await createRuntime({
    models: paths,
    threads,
    device,
    maxActive,
    policy,
    ...(options.profile ? { profiles: options.profile } : {}),
    ...(engines === undefined ? {} : { engines }),
    ...(provider === undefined ? {} : { providers: provider }),
    ...(kernel === undefined ? {} : { kernel }),
    ...(maxBatch === undefined ? {} : { maxBatch }),
  });
  const unexpected = (error: unknown) =>
    log.error({ err: error }, "a request failed for no fault of its own");
  const grpc = grpcPort === undefined ? {} : { grpcPort };
  const server = await startServer({ runtime, host, port, ...grpc, version, unexpected }).catch(
    async (error: NodeJS.ErrnoException) => {
      await runtime.close(0);
      if (error.code !== "EADDRINUSE") throw error;
      const message = `port ${port} of ${host} is in use: stop what listens there or choose another --port`;
      throw new Fault("INTERNAL", message);
    },
  );
  for (const model of runtime.models) print(modelLine(model));
  for (const { name, reason } of missing) print(`${name.padEnd(12)} not served: ${reason}`);
  const address = `${host.includes(":") ? `[${host}]` : host}:${server.port}`;
  const grpcAddress = server.grpcPort === undefined ? "" : ` and gRPC on port ${server.grpcPort}`;
  print(
    `\nServing ${runtime.models.length} models with ${runtime.stats().engines} engines on ${address}${grpcAddress}, ready after ${Math.round(performance.now() - started)} ms. Try:\n`,
  );
  const shown = runtime.models.find(({ example }) => example);
  if (shown) {
    const message = { type: "infer", id: "1", model: shown.name, inputs: shown.example };
    print(`  npx wscat -s cellbatch.v1 -w 1 -c ws://${address}/v1/stream -x '${JSON.stringify(message)}'`);
    print(`  curl -d '${JSON.stringify(shown.example)}' http://${address}/v2/models/${shown.name}/generate`);
    print(`  npx cellbatch run ${shown.name} ${JSON.stringify(Object.values(shown.example!)[0])}\n`);
  }
  log.info({ address, models: runtime.models.map(({ name }) => name) }, "serving");
  const watch = setInterval(() => warnOfRestarts(), 1000);
  let restarts = 0;
  const warnOfRestarts = () => {
    const now = runtime.stats().restarts;
    if (now > restarts) log.error({ restarts: now }, "an engine died and was started again");
    restarts = now;
  };
  await untilSignal();
  clearInterval(watch);
  await shutDown(server, () => runtime.close(drainMs), drainMs);
  const { accepted, completed, failed } = runtime.stats();
  log.info({ accepted, completed, failed }, "stopped");
  print(`Stopped: ${accepted} accepted, ${completed} completed, ${failed} failed.`);
}

async function shutDown(server: Server, closeRuntime: () => Promise<void>, drainMs: number): Promise<void> {
  await server.close(drainMs);
  await closeRuntime();
}

function untilSignal(): Promise<void> {
  return new Promise((resolve) => {
    let signals = 0;
    const heard = () => {
      signals++;
      if (signals === 1) resolve();
      else process.exit(1);
    };
    process.on("SIGTERM", heard);
    process.on("SIGINT", heard);
  });
}

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}
