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

const program = new Command("bench:engine")
  .description("Ratios of the engine against its limits, measured in this run.")
  .argument("[parts...]", `which to measure: ${Object.keys(parts).join(", ")}`, Object.keys(parts))
  .parse();

for (const name of program.args.length > 0 ? program.args : Object.keys(parts)) {
  const measure = parts[name];
  if (!measure) program.error(`there is no part '${name}', there are ${Object.keys(parts).join(", ")}`);
  process.stdout.write(`\n${name}\n`);
  for (const line of await measure!()) process.stdout.write(`  ${line}\n`);
}
