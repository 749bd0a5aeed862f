import { fork } from "node:child_process";
import { availableParallelism } from "node:os";
import { fileURLToPath } from "node:url";
import { Command, InvalidArgumentError } from "commander";
import { listenTo, type Measured, type Way, ways } from "../../src/bench/streams.ts";
import { median } from "../../src/load/statistics.ts";

const {
  streams,
  sessions: sessionStreams,
  seconds,
  rounds,
  rate,
  way,
} = new Command("vad-bench")
  .description(
    "Streams of Silero VAD in real time per core and MB per 1,000 streams: the pool, a session each, a session shared.",
  )
  .option("--streams <count>", "streams of the pool and of the shared session", integer, 1000)
  .option("--sessions <count>", "streams that have a session each", integer, 100)
  .option("--seconds <s>", "how long each way is measured", integer, 5)
  .option("--rounds <count>", "times that each way is measured, in turn", integer, 3)
  .option("--rate <hz>", "sample rate of the pool's audio; the others take 16000", integer, 16_000)
  .option("--way <name>", "measures one way in this process")
  .parse()
  .opts<{ streams: number; sessions: number; seconds: number; rounds: number; rate: number; way?: Way }>();

if (way) {
  const listener = await listenTo({ way, streams, rate });
  process.send!(await listener.measure(seconds));
  await listener.close();
} else await compare();

/** All ways in turn, in the other order every second time; medians with the raw values. */
async function compare(): Promise<void> {
  const given = process.argv.slice(2);
  const found: Record<Way, Measured[]> = { pool: [], sessions: [], shared: [] };
  for (let round = 0; round < rounds; round++) {
    const order = Object.keys(ways) as Way[];
    for (const name of round % 2 === 0 ? order : order.reverse()) {
      found[name].push(await inProcess(name, name === "sessions" ? sessionStreams : streams, given));
    }
  }
  console.log(`Node ${process.version}, ${availableParallelism()} cores, ${rounds} rounds of ${seconds} s`);
  for (const name of Object.keys(ways) as Way[]) {
    const count = name === "sessions" ? sessionStreams : streams;
    const show = (pick: (one: Measured) => number, digits = 0) => {
      const values = found[name].map(pick);
      return `${median(values).toFixed(digits)} (${values.map((value) => value.toFixed(digits)).join(" ")})`;
    };
    const megabytes = show((one) => (one.megabytes * 1000) / count);
    const [wall, core] = [show((one) => one.perWallSecond), show((one) => one.perCoreSecond)];
    console.log(
      `${name.padEnd(9)} ${count} streams: ${megabytes} MB per 1,000, ${wall} in real time, ${core} per core`,
    );
  }
}

function inProcess(name: Way, count: number, given: readonly string[]): Promise<Measured> {
  return new Promise((resolve, reject) => {
    const child = fork(fileURLToPath(import.meta.url), [...given, "--way", name, "--streams", `${count}`]);
    child.once("message", (measured: Measured) => {
      resolve(measured);
      child.kill();
    });
    child.once("exit", (code) => reject(new Error(`'${name}' ended with ${code}`)));
  });
}

function integer(text: string): number {
  const value = Number(text);
  if (Number.isInteger(value) && value > 0) return value;
  throw new InvalidArgumentError("It must be an integer above 0.");
}
