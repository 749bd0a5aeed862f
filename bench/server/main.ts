import { type ChildProcess, fork } from "node:child_process";
import { availableParallelism, cpus } from "node:os";
import { fileURLToPath } from "node:url";
import { Command, InvalidArgumentError } from "commander";
import { median } from "../../src/load/statistics.ts";
import type { FromEmbedded } from "./embedded.ts";
import type { Encoding, FromLoad, ToLoad } from "./load.ts";
import type { FromServer, ToServer } from "./process.ts";

const GOALS = { cells_vs_engine: 0.9, bytes_per_idle_session: 20_000 };

const options = new Command("bench:server")
  .description(
    "WebSocket sessions of Silero VAD, most of them idle, on one engine, against the same engine without a server: server, clients and engine in processes of their own.",
  )
  .option("--sessions <count>", "open sessions, one on each socket", integer, 2000)
  .option("--active <count>", "sessions that push again as soon as they are answered", integer, 500)
  .option("--seconds <s>", "how long each is measured, after a second of warming up", integer, 5)
  .option("--rounds <count>", "times that each is measured, in turn; medians count", integer, 3)
  .option("--compression", "let the server compress messages; the clients offer it always", false)
  .option("--cpu-prof", "write a profile of the server's process to this folder", false)
  .parse()
  .opts<{
    sessions: number;
    active: number;
    seconds: number;
    rounds: number;
    compression: boolean;
    cpuProf: boolean;
  }>();
const { sessions, active, seconds, rounds, compression, cpuProf } = options;
if (active > sessions) {
  process.stderr.write(`bench:server: --active is ${active}, more than the ${sessions} --sessions\n`);
  process.exit(2);
}

/** A process of its own that answers one message with one message. */
class Child {
  readonly #process: ChildProcess;

  private constructor(process: ChildProcess) {
    this.#process = process;
  }

  static async start(file: string, execArgv: string[] = [], args: string[] = []): Promise<[Child, unknown]> {
    const path = fileURLToPath(new URL(file, import.meta.url));
    const child = new Child(fork(path, args, { execArgv }));
    return [child, await child.#next()];
  }

  async ask<T>(message: ToServer | ToLoad | { active: number; seconds: number }): Promise<T> {
    const answer = this.#next();
    this.#process.send(message);
    return (await answer) as T;
  }

  /** Lets it end by itself. */
  stop(message?: ToServer): Promise<unknown> {
    const ended = new Promise((resolve) => this.#process.once("exit", resolve));
    if (message) this.#process.send(message);
    else this.#process.kill();
    return ended;
  }

  #next(): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const died = (code: number | null) => reject(new Error(`a process ended with status ${code}`));
      this.#process.once("exit", died);
      this.#process.once("message", (message) => {
        this.#process.off("exit", died);
        resolve(message);
      });
    });
  }
}

type Memory = Extract<FromServer, { kind: "memory" }>;
type Cpu = Extract<FromServer, { kind: "cpu" }>;
type Ran = Extract<FromLoad, { kind: "ran" }> & {
  /** Processor time of the server, all threads, in microseconds of one core. */
  readonly serverUsPerOutput: number;
};

const profile = cpuProf ? ["--cpu-prof"] : [];
const flags = compression ? ["--compression"] : [];
const [server, ready] = await Child.start("process.js", ["--expose-gc", ...profile], flags);
const { port } = ready as { port: number };
const [load] = await Child.start("load.js");
const [embedded] = await Child.start("embedded.js");
print(`Node ${process.version}, ${availableParallelism()} cores of ${cpus()[0]?.model}`);

// What is compiled and cached once for all is no session's.
await load.ask({ kind: "open", port, sessions: Math.min(50, sessions) });
await load.ask({ kind: "close" });
const before = await server.ask<Memory>("memory");
await load.ask({ kind: "open", port, sessions });
const after = await server.ask<Memory>("memory");
const idle = {
  rss: Math.round((after.rss - before.rss) / sessions),
  heap: Math.round((after.heap - before.heap) / sessions),
};
print(`${sessions} idle sessions: ${idle.rss} bytes each of the process, ${idle.heap} of the heap`);

