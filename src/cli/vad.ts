import { readFile, writeFile } from "node:fs/promises";
import { Fault } from "../core/faults.ts";
import { createVad, type Vad } from "../vad/index.ts";
import { type Heard, plotSpeech } from "./vad-plot.ts";
import { readWav, type WavAudio } from "./wav.ts";

export interface VadOptions {
  readonly model?: string;
  readonly json: boolean;
  readonly plot?: string;
}

/** Prints the stretches of speech in a WAV file. */
export async function findSpeech(file: string, { model, json, plot }: VadOptions): Promise<void> {
  const bytes = await readFile(file).catch((error: Error) => {
    throw new Fault("INVALID_REQUEST", `${file} cannot be read: ${error.message}`, { cause: error });
  });
  const audio = readWav(bytes, file);
  const vad = await createVad({ engines: 1, ...(model === undefined ? {} : { model }) });
  try {
    const heard = await hear(vad, audio);
    const durationMs = (audio.samples.length * 1000) / audio.sampleRate;
    if (plot !== undefined) await writeFile(plot, plotSpeech(file, audio, heard));
    if (json) print(JSON.stringify({ ...facts(file, audio), durationMs, segments: heard.segments }));
    else print(table(heard, durationMs));
  } finally {
    await vad.close();
  }
}

async function hear(vad: Vad, { samples, sampleRate }: WavAudio): Promise<Heard> {
  const stream = vad.stream({ sampleRate, frames: true });
  const pushing = (async () => {
    for (let at = 0; at < samples.length; at += sampleRate) {
      stream.push(samples.subarray(at, at + sampleRate));
      await stream.flush();
    }
    stream.end();
  })();
  const reading = (async () => {
    const segments: { startMs: number; endMs: number }[] = [];
    const probabilities: number[] = [];
    for await (const event of stream) {
      if (event.type === "frame") probabilities.push(event.probability);
      if (event.type === "speech_end") segments.push({ startMs: event.startMs, endMs: event.endMs });
    }
    return { segments, probabilities };
  })();
  try {
    const [heard] = await Promise.all([reading, pushing]);
    return heard;
  } finally {
    stream.close();
  }
}

function facts(file: string, { sampleRate, channels, format }: WavAudio) {
  return { file, sampleRate, channels, format };
}

/** A line per segment, in seconds, with its place in the file. */
function table({ segments }: Heard, durationMs: number): string {
  const seconds = (ms: number) => (ms / 1000).toFixed(3).padStart(9);
  const lines = segments.map(({ startMs, endMs }) => {
    const from = Math.min(BAR - 1, Math.floor((startMs / durationMs) * BAR));
    const to = Math.max(from + 1, Math.round((endMs / durationMs) * BAR));
    const bar = `${" ".repeat(from)}${"█".repeat(to - from)}`.padEnd(BAR);
    return `${seconds(startMs)} ${seconds(endMs)} ${seconds(endMs - startMs)}  |${bar}|`;
  });
  const speech = segments.reduce((sum, { startMs, endMs }) => sum + endMs - startMs, 0);
  const sum = `${segments.length} segments, ${(speech / 1000).toFixed(3)} s of speech in ${(durationMs / 1000).toFixed(3)} s`;
  return ["    start       end  duration", ...lines, sum].join("\n");
}

/** Characters of the whole file. */
const BAR = 48;

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}
