import { readFileSync } from "node:fs";
import * as ort from "onnxruntime-node";
import { createVad } from "../vad/index.ts";
import { installedFile } from "../vad/model.ts";

/** Ways to listen to many streams with Silero VAD on one core. */
export const ways = { pool, sessions, shared };
export type Way = keyof typeof ways;

export interface StreamsOptions {
  readonly way: Way;
  readonly streams: number;
  /** Sample rate of the pool's audio; the others take 16000. */
  readonly rate: number;
}

/** Feeds one frame of 32 ms to every stream, and resolves once all were judged. */
interface Listener {
  round(): Promise<void>;
  close(): Promise<void>;
}

const FRAME = 512;

/** Opens all streams in one way; each measurement is of frames per second once all have heard something. */
export async function listenTo({ way, streams, rate }: StreamsOptions) {
  const before = process.memoryUsage().rss;
  const listener = await ways[way](streams, rate);
  for (let i = 0; i < 5; i++) await listener.round();
  const megabytes = (process.memoryUsage().rss - before) / 1e6;
  const measure = async (seconds: number): Promise<Measured> => {
    const cpuBefore = process.cpuUsage();
    const started = performance.now();
    let frames = 0;
    while (performance.now() - started < seconds * 1000) {
      await listener.round();
      frames += streams;
    }
    const wall = (performance.now() - started) / 1000;
    const { user, system } = process.cpuUsage(cpuBefore);
    const audio = (frames * FRAME) / 16_000;
    return { megabytes, perWallSecond: audio / wall, perCoreSecond: audio / ((user + system) / 1e6) };
  };
  return { measure, close: () => listener.close() };
}

export interface Measured {
  readonly megabytes: number;
  /** Seconds of audio heard per second, which is streams in real time. */
  readonly perWallSecond: number;
  readonly perCoreSecond: number;
}

/** `createVad` with one engine: events are read, segments are cut. */
async function pool(streams: number, rate: number): Promise<Listener> {
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
async function sessions(streams: number): Promise<Listener> {
  const bytes = readFileSync(modelFile());
  const all: ort.InferenceSession[] = [];
  for (let i = 0; i < streams; i++) all.push(await sessionOf(bytes));
  return bare(streams, (stream) => all[stream]!);
}

/** One session of onnxruntime-node for all streams, a frame at a time, each stream with its own state. */
async function shared(streams: number): Promise<Listener> {
  const session = await sessionOf(readFileSync(modelFile()));
  return bare(streams, () => session);
}

function bare(streams: number, sessionOfStream: (stream: number) => ort.InferenceSession): Listener {
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
