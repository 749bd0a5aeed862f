import { execFile } from "node:child_process";
import { mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import wavefile from "wavefile";
import { readWav } from "../../src/cli/wav.ts";
import { Fault } from "../../src/core/faults.ts";
import { expected } from "../vad/fixture.ts";

const main = fileURLToPath(new URL("../../dist/src/cli/main.js", import.meta.url));
const speech = fileURLToPath(new URL("../vad/fixtures/speech.wav", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "cellbatch-vad-"));
const vad = (...args: string[]) => promisify(execFile)(process.execPath, [main, "vad", ...args]);
const segments = expected.models[0]!.timestamps[0]!.speech;

/** A file as the `wavefile` package writes it. */
function write(channels: number, rate: number, depth: string, samples: readonly Float32Array[]): Buffer {
  const scale = depth.endsWith("f") || depth === "64" ? 1 : 2 ** (Number(depth) - 1) - 1;
  const middle = depth === "8" ? 128 : 0;
  const scaled = samples.map((one) =>
    Array.from(one, (value) => (scale === 1 ? value : Math.round(value * scale) + middle)),
  );
  const file = new wavefile.WaveFile();
  file.fromScratch(channels, rate, depth, channels === 1 ? scaled[0]! : (scaled as never));
  return Buffer.from(file.toBuffer());
}

describe("a WAV file", () => {
  const wave = (hertz: number) => Float32Array.from({ length: 500 }, (_, i) => 0.7 * Math.sin(i * hertz));

  it.each([
    ["8", 1, 1e-2],
    ["16", 1, 1e-4],
    ["24", 1, 1e-6],
    ["32", 1, 1e-7],
    ["32f", 1, 1e-7],
    ["64", 1, 1e-7],
    ["16", 2, 1e-4],
    ["24", 6, 1e-6],
  ])(
    "of depth %s and %i channels as another library writes it is read and mixed",
    (depth, channels, close) => {
      const parts = Array.from({ length: channels }, (_, i) => wave(0.01 * (i + 1)));
      const { samples, ...facts } = readWav(write(channels, 22_050, depth, parts), "a.wav");
      expect(facts).toMatchObject({ channels, sampleRate: 22_050 });
      expect(samples.length).toBe(500);
      samples.forEach((value, i) => {
        const mean = parts.reduce((sum, part) => sum + part[i]!, 0) / channels;
        expect(Math.abs(value - mean)).toBeLessThan(close);
      });
    },
  );

  it("of mu-law is refused with its format", () => {
    const file = new wavefile.WaveFile(write(1, 8000, "16", [wave(0.1)]));
    file.toMuLaw();
    expect(() => readWav(Buffer.from(file.toBuffer()), "a.wav")).toThrow(
      /format 7, 1 channels, 8000 Hz, 8 bit/,
    );
  });

  it("with any bytes changed or cut off is read or gives a fault", () => {
    const whole = write(2, 8000, "24", [wave(0.1), wave(0.2)]);
    const change = fc.tuple(fc.nat(whole.length - 1), fc.nat(255));
    fc.assert(
      fc.property(fc.array(change, { maxLength: 6 }), fc.nat(whole.length), (changes, length) => {
        const bytes = Buffer.from(whole.subarray(0, length));
        for (const [at, value] of changes) if (at < length) bytes[at] = value;
        try {
          const { samples, channels } = readWav(bytes, "a.wav");
          expect(samples.length * channels).toBeLessThanOrEqual(bytes.length);
        } catch (error) {
          expect(error).toBeInstanceOf(Fault);
        }
      }),
    );
  });
});

describe("cellbatch vad", () => {
  it("prints the reference's segments as a table with a picture", async () => {
    const lines = (await vad(speech)).stdout.trimEnd().split("\n");
    expect(lines[0]).toMatch(/^ +start +end +duration$/);
    expect(lines[1]).toMatch(/^ {4}0\.450 {5}2\.206 {5}1\.756 {2}\| +█+ +\|$/);
    expect(lines.length).toBe(2 + segments.length);
    const seconds = segments.reduce((sum, [start, end]) => sum + (end - start) / 16_000, 0);
    expect(lines.at(-1)).toBe(`7 segments, ${seconds.toFixed(3)} s of speech in 9.038 s`);
  });

  it("prints JSON, and draws an SVG of segments, probabilities and waveform", async () => {
    const plot = join(folder, "a & b.svg");
    const { stdout } = await vad(speech, "--json", "--plot", plot);
    expect(JSON.parse(stdout)).toMatchObject({
      file: speech,
      sampleRate: 16_000,
      channels: 1,
      format: "PCM 16 bit",
      segments: segments.map(([start, end]) => ({ startMs: start / 16, endMs: end / 16 })),
    });
    const svg = readFileSync(plot, "utf8");
    expect(svg.match(/fill="#cfe8cf"/g)?.length).toBe(segments.length);
    expect(/points="([^"]*)"/.exec(svg)![1]!.split(" ").length).toBe(
      expected.models[0]!.probabilities.length,
    );
    expect(svg).not.toMatch(/NaN|undefined|Infinity/);
  });

  it("takes stereo at 48 kHz in 24 bit, and finds the same speech to a frame", async () => {
    const { samples } = readWav(readFileSync(speech), speech);
    const louder = Float32Array.from({ length: samples.length * 3 }, (_, i) => samples[Math.floor(i / 3)]!);
    const file = join(folder, "stereo.wav");
    writeFileSync(file, write(2, 48_000, "24", [louder, louder]));
    const found = JSON.parse((await vad(file, "--json")).stdout) as { segments: { startMs: number }[] };
    expect(found.segments.length).toBe(segments.length);
    found.segments.forEach(({ startMs }, i) => {
      expect(Math.abs(startMs - segments[i]![0] / 16)).toBeLessThanOrEqual(32);
    });
  });

  it("ends with 1 and a sentence for what is no audio", async () => {
    const failing = (...args: string[]) => expect(vad(...args)).rejects;
    await failing(join(folder, "none.wav")).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/cannot be read/),
    });
    await failing(main).toMatchObject({ code: 1, stderr: expect.stringMatching(/is no WAV file; expected/) });
    await failing(speech, "--model", main).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/no ONNX file/),
    });
  });
});
