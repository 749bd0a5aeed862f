import { writeFileSync } from "node:fs";
import { availableParallelism, cpus } from "node:os";
import { Command, InvalidArgumentError, Option } from "commander";
import { type DeviceChoice, nativeStatus } from "../../kernels/native/load.ts";
import { tokenCell } from "../../src/bench/synthetic.ts";
import { lengthsOf, lengthsText, parseLengths } from "../../src/load/lengths.ts";
import { median } from "../../src/load/statistics.ts";
import { DeviceArm } from "./device-arm.ts";
import { EngineArm } from "./engine-arm.ts";
import type { Measured, Setting } from "./setting.ts";

const program = new Command("bench:ring")
  .description(
    "An engine on the device against the present engine, at saturation, measured in turns in this run.",
  )
  .addOption(
    new Option("--device <name>", "what computes").choices(["cpu", "reference", "cuda"]).default("cpu"),
  )
  .option("--hidden <numbers>", "units of the LSTMs, separated by commas", numbers, [128, 256])
  .option("--rows <numbers>", "rows that run at a time", numbers, [64])
  .option("--steps <numbers>", "steps of a submission", numbers, [4])
  .option("--in-flight <count>", "submissions in flight", number, 3)
  .option("--lengths <kind>", "wmt, wordnet, fixed:STEPS, uniform:LEAST,MOST or file:PATH", "wmt")
  .option("--rounds <count>", "times that each is measured; the median counts", number, 3)
  .option("--seconds <count>", "of each measurement, a third of it to warm up", number, 2)
  .option("--json <file>", "writes what was measured")
  .parse();
const options = program.opts<{
  device: DeviceChoice["device"];
  hidden: number[];
  rows: number[];
  steps: number[];
  inFlight: number;
  lengths: string;
  rounds: number;
  seconds: number;
  json?: string;
}>();

const status = nativeStatus();
const kind = parseLengths(options.lengths);
const lengths = lengthsOf(kind, 2000, 1);
console.log(`Node ${process.version}, ${availableParallelism()} cores of ${cpus()[0]?.model.trim()}`);
console.log(`device ${options.device}; GPU: ${status.message}`);
if (options.device !== "cuda") console.log("NOTE: no number below was measured on a GPU.");
console.log(`LSTM fed with tokens, ${lengthsText(kind)}, ${options.inFlight} submissions in flight`);
const found: object[] = [];
for (const hidden of options.hidden) {
  for (const rows of options.rows) for (const k of options.steps) found.push(await compare(hidden, rows, k));
}
if (options.json) {
  const about = { device: options.device, cards: status.cards, node: process.version };
  writeFileSync(
    options.json,
    `${JSON.stringify({ ...about, lengths: options.lengths, found }, undefined, 2)}\n`,
  );
}

async function compare(hidden: number, rows: number, k: number) {
  const setting: Setting = {
    choice: { device: options.device },
    cell: tokenCell(hidden),
    rows,
    requests: Array.from(lengths, (length, i) =>
      Int32Array.from({ length }, (_, step) => (i * 37 + step * 11) & 255),
    ),
    k,
    depth: options.inFlight,
  };
  const device = new DeviceArm(setting);
  const engine = await EngineArm.open(setting);
  const rounds: { readonly ring: Measured; readonly present: Measured }[] = [];
  for (let round = 0; round < options.rounds; round++) {
    const ms = options.seconds * 1000;
    // Each is first as often as the other.
    if (round % 2 === 0) rounds.push({ ring: await device.measure(ms), present: engine.measure(ms) });
    else {
      const present = engine.measure(ms);
      rounds.push({ ring: await device.measure(ms), present });
    }
  }
  device.close();
  const middle = (of: (round: (typeof rounds)[number]) => number) => median(rounds.map(of));
  const result = {
    ...{ hidden, rows, k },
    cellsPerSecond: middle(({ ring }) => ring.cellsPerSecond),
    presentCellsPerSecond: middle(({ present }) => present.cellsPerSecond),
    ratio: middle(({ ring, present }) => ring.cellsPerSecond / present.cellsPerSecond),
    cpuRatio: middle(({ ring, present }) => ring.cpuNsPerCell / present.cpuNsPerCell),
    stepUs: middle(({ ring }) => ring.stepUs),
    occupancy: middle(({ ring }) => ring.occupancy),
    presentOccupancy: middle(({ present }) => present.occupancy),
    jsShare: middle(({ ring }) => ring.jsShare!),
    nsPerJoin: middle(({ ring }) => ring.nsPerJoin!),
    rounds,
  };
  const ratios = rounds.map(({ ring, present }) => (ring.cellsPerSecond / present.cellsPerSecond).toFixed(2));
  console.log(
    `h=${hidden} rows=${rows} k=${k}: ${thousands(result.cellsPerSecond)} cells/s, present engine ${thousands(result.presentCellsPerSecond)}: ` +
      `${result.ratio.toFixed(2)} (rounds ${ratios.join(" ")}); CPU time per cell ${result.cpuRatio.toFixed(2)} of the present engine's; ` +
      `${result.stepUs.toFixed(1)} us a step, occupancy ${result.occupancy.toFixed(3)} (present ${result.presentOccupancy.toFixed(3)}), ` +
      `JavaScript ${(100 * result.jsShare).toFixed(2)} % of wall time, ${result.nsPerJoin.toFixed(0)} ns per join`,
  );
  return result;
}

function thousands(value: number): string {
  return `${(value / 1000).toFixed(0)} k`;
}

function number(text: string): number {
  const value = Number(text);
  if (Number.isInteger(value) && value > 0) return value;
  throw new InvalidArgumentError("It must be an integer above 0.");
}

function numbers(text: string): number[] {
  return text.split(",").map(number);
}
