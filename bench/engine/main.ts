import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { Command } from "commander";
import { measureBookkeeping } from "./bookkeeping.ts";
import { measureLatency } from "./latency.ts";
import { measureSaturation } from "./saturation.ts";
import { measureUtilisation } from "./utilisation.ts";
import { measureWebSocket } from "./websocket.ts";

const parts: Record<string, () => Promise<string[]>> = {
  bookkeeping: measureBookkeeping,
  utilisation: measureUtilisation,
  saturation: measureSaturation,
  latency: measureLatency,
  websocket: measureWebSocket,
};
const names = Object.keys(parts);

const program = new Command("bench:engine")
  .description(
    "Ratios of the engine against its limits, measured in this run; each part in a process of its own.",
  )
  .argument("[parts...]", `which to measure: ${names.join(", ")}`, names)
  .parse();

const wanted = program.args.length > 0 ? program.args : names;
const unknown = wanted.find((name) => !parts[name]);
if (unknown !== undefined) program.error(`there is no part '${unknown}', there are ${names.join(", ")}`);
if (wanted.length === 1) {
  process.stdout.write(`\n${wanted[0]}\n`);
  for (const line of await parts[wanted[0]!]!()) process.stdout.write(`  ${line}\n`);
} else {
  for (const name of wanted) {
    const { status } = spawnSync(process.execPath, [fileURLToPath(import.meta.url), name], {
      stdio: "inherit",
    });
    if (status !== 0) process.exitCode = 1;
  }
}
