import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Command, InvalidArgumentError } from "commander";
import type { Report } from "../bench/report.ts";
import type { Workload } from "../bench/workloads.ts";
import { Fault } from "../core/faults.ts";
import { integerList } from "./integers.ts";
import { modelPath } from "./paths.ts";
import { table } from "./table.ts";

interface BenchOptions {
  readonly workload?: readonly string[];
  readonly lengths?: string;
  readonly texts?: string;
  readonly maxSteps?: number;
  readonly arrivals: string;
  readonly loads: readonly number[];
  readonly seconds: number;
  readonly rounds: number;
  readonly out: string;
}

/** `cellbatch bench`. */
export function benchCommand(): Command {
  return new Command("bench")
    .description(
      "measure throughput and latency of a model, or of the built-in workloads, against other ways to serve",
    )
    .argument(
      "[model]",
      "name of a model of the zoo, or a model's folder or module; built-in workloads by default",
    )
    .option(
      "--workload <names>",
      "built-in workloads, separated by commas; --workload help lists them",
      names,
    )
    .option(
      "--lengths <spec>",
      "of a model's requests: wmt, wordnet, fixed:N, uniform:A,B or file:PATH; wmt by default",
    )
    .option("--texts <file>", "of a model that takes text: its requests, one per line")
    .option("--max-steps <count>", "most cells of a request that generates", one(1, 1_000_000))
    .option("--arrivals <spec>", "poisson, gamma:CV, mmpp:BURST,SECONDS or trace:FILE", "poisson")
    .option(
      "--loads <shares>",
      "of the highest peak, where latencies are measured",
      shares,
      [0.05, 0.2, 0.4, 0.6, 0.8, 0.95],
    )
    .option("--seconds <s>", "of each measurement", positive, 2)
    .option("--rounds <count>", "times that each is measured", one(1, 1000), 3)
    .option("--out <folder>", "where report.json, report.html and the plots go", "bench-report")
    .addHelpText(
      "after",
      "\nEach arm runs in a process of its own. Ctrl-C ends the measuring and writes what there is." +
        "\nA first look: cellbatch bench MODEL --seconds 1 --rounds 1 --loads 0.2,0.6",
    )
    .action(bench);
}

async function bench(model: string | undefined, options: BenchOptions): Promise<void> {
  // Loaded here, since the other commands need none of it and should not wait.
  const { measureWorkload, stepsOf } = await import("../bench/measure.ts");
  const { introOf, tablesOf } = await import("../bench/report-page.ts");
  const { parseArrivals } = await import("../load/arrivals.ts");
  const { thisMachine } = await import("../engine/machine.ts");
  const { progressOn } = await import("./progress.ts");
  const workloads = await workloadsOf(model, options);
  if (!workloads) return;
  const stop = new AbortController();
  const interrupt = () => stop.abort();
  process.once("SIGINT", interrupt);
  const progress = await progressOn(process.stderr);
  const startedAt = new Date();
  const measured: Report["workloads"][number][] = [];
  const settings = {
    rounds: options.rounds,
    seconds: options.seconds,
    loads: options.loads,
    arrivals: parseArrivals(options.arrivals),
    signal: stop.signal,
    step: () => progress.step(),
    tell: (line: string) => progress.line(`  ${line}`),
  };
  const steps = workloads.reduce((sum, workload) => sum + stepsOf(workload, settings), 0);
  progress.line(
    `${steps} measurements of ${options.seconds} s and their warm-up: about ${minutes(steps * options.seconds * 1.6)}`,
  );
  for (const workload of workloads) {
    if (stop.signal.aborted) break;
    progress.part(`${workload.name}: ${workload.what}`, stepsOf(workload, settings));
    measured.push(await measureWorkload(workload, settings).finally(() => progress.stop()));
  }
  process.off("SIGINT", interrupt);
  const { rounds, seconds, loads, arrivals } = options;
  const report: Report = {
    format: 1,
    kind: "cellbatch.bench",
    machine: thisMachine(),
    settings: { rounds, seconds, loads, arrivals },
    startedAt: startedAt.toISOString(),
    seconds: (Date.now() - startedAt.getTime()) / 1000,
    interrupted: stop.signal.aborted,
    workloads: measured,
  };
  print(introOf(report).join("\n"));
  for (const workload of measured) {
    print(`\n${workload.name}: ${workload.what}`);
    for (const note of workload.notes) print(`note: ${note}`);
    for (const rows of tablesOf(workload)) process.stdout.write(`\n${table(rows)}`);
  }
  await writeReport(options.out, report);
}

