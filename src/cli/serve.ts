import { type Logger, pino } from "pino";
import type { PolicyName } from "../../scheduler/policy.ts";
import type { Decision } from "../adapt/adapter.ts";
import { observed } from "../adapt/observed.ts";
import { Fault } from "../core/faults.ts";
import { ModelRepository } from "../repository/repository.ts";
import { createRuntime } from "../runtime/create.ts";
import type { Runtime } from "../runtime/types.ts";
import type { Eviction } from "../server/evictions.ts";
import { type Server, startServer } from "../server/server.ts";
import { type AccessOptions, exposureWarning, readAccess } from "./access.ts";
import { modelLine } from "./models.ts";
import { modelPaths } from "./paths.ts";
import type { RepositoryOptions } from "./repository-options.ts";
import { requestLog } from "./request-log.ts";
import { adapterFor, obey, Recorder, serverPlan } from "./serve-plan.ts";
import { untilSignal } from "./signals.ts";

export interface ServeOptions extends RepositoryOptions, AccessOptions {
  readonly host: string;
  readonly port: number;
  readonly grpcPort?: number;
  readonly model?: readonly string[];
  readonly profile?: readonly string[];
  readonly engines?: number;
  readonly threads: number;
  readonly device: "auto" | "cuda" | "cpu";
  readonly numbers: "fp32" | "tf32" | "bf16";
  readonly provider?: readonly string[];
  readonly kernel?: string;
  readonly maxBatch?: number;
  readonly maxActive: number;
  readonly policy: PolicyName;
  readonly drainMs: number;
  readonly compression: boolean;
  readonly logLevel: string;
  readonly plan?: string;
  readonly adapt: boolean;
  readonly record?: string;
  readonly recordLimit: number;
  readonly logInputs: boolean;
}

