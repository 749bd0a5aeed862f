import { readFile } from "node:fs/promises";
import { Command } from "commander";
import { parseProfile } from "../core/profile.ts";
import { integerList } from "./integers.ts";
import { positive } from "./numbers.ts";
import { readTrace } from "./read-trace.ts";
import { table } from "./table.ts";

interface SimulateOptions {
  readonly profile: string;
  readonly trace: string;
  readonly plan?: string;
  readonly cell?: string;
  readonly engines: number;
  readonly maxBatch: number;
  readonly timeoutMs: number;
  readonly eager: boolean;
  readonly json: boolean;
}

/** `cellbatch simulate`. */
export function simulateCommand(): Command {
  const one = (text: string) => integerList(1, 65_536)(text)[0]!;
  return new Command("simulate")
    .description(
      "what a server would do with a trace: its scheduler and buffers in virtual time, with measured costs",
    )
    .requiredOption("--profile <file>", "what the model costs, by 'cellbatch profile'")
    .requiredOption("--trace <file>", "when requests come and how large they are, by 'cellbatch trace'")
    .option("--plan <file>", "buffers or functions of a plan, in place of the options below")
    .option("--cell <name>", "cell of the profile, where it has several")
    .option("--engines <count>", "engines", one, 1)
    .option("--max-batch <rows>", "most rows of a task, or requests of a batch", one, 64)
    .option("--timeout-ms <ms>", "whole graphs: how long a batch waits to be full", positive, 5)
    .option("--no-eager", "whole graphs: wait to be full or late, though the engine is idle")
    .option("--json", "print as JSON", false)
    .action(simulate);
}

async function simulate(options: SimulateOptions): Promise<void> {
  const { ProfileTable } = await import("../../planner/profile.ts");
  const { summarize } = await import("../../planner/outcome.ts");
  const profile = parseProfile(await readFile(options.profile, "utf8"), options.profile);
  const profiled = new ProfileTable(profile, options.cell === undefined ? {} : { cell: options.cell });
  const trace = await readTrace(options.trace);
  const { outcomeOf } = await import("./simulated.ts");
  const figures = summarize(await outcomeOf(profile, profiled, trace, options));
  if (options.json) {
    process.stdout.write(`${JSON.stringify(figures)}\n`);
    return;
  }
  const { requests, meanMs, p50, p90, p95, p99, queueP99, meanBatch, paddingShare, usdPerMillion } = figures;
  process.stdout.write(
    table([
      ["", "simulated"],
      ["requests", String(requests)],
      ...Object.entries({ mean: meanMs, p50, p90, p95, p99, "queue p99": queueP99 }).map(([name, ms]) => [
        `${name}, ms`,
        ms.toFixed(2),
      ]),
      ["mean rows of a batch", meanBatch.toFixed(2)],
      ["padding", `${(100 * paddingShare).toFixed(1)} %`],
      ...(usdPerMillion > 0 ? [["USD a million requests", usdPerMillion.toFixed(3)]] : []),
    ]),
  );
}
