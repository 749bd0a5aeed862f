import { writeFile } from "node:fs/promises";
import { Command, InvalidArgumentError } from "commander";
import type { ModelDefinition } from "../../models/definition.ts";
import type { Profile, ProfiledCell, ProfileOverheads } from "../core/profile.ts";
import { integerList } from "./integers.ts";
import { modelPath } from "./paths.ts";
import type { Progress } from "./progress.ts";
import { table } from "./table.ts";

interface ProfileOptions {
  readonly out?: string;
  readonly threads: readonly number[];
  readonly maxBatch: number;
  readonly size?: readonly number[];
  readonly pointMs: number;
  readonly plot?: string;
}

/** `cellbatch profile`. */
export function profileCommand(): Command {
  return new Command("profile")
    .description("measure what a model's cells cost on this machine, by rows of a batch, into a file")
    .argument("<model>", "name of a model of the zoo, or a model's folder or module")
    .option("--out <file>", "file to write; MODEL.profile.json by default")
    .option("--threads <counts>", "threads of ONNX Runtime, separated by commas", integerList(1, 1024), [1])
    .option("--max-batch <rows>", "most rows of a call", (text) => integerList(1, 256)(text)[0]!, 256)
    .option(
      "--size <steps>",
      "whole graphs: steps of padded batches, separated by commas",
      integerList(1, 1_000_000),
    )
    .option(
      "--point-ms <ms>",
      "how long each number of rows is measured",
      (text) => integerList(1, 60_000)(text)[0]!,
      60,
    )
    .option("--plot <file>", "write the curves: a page where the name ends in .html, else SVG", plotFile)
    .addHelpText(
      "after",
      "\n'cellbatch serve --profile FILE' starts without measuring. Measure while nothing else runs on the machine.",
    )
    .action(profile);
}

async function profile(model: string, options: ProfileOptions): Promise<void> {
  // Loaded here, since the other commands need none of it and should not wait.
  const { modelDefinition } = await import("../runtime/create.ts");
  const { progressOn } = await import("./progress.ts");
  const definition = await modelDefinition(modelPath(model));
  const progress = await progressOn(process.stderr);
  const measured = await measure(definition, options, progress).finally(() => progress.stop());
  const file = options.out ?? `${definition.name}.profile.json`;
  await writeFile(file, `${JSON.stringify(measured)}\n`);
  if (options.plot !== undefined) await writePlots(options.plot, measured);
  process.stdout.write(report(measured));
  process.stdout.write(
    `\nWrote ${file}. Serve with it: cellbatch serve --model ${model} --profile ${file}\n`,
  );
}

async function measure(
  definition: ModelDefinition,
  { threads, maxBatch: maxRows, pointMs, size }: ProfileOptions,
  progress: Progress,
): Promise<Profile> {
  const { measureModel } = await import("../engine/measure-model.ts");
  const { hasOneSize, measureOverheads, OVERHEAD_ROUNDS } = await import("../bench/overheads.ts");
  const measured = await measureModel(definition, {
    threads,
    maxRows,
    pointMs,
    ...(size ? { sizes: [...new Set(size)].sort((a, b) => a - b) } : {}),
    began: (cell, count, points) =>
      progress.part(`measuring cell '${cell}' with ${count} thread${count > 1 ? "s" : ""}`, points),
    point: () => progress.step(),
  });
  if (!hasOneSize(definition)) return measured;
  progress.part("measuring what a server adds", OVERHEAD_ROUNDS);
  const overheads = await measureOverheads(definition, measured, threads[0]!, () => progress.step());
  return { ...measured, overheads };
}

/** A page, or an SVG for each cell: `name.svg` where there is one, `name-CELL.svg` where there are several. */
async function writePlots(name: string, measured: Profile): Promise<void> {
  const { profilePlots, profilePage } = await import("./profile-plot.ts");
  if (!name.endsWith(".svg")) return writeFile(name, await profilePage(measured));
  const plots = await profilePlots(measured);
  for (const [i, { cell }] of measured.cells.entries()) {
    await writeFile(plots.length === 1 ? name : name.replace(/\.svg$/, `-${cell}.svg`), plots[i]!);
  }
}

/** A table for each cell and number of threads. */
function report({ model, machine, cells, overheads }: Profile): string {
  const { cpu, cores, node, onnxruntime } = machine;
  const head = `${model.name} ${model.version} on ${cores} cores of ${cpu}, Node ${node}, ONNX Runtime ${onnxruntime}\n`;
  return head + cells.map(cellTables).join("") + (overheads ? overheadsText(overheads) : "");
}

function overheadsText({
  requestUs,
  taskUs,
  rowUs,
  publishUs,
  hopUs,
  sizeUs,
  idle,
}: ProfileOverheads): string {
  const waits = idle.map(({ afterMs, us }) => `${us} after ${afterMs} ms`).join(", ");
  return (
    `\nBesides, in us: a request ${requestUs}, a task ${taskUs}, a row and step ${rowUs}, telling of it ${publishUs};\n` +
    `to an engine and back ${hopUs}, a unit of size ${sizeUs}, an idle engine ${waits}\n`
  );
}

function cellTables({ cell, lane, settings }: ProfiledCell): string {
  const threads = [...new Set(settings.map((one) => one.threads))];
  return threads
    .map((count) => {
      const [first, ...more] = settings.filter((one) => one.threads === count);
      const body = first!.points.map(({ rows, us, spreadUs }) => [
        String(rows),
        us.toFixed(1),
        spreadUs.toFixed(1),
        (us / rows).toFixed(2),
        Math.round((rows * 1e6) / us).toLocaleString("en"),
        ...more.map(({ points, stepsPerCall }) => {
          const point = points.find((one) => one.rows === rows);
          return point ? (point.us / rows / stepsPerCall).toFixed(2) : "";
        }),
      ]);
      const others = more.map(({ stepsPerCall, size }) => size ?? stepsPerCall);
      const unit = lane === "graph" ? `${first!.size} steps` : "1 step a call";
      const heading = ["rows", "us a call", "spread", "us a row", "rows/s", ...others.map(String)];
      const also =
        others.length > 0
          ? `; then us a row ${lane === "graph" ? "at more steps" : "and step at more steps a call"}`
          : "";
      return `\n${cell} (${lane}), ${count} thread${count > 1 ? "s" : ""}: ${unit}${also}\n${table([heading, ...body])}`;
    })
    .join("");
}

function plotFile(text: string): string {
  if (/\.(svg|html?)$/.test(text)) return text;
  throw new InvalidArgumentError("It must end in .svg or .html.");
}
