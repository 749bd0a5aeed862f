import { fork } from "node:child_process";
import { readFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { fileURLToPath } from "node:url";
import { Command, InvalidArgumentError } from "commander";
import * as ort from "onnxruntime-node";
import { createVad } from "../../src/vad/index.ts";
import { installedFile } from "../../src/vad/model.ts";
import { median } from "../statistics.ts";

/** Ways to listen to many streams on one core, each measured in a fresh process. */
const ways = { pool, sessions, shared };
type Way = keyof typeof ways;

/** Feeds one frame of 32 ms to every stream, and resolves once all were judged. */
interface Listener {
  round(): Promise<void>;
  close(): Promise<void>;
}

const FRAME = 512;
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

if (way) process.send!(await measure(way));
else await compare();

/** One way: its memory once all streams have heard something, then frames per second. */
async function measure(name: Way): Promise<Measured> {
  const before = process.memoryUsage().rss;
  const listener = await ways[name]();
  for (let i = 0; i < 5; i++) await listener.round();
  const megabytes = (process.memoryUsage().rss - before) / 1e6;
  const cpuBefore = process.cpuUsage();
  const started = performance.now();
  let frames = 0;
  while (performance.now() - started < seconds * 1000) {
    await listener.round();
    frames += streams;
  }
  const wall = (performance.now() - started) / 1000;
  const { user, system } = process.cpuUsage(cpuBefore);
  await listener.close();
  const audio = (frames * FRAME) / 16_000;
  return { megabytes, perWallSecond: audio / wall, perCoreSecond: audio / ((user + system) / 1e6) };
}

interface Measured {
  readonly megabytes: number;
  /** Seconds of audio heard per second, which is streams in real time. */
  readonly perWallSecond: number;
  readonly perCoreSecond: number;
}

/** `createVad` with one engine: events are read, segments are cut. */
async function pool(): Promise<Listener> {
  const vad = await createVad({ engines: 1 });
  const open = Array.from({ length: streams }, () => vad.stream({ sampleRate: rate, maxSpeechMs: 5000 }));
  const reading = open.map(async (stream) => {
    for await (const _ of stream);
  });
  const audio = Float32Array.from({ length: (FRAME * rate) / 16_000 }, (_, i) => Math.sin(i / 9) / 3);
  return {
    round: async () => {
      for (const stream of open) stream.push(audio);
      await Promise.all(open.map((stream) => stream.flush()));
    },
    close: async () => {
      for (const stream of open) stream.close();
      await Promise.all(reading);
      await vad.close();
    },
  };
}

/** What voice stacks do: a session of onnxruntime-node per stream, one thread each. */
async function sessions(): Promise<Listener> {
  const bytes = readFileSync(modelFile());
  const all: ort.InferenceSession[] = [];
  for (let i = 0; i < streams; i++) all.push(await sessionOf(bytes));
  return bare((stream) => all[stream]!);
}

/** One session of onnxruntime-node for all streams, a frame at a time, each stream with its own state. */
async function shared(): Promise<Listener> {
  const session = await sessionOf(readFileSync(modelFile()));
  return bare(() => session);
}

function bare(sessionOfStream: (stream: number) => ort.InferenceSession): Listener {
  const sr = new ort.Tensor("int64", BigInt64Array.of(16_000n), []);
  const states = Array.from(
    { length: streams },
    () => new ort.Tensor("float32", new Float32Array(256), [2, 1, 128]),
  );
  const inputs = states.map(() => new Float32Array(FRAME + 64));
  const audio = Float32Array.from({ length: FRAME }, (_, i) => Math.sin(i / 9) / 3);
  return {
    round: async () => {
      for (let i = 0; i < streams; i++) {
        const data = inputs[i]!;
        data.copyWithin(0, FRAME);
        data.set(audio, 64);
        const input = new ort.Tensor("float32", data, [1, FRAME + 64]);
        const { stateN } = await sessionOfStream(i).run({ input, state: states[i]!, sr });
        states[i] = stateN as ort.TypedTensor<"float32">;
      }
    },
    close: () => Promise.resolve(),
  };
}

function sessionOf(bytes: Uint8Array): Promise<ort.InferenceSession> {
  return ort.InferenceSession.create(bytes, { intraOpNumThreads: 1, interOpNumThreads: 1 });
}

function modelFile(): string {
  return installedFile([process.cwd()]);
}

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
