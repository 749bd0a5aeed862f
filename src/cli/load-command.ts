import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Command, InvalidArgumentError, Option } from "commander";
import { Fault } from "../core/faults.ts";
import type { LoadReport, RateReport } from "../load/run-load.ts";
import { integerList } from "./integers.ts";
import { table } from "./table.ts";

interface LoadOptions {
  readonly model?: string;
  readonly rate: readonly number[];
  readonly seconds: number;
  readonly warmUp: number;
  readonly arrivals: string;
  readonly lengths: string;
  readonly texts?: string;
  readonly tokens: number;
  readonly maxSteps?: number;
  readonly connections?: number;
  readonly header?: Readonly<Record<string, string>>;
  readonly seed: number;
  readonly json: boolean;
  readonly out?: string;
}

/** `cellbatch load`. */
export function loadCommand(): Command {
  return new Command("load")
    .description(
      "send requests to a running server at given rates, whether or not it keeps up, and measure latencies",
    )
    .argument("<url>", "ws://HOST:PORT, http://HOST:PORT or grpc://HOST:PORT; wss, https and grpcs with TLS")
    .option("--model <name>", "the model to ask; the only one by default")
    .option("--rate <rates>", "requests per second; several are measured one after the other", rates, [10])
    .option("--seconds <s>", "how long each rate is measured", seconds, 10)
    .option("--warm-up <s>", "how long requests are sent before that, without being counted", seconds, 2)
    .option("--arrivals <spec>", "poisson, gamma:CV, mmpp:BURST,SECONDS or trace:FILE", "poisson")
    .option("--lengths <spec>", "wmt, wordnet, fixed:N, uniform:A,B or file:PATH", "wmt")
    .option("--texts <file>", "texts to send, one per line; random letters by default")
    .option("--tokens <count>", "integer inputs are drawn from 0 to this, less one", one(1, 2 ** 31 - 1), 1)
    .option("--max-steps <count>", "most cells of a request that generates", one(1, 2 ** 31 - 1))
    .option("--connections <count>", "sockets or channels; 4 by default, with HTTP 256", one(1, 10_000))
    .addOption(
      new Option("--header <name:value>", "sent with every request; may be repeated").argParser(header),
    )
    .option("--seed <number>", "of arrivals and lengths", one(0, 2 ** 31 - 1), 1)
    .option("--json", "print the report as JSON", false)
    .option("--out <folder>", "write load.json, load.html and the plots there")
    .addHelpText(
      "after",
      "\nLatencies count from the intended send time. Ctrl-C ends the run and reports what was measured.",
    )
    .action(load);
}

async function load(url: string, options: LoadOptions): Promise<void> {
  // Loaded here, since the other commands need none of it and should not wait.
  const { runLoad } = await import("../load/run-load.ts");
  const { parseArrivals } = await import("../load/arrivals.ts");
  const { parseLengths } = await import("../load/lengths.ts");
  const { progressOn } = await import("./progress.ts");
  if (!URL.canParse(url))
    throw new Fault("INVALID_REQUEST", `'${url}' is no URL, such as ws://127.0.0.1:8080`);
  const stop = new AbortController();
  const interrupt = () => stop.abort();
  process.once("SIGINT", interrupt);
  const progress = await progressOn(process.stderr);
  const { rate, lengths, arrivals, texts, model, maxSteps, connections, header: headers = {} } = options;
  const report = await runLoad({
    url: new URL(url),
    rates: rate,
    seconds: options.seconds,
    warmSeconds: options.warmUp,
    arrivals: parseArrivals(arrivals),
    lengths: parseLengths(lengths),
    tokens: options.tokens,
    seed: options.seed,
    headers,
    signal: stop.signal,
    began: (next, requests) => progress.part(`${next} requests per second`, requests),
    ended: () => progress.step(),
    ...(texts === undefined ? {} : { texts: await linesOf(texts) }),
    ...(model === undefined ? {} : { model }),
    ...(maxSteps === undefined ? {} : { maxSteps }),
    ...(connections === undefined ? {} : { connections }),
  }).finally(() => progress.stop());
  process.off("SIGINT", interrupt);
  const described = { ...report, arrivals, lengths };
  process.stdout.write(options.json ? `${JSON.stringify(described)}\n` : textOf(report));
  if (options.out !== undefined) await writeReport(options.out, described);
  if (report.rates.some(({ answered }) => answered === 0)) process.exitCode = 1;
}

