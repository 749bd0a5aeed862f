import { tmpdir } from "node:os";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createRuntime } from "../../src/runtime/create.ts";
import type { Runtime } from "../../src/runtime/types.ts";
import {
  createVad,
  type StreamSettings,
  type Vad,
  type VadEvent,
  type VadStream,
} from "../../src/vad/index.ts";
import { installedFile, type Rate, sileroModel } from "../../src/vad/model.ts";
import { expected, settingsOf, speech } from "./fixture.ts";

/** A detector on this thread, with the model of a file of the installed package. */
async function open(file?: string, rate: Rate = 16_000): Promise<{ vad: Vad; runtime: Runtime }> {
  const path =
    file && new URL(`../../node_modules/@ricky0123/vad-web/dist/${file}`, import.meta.url).pathname;
  const runtime = await createRuntime({ models: [await sileroModel(path, rate)], inline: true });
  return { vad: await createVad({ runtime }), runtime };
}

let vad: Vad;
let runtime: Runtime;
beforeAll(async () => {
  ({ vad, runtime } = await open());
});
afterAll(async () => {
  await vad.close();
  await runtime.close(0);
});

/** Pushes audio in chunks of these sizes, again and again, while reading all events. */
async function listen(stream: VadStream, audio: Float32Array | Int16Array, chunks: readonly number[]) {
  const pushing = (async () => {
    for (let at = 0, i = 0; at < audio.length; i++) {
      const size = chunks[i % chunks.length]!;
      stream.push(audio.subarray(at, at + size) as Float32Array);
      at += size;
      if (i % 16 === 15) await stream.flush();
    }
    stream.end();
  })();
  const events = await read(stream);
  await pushing;
  return events;
}

async function read(stream: VadStream): Promise<VadEvent[]> {
  const events: VadEvent[] = [];
  for await (const event of stream) events.push(event);
  return events;
}

const hear = (audio: Float32Array | Int16Array, settings: Partial<StreamSettings> = {}, chunks = [1600]) =>
  listen(vad.stream({ sampleRate: 16_000, ...settings }), audio, chunks);

const ends = (events: readonly VadEvent[]) => events.filter((event) => event.type === "speech_end");
const probabilities = (events: readonly VadEvent[]) =>
  events.flatMap((event) => (event.type === "frame" ? [event.probability] : []));

/** The speech of the fixture, louder or softer and from another place. */
function variant(i: number): Float32Array {
  const from = (i * 3301) % (speech.length - 60_000);
  return speech.slice(from, from + 30_000 + i * 501).map((value) => value * (0.4 + (i % 7) / 10));
}

/** Two sines at any rate. */
function sines(rate: number, seconds: number): Float32Array {
  const wave = (hertz: number, i: number) => Math.sin((2 * Math.PI * hertz * i) / rate);
  return Float32Array.from({ length: rate * seconds }, (_, i) => 0.5 * wave(440, i) + 0.2 * wave(1234, i));
}

