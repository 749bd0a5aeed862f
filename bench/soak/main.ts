import { fork } from "node:child_process";
import { fileURLToPath } from "node:url";
import { Command } from "commander";
import { Random } from "../../src/core/random.ts";
import { median } from "../../src/load/statistics.ts";
import { type Mischief, mischiefs, sleep } from "./chaos.ts";
import { Peer } from "./peer.ts";
import type { FromServer, Sample } from "./server.ts";

const { minutes, clients, seed } = new Command("soak")
  .description(
    "Random clients against one server whose engines are killed every few seconds. Exit status 1 where an accepted request was not answered exactly once, memory grew, or an error was nobody's.",
  )
  .option("--minutes <number>", "how long", Number, 1)
  .option("--clients <count>", "how many at once", Number, 30)
  .option("--seed <number>", "of what the clients do", Number, 1)
  .parse()
  .opts<{ minutes: number; clients: number; seed: number }>();
if (!(minutes > 0) || !(clients >= 1)) {
  process.stderr.write(`soak: --minutes is ${minutes} and --clients ${clients}, both must be above 0\n`);
  process.exit(2);
}

const KILL_MS = 4000;
const PROGRESS_MS = 10_000;
/** Longest time for what runs to end once nothing new is begun, in milliseconds. */
const SETTLE_MS = 30_000;
/** Garbage that was not collected yet and threads that start again make this much noise within a minute. */
const HEAP_NOISE_MB = 8;
const RSS_NOISE_MB = 80;

const violations: string[] = [];
const done = new Map<string, number>();
const samples: Sample[] = [];
const server = fork(fileURLToPath(new URL("server.js", import.meta.url)), { execArgv: ["--expose-gc"] });
server.on("exit", (code) => {
  if (running) violations.push(`the server ended with status ${code}`);
});
let running = true;
const port = await new Promise<number>((resolve, reject) => {
  server.on("message", (message: FromServer) => {
    if (message.kind === "ready") resolve(message.port);
    else samples.push(message.sample);
  });
  server.once("exit", () => reject(new Error("the server did not start")));
});

const endMs = performance.now() + minutes * 60_000;
const isTime = () => performance.now() < endMs && server.exitCode === null;
const names = Object.keys(mischiefs);

async function beClient(random: Random): Promise<void> {
  while (isTime()) {
    const name = names[random.integer(0, names.length - 1)]!;
    try {
      await (mischiefs[name] as Mischief)(port, random);
      done.set(name, (done.get(name) ?? 0) + 1);
    } catch (error) {
      violations.push(`${name}: ${(error as Error).message}`);
    }
    await sleep(random.integer(0, 50));
  }
}

let kills = 0;
async function kill(): Promise<void> {
  while (isTime()) {
    await sleep(KILL_MS);
    const peer = await Peer.open(port);
    peer.begin({ type: "infer", id: "kill", model: "deadly", inputs: { x: [[0, 0, 0, 0]] } });
    const { type, code } = await peer.last("kill");
    if (code === "INTERNAL") kills++;
    else if (type !== "error") violations.push(`the engine that was to die answered ${type}`);
    peer.leave();
  }
}

const progress = setInterval(() => {
  const last = samples.at(-1);
  if (!last) return;
  process.stdout.write(
    `${Math.round((minutes * 60_000 - endMs + performance.now()) / 1000)} s: ${last.accepted} accepted, ${last.active} active, ${kills} engines killed, ` +
      `heap ${last.heapMb.toFixed(1)} MB, RSS ${last.rssMb.toFixed(0)} MB, ${violations.length} violations\n`,
  );
}, PROGRESS_MS);

await Promise.all([
  kill(),
  ...Array.from({ length: clients }, (_, i) => beClient(new Random(seed * 1000 + i))),
]);
clearInterval(progress);
const settledBy = performance.now() + SETTLE_MS;
while (server.exitCode === null && samples.at(-1)!.unanswered > 0 && performance.now() < settledBy)
  await sleep(500);
running = false;
const gone = new Promise((resolve) => server.once("exit", resolve));
if (server.exitCode === null) {
  server.send("stop");
  await Promise.race([gone, sleep(SETTLE_MS)]);
  server.kill("SIGKILL");
}

const last = samples.at(-1)!;
if (last.unanswered > 0) violations.push(`${last.unanswered} accepted requests were never answered`);
if (last.extra > 0) violations.push(`${last.extra} requests were answered more than once`);
if (kills === 0) violations.push("no engine was killed");
for (const error of last.errors) violations.push(error);
const heapMb = growth((sample) => sample.heapMb);
const rssMb = growth((sample) => sample.rssMb);
if (heapMb > HEAP_NOISE_MB)
  violations.push(`the heap grew by ${heapMb.toFixed(1)} MB, at most ${HEAP_NOISE_MB} is noise`);
if (rssMb > RSS_NOISE_MB)
  violations.push(`RSS grew by ${rssMb.toFixed(0)} MB, at most ${RSS_NOISE_MB} is noise`);

/** From the middle third of the run to its last, so that start and end do not count. */
function growth(of: (sample: Sample) => number): number {
  const third = Math.floor(samples.length / 3);
  return median(samples.slice(-third - 1, -1).map(of)) - median(samples.slice(third, 2 * third + 1).map(of));
}

for (const violation of violations.slice(0, 20)) process.stdout.write(`VIOLATION ${violation}\n`);
process.stdout.write(`${[...done].map(([name, count]) => `${name} ${count}`).join(", ")}\n`);
process.stdout.write(
  `${JSON.stringify({
    minutes,
    clients,
    accepted: last.accepted,
    answered: last.answered,
    unanswered: last.unanswered,
    answered_twice: last.extra,
    engines_killed: kills,
    engine_restarts: last.restarts,
    heap_growth_mb: Number(heapMb.toFixed(2)),
    rss_growth_mb: Number(rssMb.toFixed(1)),
    errors: last.errors.length,
    violations: violations.length,
  })}\n`,
);
process.exitCode = violations.length > 0 ? 1 : 0;