/** Serves until SIGTERM or SIGINT, then drains; a second signal ends the process at once. `version` is this program's. */
export async function serve(options: ServeOptions, version: string): Promise<void> {
  const { host, port, grpcPort, threads, device, numbers, provider, kernel, maxActive, policy, drainMs } =
    options;
  const log = pino({ level: options.logLevel }, pino.destination(2));
  checkRepositoryOptions(options);
  const started = performance.now();
  const access = await readAccess(options);
  const { paths, missing } = options.models === undefined ? modelPaths(options.model) : NO_PATHS;
  const { memoryLimit, recordLimit } = options;
  if (options.adapt && options.plan === undefined)
    throw new Fault(
      "INVALID_REQUEST",
      "--adapt needs a --plan to begin with: 'cellbatch plan batching' writes one",
    );
  const plan = options.plan === undefined ? undefined : await serverPlan(options.plan);
  const engines = options.engines ?? plan?.engines;
  const maxBatch = options.maxBatch ?? plan?.maxBatch;
  const loaded = await createRuntime({
    models: paths,
    threads,
    device,
    numbers,
    maxActive,
    policy,
    ...(memoryLimit === undefined ? {} : { memoryLimit }),
    ...(options.profile ? { profiles: options.profile } : {}),
    ...(engines === undefined ? {} : { engines }),
    ...(provider === undefined ? {} : { providers: provider }),
    ...(kernel === undefined ? {} : { kernel }),
    ...(maxBatch === undefined ? {} : { maxBatch }),
    ...(options.record === undefined ? {} : { record: options.record, recordLimit }),
  });
  const decisions: Decision[] = [];
  const decided = (decision: Decision) => {
    log.warn(decision, "the buffers were decided on");
    decisions.push(decision);
    if (decisions.length > MOST_DECISIONS) decisions.shift();
  };
  const observers: ((model: string, size: number) => void)[] = [];
  const closing: { close(): Promise<void> }[] = [];
  try {
    if (plan) obey(loaded, plan);
    if (plan && options.adapt) {
      const adapter = await adapterFor(loaded, plan, options.profile ?? [], { threads, decided });
      observers.push((model, size) => model === plan.model && adapter.arrived(size));
      closing.push(adapter);
    }
    if (options.record !== undefined) {
      const full = (message: string) =>
        log.warn({ file: options.record }, `requests are recorded no more: ${message}`);
      const recorder = await Recorder.open({ path: options.record, limit: recordLimit, full });
      observers.push((_, size) => recorder.arrived(size));
      closing.push(recorder);
    }
  } catch (error) {
    await loaded.close(0);
    throw error;
  }
  const runtime =
    observers.length === 0
      ? loaded
      : observed(loaded, (model, size) => {
          for (const arrived of observers) arrived(model, size);
        });
  const unexpected = (error: unknown) =>
    log.error({ err: error }, "a request failed for no fault of its own");
  const repository = repositoryOf(options, loaded, log);
  const { openMetrics, compression, allowOrigin = [] } = options;
  const doors = {
    ...{ host, port, ...access, openMetrics, compression, allowedOrigins: allowOrigin },
    ...(grpcPort === undefined ? {} : { grpcPort }),
    ...(repository ? { repository } : {}),
    decisions: () => decisions,
    ended: requestLog(log, options.logInputs),
    keepsInputs: options.logInputs && log.isLevelEnabled("debug"),
  };
  const evicted = (eviction: Eviction) => log.info(eviction, "a session was evicted");
  const server = await startServer({ runtime, ...doors, version, unexpected, evicted }).catch(
    async (error: NodeJS.ErrnoException) => {
      await runtime.close(0);
      if (error.code !== "EADDRINUSE") throw error;
      const message = `port ${port} of ${host} is in use: stop what listens there or choose another --port`;
      throw new Fault("INTERNAL", message);
    },
  );
  // The server answers meanwhile, and says that it is not ready.
  await repository?.start().catch(async (error) => {
    await shutDown(server, runtime, repository, 0);
    throw error;
  });
  for (const model of runtime.models) print(modelLine(model));
  for (const { name, reason } of missing) print(`${name.padEnd(12)} not served: ${reason}`);
  const address = `${host.includes(":") ? `[${host}]` : host}:${server.port}`;
  const grpcAddress = server.grpcPort === undefined ? "" : ` and gRPC on port ${server.grpcPort}`;
  print(
    `\nServing ${runtime.models.length} models with ${runtime.stats().engines} engines on ${address}${grpcAddress}, ready after ${Math.round(performance.now() - started)} ms. Try:\n`,
  );
  const warning = exposureWarning(host, options);
  if (warning) process.stderr.write(`${warning}\n`);
  const reload = () => {
    readAccess(options)
      .then((changes) => server.reload(changes))
      .then(() => log.info("keys and certificate were read again"))
      .catch((error) => log.error({ err: error }, "keys and certificate stay as they were"));
  };
  process.on("SIGHUP", reload);
  const shown = runtime.models.find(({ example }) => example);
  if (shown) {
    const message = { type: "infer", id: "1", model: shown.name, inputs: shown.example };
    const s = access.tls ? "s" : "";
    const key = access.keys ? ` -H "Authorization: Bearer $KEY"` : "";
    print(
      `  npx wscat${key} -s cellbatch.v1 -w 1 -c ws${s}://${address}/v1/stream -x '${JSON.stringify(message)}'`,
    );
    print(
      `  curl${key} -d '${JSON.stringify(shown.example)}' http${s}://${address}/v2/models/${shown.name}/generate`,
    );
    print(`  npx cellbatch run ${shown.name} ${JSON.stringify(Object.values(shown.example!)[0])}\n`);
  }
  print(`  http://${address}/ is a playground, and shows what the engines do\n`);
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
  await shutDown(server, runtime, repository, drainMs);
  await Promise.all(closing.map((one) => one.close()));
  const { accepted, completed, failed } = runtime.stats();
  log.info({ accepted, completed, failed }, "stopped");
  print(`Stopped: ${accepted} accepted, ${completed} completed, ${failed} failed.`);
}

const MOST_DECISIONS = 100;

async function shutDown(
  server: Server,
  runtime: Runtime,
  repository: ModelRepository | undefined,
  drainMs: number,
): Promise<void> {
  // A load that is under way ends with the runtime.
  const closed = repository?.close();
  await server.close(drainMs);
  await runtime.close(drainMs);
  await closed;
}

const NO_PATHS = { paths: [], missing: [] } as const;

/** Throws INVALID_REQUEST for options that need a folder of models, or exclude each other. */
function checkRepositoryOptions({ models, watch, modelControl, loadModel }: RepositoryOptions): void {
  const refuse = (message: string) => {
    throw new Fault("INVALID_REQUEST", message);
  };
  if (watch && modelControl === "explicit")
    refuse("--watch loads what changes, with --model-control explicit clients decide: choose one");
  if (loadModel && modelControl !== "explicit") refuse("--load-model needs --model-control explicit");
  if (models === undefined && (watch || modelControl === "explicit"))
    refuse("--watch and --model-control need a folder: --models <dir>");
}

/** The folder of models, where there is one. */
function repositoryOf(options: ServeOptions, runtime: Runtime, log: Logger): ModelRepository | undefined {
  const { models: dir, watch, modelControl, loadModel, modelVersions, drainMs } = options;
  if (dir === undefined) return undefined;
  return new ModelRepository({
    dir,
    runtime,
    control: watch ? "watch" : modelControl,
    versions: modelVersions,
    drainMs,
    ...(loadModel ? { initial: loadModel } : {}),
    tell: (event) => {
      const { kind, ...about } = event;
      if (kind === "refused") log.error(about, "a model was refused; what was loaded before stays");
      else log.info(about, `a model was ${kind}`);
    },
  });
}

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}