const found: { engine: FromEmbedded; binary: Ran; json: Ran }[] = [];
for (let round = 1; round <= rounds; round++) {
  const engine = await embedded.ask<FromEmbedded>({ active, seconds });
  // In the other order every second time.
  const order: readonly Encoding[] = round % 2 === 1 ? ["binary", "json"] : ["json", "binary"];
  const of: Partial<Record<Encoding, Ran>> = {};
  for (const encoding of order) of[encoding] = await measure(encoding);
  found.push({ engine, binary: of.binary!, json: of.json! });
  print(
    `round ${round}: engine ${engine.cellsPerSecond.toFixed(0)} cells/s; binary ${show(of.binary!)}; JSON ${show(of.json!)}`,
  );
}
await Promise.all([load.stop(), embedded.stop()]);
await server.stop("stop");

const result = {
  sessions,
  active,
  outputs_per_second: Math.round(median(found.map(({ binary }) => binary.outputsPerSecond))),
  cells_vs_engine: rounded(
    median(found.map(({ engine, binary }) => binary.outputsPerSecond / engine.cellsPerSecond)),
  ),
  p50_ms: rounded(median(found.map(({ binary }) => binary.p50Ms))),
  p99_ms: rounded(median(found.map(({ binary }) => binary.p99Ms))),
  bytes_per_idle_session: idle.rss,
  heap_bytes_per_idle_session: idle.heap,
  json_vs_binary: rounded(
    median(found.map(({ binary, json }) => json.outputsPerSecond / binary.outputsPerSecond)),
  ),
  server_us_per_output: rounded(median(found.map(({ binary }) => binary.serverUsPerOutput))),
  server_us_per_output_json: rounded(median(found.map(({ json }) => json.serverUsPerOutput))),
  engine_us_per_cell: rounded(median(found.map(({ engine }) => engine.cpuUsPerCell))),
  client_us_per_output: rounded(median(found.map(({ binary }) => binary.clientUsPerOutput))),
  compression,
};
const isFast = result.cells_vs_engine >= GOALS.cells_vs_engine;
const isSmall = result.bytes_per_idle_session <= GOALS.bytes_per_idle_session;
print(
  `goals: ${GOALS.cells_vs_engine} of the engine's cells/s ${verdict(isFast)}, ${GOALS.bytes_per_idle_session} bytes per idle session ${verdict(isSmall)}`,
);
// Whatever the server does, all that is on these cores shares them.
const cores = availableParallelism();
const most = (cores * 1e6) / (result.engine_us_per_cell + result.client_us_per_output);
print(
  `${cores} cores could give ${most.toFixed(0)} outputs/s if a socket cost the server nothing, ${((cores * 1e6) / (result.server_us_per_output + result.client_us_per_output)).toFixed(0)} at what it costs`,
);
print(JSON.stringify(result));

/** A session's output is one cell, so outputs per second are cells per second. */
async function measure(encoding: Encoding): Promise<Ran> {
  const before = await server.ask<Cpu>("cpu");
  const ran = await load.ask<Omit<Ran, "serverUsPerOutput">>({ kind: "run", encoding, active, seconds });
  const after = await server.ask<Cpu>("cpu");
  return { ...ran, serverUsPerOutput: (after.us - before.us) / ran.outputs };
}

function show({ outputsPerSecond, p50Ms, p99Ms, serverUsPerOutput, clientUsPerOutput }: Ran): string {
  const cost = `${serverUsPerOutput.toFixed(0)} us of the server and ${clientUsPerOutput.toFixed(0)} of the clients each`;
  return `${outputsPerSecond.toFixed(0)} outputs/s, p50 ${p50Ms.toFixed(1)} ms, p99 ${p99Ms.toFixed(1)} ms, ${cost}`;
}

function verdict(isReached: boolean): string {
  return isReached ? "reached" : "MISSED";
}

function rounded(value: number): number {
  return Number(value.toPrecision(4));
}

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}

function integer(text: string): number {
  const value = Number(text);
  if (Number.isInteger(value) && value > 0) return value;
  throw new InvalidArgumentError("It must be an integer above 0.");
}
