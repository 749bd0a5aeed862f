import { readFile, writeFile } from "node:fs/promises";
import { Command, Option } from "commander";
import type { SearchName } from "../../planner/search.ts";
import { Fault } from "../core/faults.ts";
import { parseProfile } from "../core/profile.ts";
import { integerList } from "./integers.ts";
import { goalOf, positive } from "./numbers.ts";
import type { Drawn, Planned, PlanOptions } from "./plan-result.ts";
import { readTrace } from "./read-trace.ts";
import { table } from "./table.ts";

const SEARCHES: readonly SearchName[] = ["descent", "exhaustive", "bayes"];

/** `cellbatch plan`: the settings that a goal asks for. */
export function planCommand(): Command {
  const command = new Command("plan").description("find the settings that keep a latency at least cost");
  command
    .command("batching")
    .description(
      "choose batch sizes, timeouts, buffers and memory, or engines, for a measured model and a trace",
    )
    .requiredOption(
      "--slo <goal>",
      "latency to keep, as p95=200ms, or p95=30ms/size per unit of a request's size",
      goalOf,
    )
    .requiredOption("--profile <file>", "what the model costs, by 'cellbatch profile'")
    .requiredOption("--trace <file>", "when requests come and how large they are, by 'cellbatch trace'")
    .option("--cell <name>", "cell of the profile, where it has several")
    .addOption(
      new Option("--method <name>", "batch: one buffer; mbs: several, by size")
        .choices(["batch", "mbs"])
        .default("batch"),
    )
    .addOption(
      new Option("--target <name>", "a server of ours, or functions that are billed by the call")
        .choices(["server", "functions"])
        .default("server"),
    )
    .addOption(
      new Option("--search <name>", "how settings of functions are searched")
        .choices(SEARCHES)
        .default("descent"),
    )
    .option("--buffers <counts>", "numbers of buffers that mbs tries", integerList(1, 256))
    .option(
      "--engines <counts>",
      "server: numbers of engines to try; 1 to the profiled cores by default",
      integerList(1, 1024),
    )
    .option("--overhead-ms <ms>", "functions: what a call costs besides the model", positive, 5)
    .option("--usd-per-engine-hour <usd>", "server: price of one engine's core", positive, 0.0425)
    .option("--max-gap <seconds>", "longest time without a request that is believed", positive, 600)
    .option("--seed <number>", "seed of searches and samples", positive, 1)
    .option("--out <file>", "plan to write", "plan.json")
    .option("--html <file>", "page with the plots to write; plan.html beside the plan by default")
    .action(plan);
  return command;
}

async function plan(options: PlanOptions): Promise<void> {
  // Loaded here, since the other commands need no linear algebra and should not wait for it.
  const { ProfileTable } = await import("../../planner/profile.ts");
  const text = await readFile(options.profile, "utf8").catch((cause: Error) => {
    throw new Fault("INVALID_REQUEST", `profile ${options.profile} cannot be read: ${cause.message}`, {
      cause,
    });
  });
  const profile = parseProfile(text, options.profile);
  const table = new ProfileTable(profile, options.cell === undefined ? {} : { cell: options.cell });
  const trace = await readTrace(options.trace, options.maxGap);
  const { planForFunctions, planForServer } = await import("./plan-result.ts");
  const planned =
    options.target === "functions"
      ? planForFunctions(profile, table, trace, options)
      : planForServer(profile, table, trace, options);
  await writeFile(options.out, `${JSON.stringify(planned.plan, undefined, 2)}\n`);
  const html = options.html ?? options.out.replace(/(\.json)?$/, ".html");
  const written = await writePage(html, planned);
  printPlan(planned);
  process.stdout.write(`\nWrote ${options.out}${written ? ` and ${html}` : ""}.\n`);
  const use = planned.plan.target === "server" ? "serve" : "gateway";
  process.stdout.write(`Use it: npx cellbatch ${use} --plan ${options.out}\n`);
}

function printPlan({ plan, summary, runnersUp, drawn }: Planned): void {
  process.stdout.write(`${summary.join("\n")}\n\n${table(runnersUp)}\n`);
  process.stdout.write(`${table([["latency within, ms", "share of requests"], ...cdfRows(drawn)])}\n`);
  const sizes = drawn.batches.filter(([, share]) => share >= 0.005);
  process.stdout.write(
    table([
      ["requests of a batch", "share of batches"],
      ...sizes.map(([size, share]) => [String(size), percent(share)]),
    ]),
  );
  if (plan.predicted.paddingShare > 0)
    process.stdout.write(`\nPadding: ${percent(plan.predicted.paddingShare)} of the work.\n`);
}

/** The times within which some shares of the requests are answered. */
function cdfRows({ cdf }: Drawn): string[][] {
  return [0.5, 0.9, 0.95, 0.99].flatMap((share) => {
    const found = cdf.find(([, reached]) => reached >= share);
    return found ? [[found[0].toFixed(1), percent(share)]] : [];
  });
}

/** Answers whether it was written: the plotting library is optional. */
async function writePage(file: string, { plan, summary, runnersUp, drawn }: Planned): Promise<boolean> {
  const { lineChart } = await import("../plot/line-chart.ts");
  const { page } = await import("../plot/page.ts");
  try {
    const title = `${plan.model}: plan for ${plan.target}`;
    const plots = [
      await lineChart({
        title: "Share of requests that are answered within a time",
        subtitle: "predicted",
        x: { label: drawn.unit, scale: "linear" },
        y: { label: "share of requests, %", scale: "linear", ticks: [0, 20, 40, 60, 80, 95, 100] },
        series: [
          {
            name: plan.model,
            dots: false,
            points: drawn.cdf.map(([ms, share]) => [ms, 100 * share] as const),
          },
        ],
      }),
      await lineChart({
        title: "Requests of a batch",
        subtitle: "predicted",
        x: { label: "requests", scale: "linear" },
        y: { label: "share of batches, %", scale: "linear" },
        series: [
          { name: plan.model, points: drawn.batches.map(([size, share]) => [size, 100 * share] as const) },
        ],
      }),
    ];
    await writeFile(
      file,
      page(title, summary, [
        { title: "Prediction", plots },
        { title: "Runners-up", tables: [runnersUp] },
      ]),
    );
    return true;
  } catch (error) {
    if (!(error instanceof Fault) || error.code !== "UNSUPPORTED") throw error;
    process.stderr.write(`cellbatch: no page was written: ${error.message}\n`);
    return false;
  }
}

function percent(share: number): string {
  return `${(100 * share).toFixed(1)} %`;
}