/** Undefined where the names of the built-in workloads were all that was asked for. */
async function workloadsOf(
  model: string | undefined,
  options: BenchOptions,
): Promise<Workload[] | undefined> {
  const { modelWorkload, workload, workloadNames } = await import("../bench/workloads.ts");
  const { parseLengths } = await import("../load/lengths.ts");
  if (model === undefined) {
    const unused = (["lengths", "texts", "maxSteps"] as const).find((name) => options[name] !== undefined);
    if (unused) throw new Fault("INVALID_REQUEST", `'${unused}' is for a model: say which one`);
    if (options.workload?.includes("help")) {
      for (const name of workloadNames) print(`${name.padEnd(20)} ${(await workload(name)).what}`);
      return undefined;
    }
    return Promise.all((options.workload ?? workloadNames).map(workload));
  }
  if (options.workload) throw new Fault("INVALID_REQUEST", "give a model or --workload, not both");
  const texts = options.texts === undefined ? undefined : await linesOf(options.texts);
  const subject = {
    path: modelPath(model),
    ...(texts ? { texts } : {}),
    ...(options.maxSteps === undefined ? {} : { maxSteps: options.maxSteps }),
  };
  return [await modelWorkload(subject, parseLengths(options.lengths ?? "wmt"))];
}

/** The report is written even where plots cannot be drawn. */
async function writeReport(folder: string, report: Report): Promise<void> {
  const { reportPage } = await import("../bench/report-page.ts");
  const { plotsOf } = await import("../bench/report-plots.ts");
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, "report.json"), `${JSON.stringify(report, undefined, 1)}\n`);
  const plots = await Promise.all(report.workloads.map(plotsOf)).catch((error: unknown) => {
    print(`\nno plots: ${Fault.from(error).message}`);
    return report.workloads.map(() => []);
  });
  await writeFile(join(folder, "report.html"), reportPage(report, plots));
  for (const { name, svg } of plots.flat()) await writeFile(join(folder, `${name}.svg`), svg);
  print(`\nWrote ${join(folder, "report.html")}, report.json and ${plots.flat().length} plots as SVG.`);
}

async function linesOf(file: string): Promise<string[]> {
  const text = await readFile(file, "utf8").catch((error: Error) => {
    throw new Fault("INVALID_REQUEST", `texts ${file} cannot be read: ${error.message}`);
  });
  const lines = text.split("\n").filter((line) => line.trim() !== "");
  if (lines.length === 0) throw new Fault("INVALID_REQUEST", `texts ${file} holds no line`);
  return lines;
}

function minutes(seconds: number): string {
  return seconds < 90 ? `${Math.ceil(seconds)} s` : `${Math.ceil(seconds / 60)} minutes`;
}

function names(text: string): string[] {
  return text.split(",").map((name) => name.trim());
}

function one(least: number, most: number): (text: string) => number {
  return (text) => integerList(least, most)(text)[0]!;
}

function positive(text: string): number {
  const value = Number(text);
  if (text.trim() !== "" && value > 0 && value <= 3600) return value;
  throw new InvalidArgumentError("It must be a number above 0, up to 3600.");
}

function shares(text: string): number[] {
  return text.split(",").map((part) => {
    const value = Number(part);
    if (part.trim() !== "" && value > 0 && value <= 1) return value;
    throw new InvalidArgumentError(`'${part}' is no share above 0 and up to 1.`);
  });
}

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}