describe("one stream", () => {
  it.each(expected.models.map((model) => [`${model.file} at ${model.rate} Hz`, model] as const))(
    "hears with %s what the reference hears",
    async (_, { file, rate, probabilities: theirs, timestamps }) => {
      const pool = await open(file, rate);
      const audio = rate === 16_000 ? speech : speech.filter((_, i) => i % 2 === 0);
      for (const { options, speech: segments } of timestamps) {
        const stream = pool.vad.stream({ sampleRate: rate, frames: true, ...settingsOf(options) });
        const events = await listen(stream, audio, [480]);
        const ours = probabilities(events);
        expect(ours.length).toBe(theirs.length);
        const worst = Math.max(...ours.map((value, i) => Math.abs(value - theirs[i]!)));
        expect(worst).toBeLessThan(1e-5);
        const found = ends(events).map(({ startMs, endMs }) =>
          [startMs, endMs].map((ms) => (ms * rate) / 1000),
        );
        expect(found, JSON.stringify(options)).toEqual(segments);
        ends(events).forEach(({ audio: cut }, i) => expect(cut).toEqual(audio.slice(...segments[i]!)));
      }
      await pool.vad.close();
      await pool.runtime.close(0);
    },
  );

  it("without a least length tells what the reference's VADIterator tells", async () => {
    const whole = speech.subarray(0, Math.floor(speech.length / 512) * 512);
    const events = await hear(whole, { minSpeechMs: 0 });
    const told = events.flatMap((event): object[] => {
      if (event.type === "speech_start") return [{ start: event.atMs * 16 }];
      return event.type === "speech_end" ? [{ end: event.endMs * 16 }] : [];
    });
    expect(told).toEqual(expected.models[0]!.iterator);
  });

  it("gives the same events however its audio is cut, as floats or as 16-bit samples", async () => {
    const whole = await hear(speech, { frames: true });
    expect(await hear(speech, { frames: true }, [1, 511, 7, 4099])).toEqual(whole);
    const shorts = Int16Array.from(speech, (value) => value * 32_768);
    expect(await hear(shorts, { frames: true }, [320])).toEqual(whole);
  });

  it.each([8000, 44_100, 48_000])(
    "resamples from %i Hz to the same samples however they are cut",
    async (rate) => {
      const input = sines(rate, 1);
      const settings = { sampleRate: rate, frames: true, threshold: 1e-9, minSpeechMs: 0 };
      const [whole] = ends(await hear(input, settings, [input.length]));
      const [cut] = ends(await hear(input, settings, [1, 160, 7, 333]));
      expect(cut).toEqual(whole);
      expect(whole!.audio.length).toBe(16_000);
      const worst = sines(16_000, 1)
        .subarray(200, 15_800)
        .reduce((most, value, i) => Math.max(most, Math.abs(value - whole!.audio[i + 200]!)), 0);
      expect(worst).toBeLessThan(1e-4);
    },
  );

  it("that ends while someone speaks closes the segment with the last sample", async () => {
    const audio = speech.slice(0, 20_000);
    const events = await hear(audio);
    expect(events.map(({ type }) => type)).toEqual(["speech_start", "speech_end"]);
    expect(events.at(-1)).toMatchObject({ startMs: 450, endMs: 1250 });
  });

  it("without samples ends without events", async () => {
    expect(await hear(new Float32Array())).toEqual([]);
  });
});

describe("many streams at once", () => {
  it("give each what it gets alone", async () => {
    const settings = { frames: true, minSpeechMs: 100 };
    const together = await Promise.all(
      Array.from({ length: 50 }, (_, i) => hear(variant(i), settings, [160 + 37 * i])),
    );
    for (const [i, events] of together.entries()) expect(events).toEqual(await hear(variant(i), settings));
    expect(together.flatMap(ends).length).toBeGreaterThan(50);
    expect(vad.active).toBe(0);
    expect(runtime.stats().active).toBe(0);
  });

  it("on engines of their own give the same", async () => {
    const threaded = await createVad({ engines: 2 });
    const heard = await Promise.all(
      Array.from({ length: 8 }, (_, i) =>
        listen(threaded.stream({ sampleRate: 16_000 }), variant(i), [1600]),
      ),
    );
    for (const [i, events] of heard.entries()) expect(events).toEqual(await hear(variant(i)));
    await threaded.close();
  });
});

describe("a stream that is left", () => {
  it("by its signal throws CANCELLED, and so does a stream of an aborted signal", async () => {
    const abort = new AbortController();
    const stream = vad.stream({ sampleRate: 16_000, signal: abort.signal });
    stream.push(speech.subarray(0, 20_000));
    const flushed = stream.flush();
    abort.abort();
    await expect(flushed).rejects.toMatchObject({ code: "CANCELLED" });
    await expect(read(stream)).rejects.toMatchObject({ code: "CANCELLED" });
    expect(() => stream.push(speech)).toThrow(/aborted/);
    expect(() => vad.stream({ sampleRate: 16_000, signal: abort.signal })).toThrow(/aborted/);
    expect(vad.active).toBe(0);
  });

  it("by its reader ends, and gives its place back", async () => {
    const stream = vad.stream({ sampleRate: 48_000, frames: true });
    stream.push(speech);
    for await (const _ of stream) break;
    expect(() => stream.push(speech)).toThrow(/after 'end' or 'close'/);
    expect(await read(stream)).toEqual([]);
    await expect.poll(() => runtime.stats().active).toBe(0);
  });

  it("by the pool throws SHUTTING_DOWN", async () => {
    const other = await createVad({ runtime });
    const stream = other.stream({ sampleRate: 16_000 });
    await other.close();
    await expect(read(stream)).rejects.toMatchObject({ code: "SHUTTING_DOWN" });
    expect(() => other.stream({ sampleRate: 16_000 })).toThrow(/was closed/);
  });
});

