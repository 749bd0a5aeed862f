import { spawn } from "node:child_process";
import { readFile, writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { Command, Option } from "commander";
import { Fault } from "../core/faults.ts";
import { integerList } from "./integers.ts";
import { positive } from "./numbers.ts";
import { readTrace } from "./read-trace.ts";
import { table } from "./table.ts";

/** `cellbatch trace`: record, make, fit and look at arrivals of requests. */
export function traceCommand(): Command {
  const command = new Command("trace").description("record, make, fit and show traces of arriving requests");
  command
    .command("record")
    .description(
      "serve with --record: write when each request came, how large it was and what was decided; needs no change of the clients",
    )
    .argument("<file>", "recording to write, which is a trace too; a recording that is there goes on")
    .argument("[options...]", "options of 'cellbatch serve', after --")
    .action(record);
  command
    .command("synth")
    .description("make a trace")
    .argument("<file>", "trace to write")
    .addOption(
      new Option("--arrivals <kind>", "how requests come")
        .choices(["poisson", "gamma", "map", "counts"])
        .default("poisson"),
    )
    .option("--rate <perSecond>", "requests per second, of poisson and gamma", positive, 10)
    .option("--cv <number>", "coefficient of variation of the times between requests, of gamma", positive, 2)
    .option("--process <file>", "JSON with the matrices d0 and d1 in events per second, of map")
    .option("--per-minute <counts>", "requests in each minute, as 10,20,15, of counts", integerList(0, 1e9))
    .option("--seconds <number>", "how long", positive, 60)
    .option("--sizes <sizes>", "sizes of requests, as 10,20,40", integerList(1, 1e9))
    .option("--shares <shares>", "share of each size, in any unit; equal by default", integerList(0, 1e9))
    .option("--seed <number>", "seed", positive, 1)
    .action(synthesize);
  command
    .command("fit")
    .description("find the arrival process behind a trace: Poisson, or two phases of different rates")
    .argument("<file>", "trace")
    .option("--max-gap <seconds>", "longest time without a request that is believed", positive, 600)
    .action(fit);
  command
    .command("show")
    .description("rate, burstiness, gaps and sizes of a trace")
    .argument("<file>", "trace")
    .option("--max-gap <seconds>", "longest time without a request that is believed", positive, 600)
    .action(show);
  return command;
}

/** Serves in a process of its own, so that `serve` has all of its options, and ends as it ends. */
async function record(file: string, options: readonly string[]): Promise<void> {
  const main = fileURLToPath(new URL("main.js", import.meta.url));
  const child = spawn(process.execPath, [main, "serve", "--record", file, ...options], { stdio: "inherit" });
  const pass = (signal: NodeJS.Signals) => child.kill(signal);
  process.on("SIGINT", pass);
  process.on("SIGTERM", pass);
  process.exitCode = await new Promise<number>((resolve) => child.once("exit", (code) => resolve(code ?? 1)));
}

interface SynthOptions {
  readonly arrivals: "poisson" | "gamma" | "map" | "counts";
  readonly rate: number;
  readonly cv: number;
  readonly process?: string;
  readonly perMinute?: readonly number[];
  readonly seconds: number;
  readonly sizes?: readonly number[];
  readonly shares?: readonly number[];
  readonly seed: number;
}

async function synthesize(file: string, options: SynthOptions): Promise<void> {
  const { arrivalTimes, drawSizes } = await import("../../planner/synthesis.ts");
  const { formatTrace, checkTrace } = await import("../../planner/trace.ts");
  const { seconds, seed, sizes, shares = sizes?.map(() => 1) } = options;
  if (sizes && shares!.length !== sizes.length)
    throw new Fault("INVALID_REQUEST", `there are ${sizes.length} sizes and ${shares!.length} shares`);
  const timesMs = arrivalTimes(await arrivalsOf(options), seconds, seed);
  const trace = checkTrace({
    timesMs,
    ...(sizes ? { sizes: drawSizes({ sizes, shares: shares! }, timesMs.length, seed + 1) } : {}),
  });
  await writeFile(file, formatTrace(trace));
  print(`Wrote ${timesMs.length} requests to ${file}.\n`);
}

async function arrivalsOf({ arrivals, rate, cv, process, perMinute }: SynthOptions) {
  if (arrivals === "map") {
    if (process === undefined) throw new Fault("INVALID_REQUEST", "arrivals of a map need --process");
    const { checkProcess } = await import("../../planner/arrival-process.ts");
    const { z } = await import("zod");
    const matrix = z.array(z.array(z.number()));
    const parsed = z
      .object({ d0: matrix, d1: matrix })
      .safeParse(JSON.parse(await readFile(process, "utf8")));
    if (!parsed.success) throw new Fault("INVALID_REQUEST", `${process} has not the matrices d0 and d1`);
    return { kind: "map" as const, process: checkProcess(parsed.data) };
  }
  if (arrivals === "counts") {
    if (!perMinute) throw new Fault("INVALID_REQUEST", "arrivals of counts need --per-minute");
    return { kind: "counts" as const, perMinute };
  }
  return arrivals === "gamma"
    ? { kind: "gamma" as const, perSecond: rate, cv }
    : { kind: "poisson" as const, perSecond: rate };
}

async function fit(file: string, { maxGap }: { readonly maxGap: number }): Promise<void> {
  const { fitArrivals } = await import("../../planner/fit.ts");
  const { process: found, reason } = fitArrivals(await readTrace(file, maxGap));
  print(`${JSON.stringify({ ...found, reason }, undefined, 2)}\n`);
}

async function show(file: string, { maxGap }: { readonly maxGap: number }): Promise<void> {
  const { summaryOf } = await import("../../planner/trace.ts");
  const { sizes, ...summary } = summaryOf(await readTrace(file, maxGap));
  const rows = [
    ["requests", String(summary.requests)],
    ["seconds", summary.seconds.toFixed(1)],
    ["requests per second", summary.perSecond.toFixed(2)],
    ["in the busiest second", String(summary.peakPerSecond)],
    ["longest gap, ms", summary.longestGapMs.toFixed(0)],
    ["squared CV (Poisson: 1)", summary.scv.toFixed(3)],
    ["lag-1 correlation (Poisson: 0)", summary.lag1.toFixed(3)],
    ...(sizes
      ? [
          [
            "sizes: least, mean, p95, most",
            [sizes.least, sizes.mean.toFixed(1), sizes.p95, sizes.most].join(", "),
          ],
        ]
      : []),
  ];
  print(table([["", file], ...rows]));
}

function print(text: string): void {
  process.stdout.write(text);
}
