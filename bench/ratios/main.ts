import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { availableParallelism, cpus } from "node:os";
import { Command, InvalidArgumentError } from "commander";
import { Arms, goals, measureGoal } from "./goals.ts";

/** Ratios of an earlier run, to compare with; made with `--save`. */
const BASELINE = "bench/ratios/baseline.json";

const { only, rounds, save } = new Command("bench:ratios")
  .description(
    "Ratios against limits and peers, both measured in this run. The last line is JSON: ratio by key.",
  )
  .option("--only <keys>", "some of them, separated by commas; a prefix names all that begin with it", keysOf)
  .option("--rounds <count>", "times that each is measured; the median counts", positive, 3)
  .option("--save", `writes the ratios to ${BASELINE}`)
  .parse()
  .opts<{ only?: string[]; rounds: number; save?: true }>();

const wanted = goals.filter(({ key }) => !only || only.some((name) => key.startsWith(name)));
const baseline: Record<string, number> = existsSync(BASELINE)
  ? JSON.parse(readFileSync(BASELINE, "utf8"))
  : {};
const found: Record<string, number> = {};
const started = performance.now();
const [cpu] = cpus();
console.log(
  `Node ${process.version}, ${availableParallelism()} cores of ${cpu?.model.trim()}, ${rounds} rounds`,
);
const arms = new Arms();
for (const [i, goal] of wanted.entries()) {
  console.log(`\n[${i + 1}/${wanted.length}] ${goal.key}: ${goal.what}`);
  const began = performance.now();
  const { ratio, ratios } = await measureGoal(goal, arms, rounds, (line) => console.log(`  ${line}`));
  found[goal.key] = Number(ratio.toFixed(3));
  const verdict = ratio >= goal.least ? "reached" : "MISSED";
  const before = baseline[goal.key];
  const compared = before === undefined ? "" : `, ${before} in the stored baseline`;
  const all = ratios.map((one) => one.toFixed(2)).join(" ");
  console.log(
    `  ${ratio.toFixed(2)} (rounds ${all}), goal ${goal.least}: ${verdict}${compared}; ${seconds(began)} s`,
  );
}
arms.close();
if (save) writeFileSync(BASELINE, `${JSON.stringify({ ...baseline, ...found }, undefined, 2)}\n`);
console.log(`\n${wanted.length} ratios in ${seconds(started)} s`);
console.log(JSON.stringify(found));

function seconds(since: number): number {
  return Math.round((performance.now() - since) / 1000);
}

function keysOf(text: string): string[] {
  const names = text.split(",").map((name) => name.trim());
  const unknown = names.find((name) => !goals.some(({ key }) => key.startsWith(name)));
  if (unknown === undefined) return names;
  throw new InvalidArgumentError(
    `There is no '${unknown}', there are ${goals.map(({ key }) => key).join(", ")}.`,
  );
}

function positive(text: string): number {
  const value = Number(text);
  if (Number.isInteger(value) && value > 0) return value;
  throw new InvalidArgumentError("It must be an integer above 0.");
}