describe("a stream that nobody reads", () => {
  it("stops judging and then refuses audio, and goes on when it is read", async () => {
    const cells = runtime.stats().cells;
    const stream = vad.stream({ sampleRate: 16_000, frames: true, maxBufferedMs: 1000 });
    let taken = 0;
    const refused = async () => {
      for (; taken < 20_000; taken++) {
        stream.push(speech.subarray(0, 512));
        await Promise.race([stream.flush(), new Promise((resolve) => setTimeout(resolve, 20))]);
      }
    };
    await expect(refused()).rejects.toMatchObject({ code: "OVERLOADED", message: /'maxBufferedMs' is 1000/ });
    // 1024 events, at most 64 frames more that were on their way, and a second of audio.
    expect(taken).toBeLessThanOrEqual(1024 + 64 + 33);
    expect(runtime.stats().cells - cells).toBeGreaterThanOrEqual(1024);
    expect(runtime.stats().cells - cells).toBeLessThanOrEqual(1024 + 64);
    stream.end();
    expect(probabilities(await read(stream)).length).toBe(taken);
  });

  it("holds segments up to the same bound", async () => {
    const stream = vad.stream({ sampleRate: 16_000, maxBufferedMs: 2000, maxSpeechMs: 500 });
    const refused = async () => {
      for (let i = 0; i < 1000; i++) {
        stream.push(speech.subarray((i % 8) * 16_000, ((i % 8) + 1) * 16_000));
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
    };
    await expect(refused()).rejects.toMatchObject({ code: "OVERLOADED" });
    stream.close();
  });
});

describe("wrong input", () => {
  it.each([
    [{ sampleRate: 0 }, /'sampleRate' is 0, it must be an integer from 4000 to 384000/],
    [{ sampleRate: -16_000 }, /'sampleRate' is -16000/],
    [{ sampleRate: 16_000.5 }, /'sampleRate' is 16000.5/],
    [{ sampleRate: "16000" as unknown as number }, /'sampleRate' is 16000, it must be an integer/],
    [{ sampleRate: 16_000, threshold: 1.1 }, /'threshold' is 1.1/],
    [{ sampleRate: 16_000, threshold: Number.NaN }, /'threshold' is NaN/],
    [{ sampleRate: 16_000, negThreshold: 0.6 }, /'negThreshold' is 0.6, it must be from 0 to 'threshold'/],
    [{ sampleRate: 16_000, minSpeechMs: -1 }, /'minSpeechMs' is -1/],
    [{ sampleRate: 16_000, minSilenceMs: Number.POSITIVE_INFINITY }, /'minSilenceMs' is Infinity/],
    [{ sampleRate: 16_000, speechPadMs: 20_000 }, /'speechPadMs' is 20000/],
    [{ sampleRate: 16_000, maxSpeechMs: 92 }, /'maxSpeechMs' is 92, it must be above 92/],
    [{ sampleRate: 16_000, maxBufferedMs: 0 }, /'maxBufferedMs' is 0/],
  ])("%j gives a fault", (settings, message) => {
    expect(() => vad.stream(settings)).toThrow(message);
    expect(vad.active).toBe(0);
  });

  it("in samples gives a fault that names them, and the stream goes on", async () => {
    const stream = vad.stream({ sampleRate: 16_000 });
    expect(() => stream.push(Float32Array.of(0, Number.NaN))).toThrow(/sample 1 is NaN/);
    expect(() => stream.push(Float32Array.of(-3000))).toThrow(/sample 0 is -3000: full scale is 1/);
    expect(() => stream.push(Buffer.from("audio") as unknown as Int16Array)).toThrow(
      /Uint8Array, expected Float32/,
    );
    expect(ends(await listen(stream, speech, [1600])).length).toBe(7);
  });

  it("where no model is installed says what to install", () => {
    expect(() => installedFile([tmpdir()])).toThrow(/npm install @ricky0123\/vad-web.*'model'/);
  });

  it("for a pool names the file or the runtime", async () => {
    await expect(createVad({ model: "/nowhere.onnx" })).rejects.toThrow(
      /model \/nowhere.onnx cannot be read/,
    );
    const file = new URL("fixture.ts", import.meta.url).pathname;
    await expect(createVad({ model: file })).rejects.toThrow(/fixture.ts is no ONNX file/);
    const legacy = "node_modules/@ricky0123/vad-web/dist/silero_vad_legacy.onnx";
    await expect(createVad({ model: legacy })).rejects.toThrow(/no Silero VAD v5 or v6.*'h'/);
    await expect(createVad({ rate: 44_100 as Rate })).rejects.toThrow(/'rate' is 44100/);
    await expect(createVad({ runtime, engines: 1 })).rejects.toThrow(/'engines' is 1.*'runtime' is given/);
    const empty = await createRuntime({ models: [], inline: true });
    await expect(createVad({ runtime: empty })).rejects.toThrow(/no 'silero-vad' but nothing/);
    await empty.close(0);
  });
});
