import { readFile } from "node:fs/promises";
import { Command, Option } from "commander";
import { Fault } from "../core/faults.ts";
import { integerList } from "./integers.ts";
import { modelPath } from "./paths.ts";

interface GatewayOptions {
  readonly plan: string;
  readonly model?: string;
  readonly functions: "local" | "aws-lambda";
  readonly name?: readonly string[];
  readonly region?: string;
  readonly endpoint?: string;
  readonly concurrency: number;
  readonly host: string;
  readonly port: number;
  readonly drainMs: number;
  readonly logLevel: string;
}

/** `cellbatch gateway`. `version` is this program's. */
export function gatewayCommand(version: string): Command {
  const integer = (least: number, most: number) => (text: string) => integerList(least, most)(text)[0]!;
  return new Command("gateway")
    .description("serve one model over WebSocket and HTTP by a buffer in front of stateless functions")
    .requiredOption("--plan <file>", "buffers and memory, by 'cellbatch plan batching --target functions'")
    .option("--model <path>", "folder or module of the model; one of the zoo of the plan's name by default")
    .addOption(
      new Option("--functions <kind>", "child processes of this machine, or AWS Lambda")
        .choices(["local", "aws-lambda"])
        .default("local"),
    )
    .addOption(
      new Option(
        "--name <memory=name>",
        "aws-lambda: name or ARN of the function of some memory; may be repeated; one name stands for all",
      ).argParser((text: string, before: string[] = []) => [...before, text]),
    )
    .option("--region <name>", "aws-lambda: region; the SDK's own by default")
    .option("--endpoint <url>", "aws-lambda: where calls go, for a local stand-in")
    .option("--concurrency <count>", "local: functions that may run at a time", integer(1, 1024), 8)
    .option("--host <address>", "address to listen on", "127.0.0.1")
    .option("--port <number>", "port to listen on; 0 takes a free one", integer(0, 65_535), 8080)
    .option("--drain-ms <ms>", "how long requests may go on after SIGTERM", integer(0, 3_600_000), 10_000)
    .addOption(
      new Option("--log-level <level>", "least level that is logged to stderr, as JSON lines")
        .choices(["debug", "info", "warn", "error", "silent"])
        .default("warn"),
    )
    .action((options: GatewayOptions) => gateway(options, version));
}

async function gateway(options: GatewayOptions, version: string): Promise<void> {
  const { pino } = await import("pino");
  const { parsePlan } = await import("../../planner/plan.ts");
  const { router } = await import("../../planner/routing.ts");
  const { WHOLE_CPU_MB } = await import("../../planner/service.ts");
  const { wallClock } = await import("../core/clock.ts");
  const { Gateway } = await import("../functions/gateway.ts");
  const { modelDefinition } = await import("../runtime/create.ts");
  const { servedModel } = await import("../runtime/served-model.ts");
  const { startServer } = await import("../server/server.ts");
  const { untilSignal } = await import("./signals.ts");
  const log = pino({ level: options.logLevel }, pino.destination(2));
  const text = await readFile(options.plan, "utf8").catch((cause: Error) => {
    throw new Fault("INVALID_REQUEST", `plan ${options.plan} cannot be read: ${cause.message}`, { cause });
  });
  const plan = parsePlan(text, options.plan);
  if (plan.target !== "functions")
    throw new Fault("INVALID_REQUEST", `plan ${options.plan} is for a server: use it with 'cellbatch serve'`);
  const model = options.model ?? modelPath(plan.model);
  const definition = await modelDefinition(model);
  if (definition.name !== plan.model)
    throw new Fault(
      "INVALID_REQUEST",
      `the plan is for model '${plan.model}', ${model} is '${definition.name}'`,
    );
  const runtime = new Gateway({
    model: await servedModel(definition),
    buffers: plan.buffers.map((buffer) => ({ ...buffer, memoryMb: buffer.memoryMb ?? WHOLE_CPU_MB })),
    ...(plan.routing ? { route: router(plan.routing, 1) } : {}),
    invoker: await invokerFor(model, options),
    clock: wallClock,
    called: (call) => log.debug(call, "a function was called"),
  });
  const { host, port, drainMs } = options;
  const unexpected = (error: unknown) =>
    log.error({ err: error }, "a request failed for no fault of its own");
  const server = await startServer({ runtime, host, port, version, unexpected }).catch(
    async (error: unknown) => {
      await runtime.close(0);
      throw error;
    },
  );
  process.stdout.write(
    `Serving ${plan.model} by ${options.functions} functions through ${plan.buffers.length} buffers on ${host}:${server.port}.\n`,
  );
  await untilSignal();
  await server.close(drainMs);
  await runtime.close(drainMs);
  const { accepted, completed, failed, tasks } = runtime.stats();
  process.stdout.write(
    `Stopped: ${accepted} accepted, ${completed} completed, ${failed} failed, ${tasks} calls.\n`,
  );
}

async function invokerFor(model: string, options: GatewayOptions) {
  const { functions, concurrency, name = [], region, endpoint } = options;
  if (functions === "local") {
    const { LocalFunctions } = await import("../functions/local.ts");
    return new LocalFunctions({ model, concurrency });
  }
  const { LambdaFunctions } = await import("../functions/lambda.ts");
  return LambdaFunctions.open({
    names: namesOf(name),
    ...(region === undefined ? {} : { region }),
    ...(endpoint === undefined ? {} : { endpoint }),
  });
}

/** `NAME` for all memories, or `MEMORY=NAME` for each. */
function namesOf(given: readonly string[]): string | Record<number, string> {
  const [first] = given;
  if (first === undefined) throw new Fault("INVALID_REQUEST", "functions of AWS Lambda need a --name");
  if (given.length === 1 && !/^\d+=/.test(first)) return first;
  return Object.fromEntries(
    given.map((one) => {
      const [, memory, name] = /^(\d+)=(.+)$/.exec(one) ?? [];
      if (!name) throw new Fault("INVALID_REQUEST", `'${one}' is no name by memory, as 1769=my-function`);
      return [Number(memory), name];
    }),
  );
}
