import { Command, InvalidArgumentError } from "commander";
import { Load } from "./load.ts";
import { ServerProcess } from "./server.ts";

const positive = (text: string) => {
  const value = Number(text);
  if (value > 0) return value;
  throw new InvalidArgumentError("It must be a number above 0.");
};

const options = new Command("demo")
  .description(
    "The same load on two servers with one engine each: cellular batching, and one request at a time.",
  )
  .option("--seconds <number>", "how long", positive, 20)
  .option("--clients <count>", "WebSocket clients per server, a tenth of which stream audio", positive, 200)
  .option("--pause-ms <number>", "mean pause of a client between answer and question", positive, 300)
  .parse()
  .opts<{ seconds: number; clients: number; pauseMs: number }>();

interface Side {
  readonly name: string;
  readonly server: ServerProcess;
  readonly load: Load;
  active: number;
  rowsPerTask: number;
  cellsPerSecond: number;
}

process.stdout.write("Starting two servers and connecting clients...\n");
const sides: Side[] = await Promise.all(
  [
    { name: "cellular", args: ["--engines", "1"] },
    { name: "one at a time", args: ["--engines", "1", "--max-batch", "1"] },
  ].map(async ({ name, args }) => {
    const server = await ServerProcess.start(args);
    const load = new Load({
      port: server.port,
      clients: options.clients,
      voices: 0.1,
      pauseMs: options.pauseMs,
    });
    return { name, server, load, active: 0, rowsPerTask: 0, cellsPerSecond: 0 };
  }),
);
await Promise.all(sides.map(({ load }) => load.start()));
const started = performance.now();
const seconds = () => (performance.now() - started) / 1000;
let drawn = 0;
while (seconds() < options.seconds) {
  await new Promise((resolve) => setTimeout(resolve, 500));
  for (const side of sides) Object.assign(side, await side.server.sample());
  if (process.stdout.isTTY) {
    if (drawn > 0) process.stdout.write(`\x1b[${drawn}A\x1b[J`);
    const lines = live();
    drawn = lines.length;
    process.stdout.write(`${lines.join("\n")}\n`);
  }
}
const measured = seconds();
for (const { load } of sides) load.stop();
process.stdout.write(`${result(measured).join("\n")}\n`);
await Promise.all(sides.map(({ server }) => server.stop()));

function live(): string[] {
  const header = ["", "active", "rows/task", "cells/s", "answers", "p50 ms", "p90 ms", "p99 ms", "voice p99"];
  const rows = sides.map(({ name, load, active, rowsPerTask, cellsPerSecond }) => [
    name,
    String(active),
    rowsPerTask.toFixed(1),
    cellsPerSecond.toFixed(0),
    String(load.answered),
    ...[50, 90, 99].map((percent) => load.latency.quantile(percent / 100).toFixed(1)),
    load.voiceLatency.quantile(0.99).toFixed(1),
  ]);
  return [
    `${seconds().toFixed(0)} of ${options.seconds} s, ${options.clients} clients per server`,
    ...table([header, ...rows]),
  ];
}

/** Both servers, and how many times better the first is. */
function result(measured: number): string[] {
  const [cellular, alone] = sides.map(({ load }) => [
    load.latency.count / measured,
    load.latency.quantile(0.5),
    load.latency.quantile(0.9),
    load.latency.quantile(0.99),
    load.voiceLatency.quantile(0.5),
    load.voiceLatency.quantile(0.99),
    load.errors,
  ]);
  const names = [
    "text answers/s",
    "text p50 ms",
    "text p90 ms",
    "text p99 ms",
    "voice p50 ms",
    "voice p99 ms",
    "errors",
  ];
  const rows = names.map((name, i) => {
    const [a, b] = [cellular![i]!, alone![i]!];
    const ratio = name === "errors" ? "" : `${(i === 0 ? a / b : b / a).toFixed(1)}x`;
    return [name, a.toFixed(1), b.toFixed(1), ratio];
  });
  return ["", ...table([["", ...sides.map(({ name }) => name), "better by"], ...rows])];
}

function table(rows: readonly (readonly string[])[]): string[] {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  return rows.map((row) =>
    row.map((cell, i) => (i === 0 ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!))).join("  "),
  );
}