const HEADING = [
  "requests/s",
  "sent",
  "answered/s",
  "p50 ms",
  "p90 ms",
  "p99 ms",
  "p99.9 ms",
  "most ms",
  "failed",
];

function rowOf({ rate, sent, answersPerSecond, p50, p90, p99, p999, most, failed }: RateReport): string[] {
  const ms = (value: number | null) => (value === null ? "-" : value.toFixed(value < 100 ? 1 : 0));
  return [
    String(rate),
    String(sent),
    answersPerSecond.toFixed(1),
    ...[p50, p90, p99, p999, most].map(ms),
    String(failed),
  ];
}

function textOf({ url, model, rates: all, interrupted }: LoadReport): string {
  const lines = all.flatMap(({ rate, bottleneck, failures, saturated }) => [
    ...Object.entries(failures).map(([message, count]) => `${rate} requests/s: ${count} failed: ${message}`),
    ...(saturated
      ? [`${rate} requests/s: more than the server answers; latencies grow for as long as it lasts`]
      : []),
    ...(bottleneck ? [`${rate} requests/s: THE GENERATOR IS THE BOTTLENECK: ${bottleneck}`] : []),
  ]);
  return (
    `model '${model}' at ${url}; latencies from the intended send time${interrupted ? "; interrupted" : ""}\n` +
    `${table([HEADING, ...all.map(rowOf)])}${lines.map((line) => `${line}\n`).join("")}`
  );
}

async function writeReport(folder: string, report: LoadReport): Promise<void> {
  const { loadPlots } = await import("./load-plot.ts");
  const { page } = await import("../plot/page.ts");
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, "load.json"), `${JSON.stringify(report, undefined, 1)}\n`);
  const plots = await loadPlots(report).catch((error: unknown) => {
    process.stderr.write(`no plots: ${Fault.from(error).message}\n`);
    return [];
  });
  for (const { name, svg } of plots) await writeFile(join(folder, `${name}.svg`), svg);
  const section = {
    title: report.model,
    plots: plots.map(({ svg }) => svg),
    tables: [[HEADING, ...report.rates.map(rowOf)]],
  };
  await writeFile(
    join(folder, "load.html"),
    page("cellbatch load", textOf(report).split("\n").slice(0, 1), [section]),
  );
  process.stderr.write(`Wrote ${join(folder, "load.html")}, load.json and ${plots.length} plots as SVG.\n`);
}

async function linesOf(file: string): Promise<string[]> {
  const text = await readFile(file, "utf8").catch((error: Error) => {
    throw new Fault("INVALID_REQUEST", `texts ${file} cannot be read: ${error.message}`);
  });
  const lines = text.split("\n").filter((line) => line.trim() !== "");
  if (lines.length === 0) throw new Fault("INVALID_REQUEST", `texts ${file} holds no line`);
  return lines;
}

function rates(text: string): number[] {
  return text.split(",").map((part) => {
    const value = Number(part);
    if (part.trim() !== "" && value > 0 && value <= 1_000_000) return value;
    throw new InvalidArgumentError(`'${part}' is no number above 0, up to a million.`);
  });
}

function seconds(text: string): number {
  const value = Number(text);
  if (text.trim() !== "" && value >= 0.1 && value <= 86_400) return value;
  throw new InvalidArgumentError("It must be a number of seconds from 0.1 to 86400.");
}

function one(least: number, most: number): (text: string) => number {
  return (text) => integerList(least, most)(text)[0]!;
}

function header(text: string, before: Readonly<Record<string, string>> = {}): Record<string, string> {
  const at = text.indexOf(":");
  if (at < 1) throw new InvalidArgumentError("It must be NAME:VALUE.");
  return { ...before, [text.slice(0, at).trim().toLowerCase()]: text.slice(at + 1).trim() };
}
