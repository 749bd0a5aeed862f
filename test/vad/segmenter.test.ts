import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type Boundary, Segmenter } from "../../src/vad/segmenter.ts";
import { checkSpeech, type SpeechSettings } from "../../src/vad/settings.ts";
import { expected, settingsOf } from "./fixture.ts";

const FRAME = 512;

/** The probabilities that make_fixtures.py draws from a seed. */
function walk(seed: number, frames: number): number[] {
  let state = seed;
  let level = 100;
  return Array.from({ length: frames }, () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    level = Math.min(255, Math.max(0, level + ((state >>> 16) % 97) - 48));
    return level / 256;
  });
}

function segment(probabilities: readonly number[], samples: number, settings: SpeechSettings) {
  const told: { readonly boundary: Boundary; readonly frame: number; readonly keepFrom: number }[] = [];
  let frame = 0;
  let keepFrom = 0;
  const segmenter = new Segmenter(checkSpeech(settings), 16_000, FRAME, (boundary) =>
    told.push({ boundary, frame, keepFrom }),
  );
  for (const probability of probabilities) {
    segmenter.push(probability, Math.min(FRAME, samples - frame * FRAME));
    keepFrom = segmenter.keepFrom;
    frame++;
  }
  segmenter.end();
  const segments = told.flatMap(({ boundary }) =>
    boundary.kind === "end" ? [[boundary.start, boundary.end]] : [],
  );
  return { told, segments };
}

describe("a segmenter", () => {
  it("finds the segments of the reference in 300 random walks with random settings", () => {
    for (const { seed, samples, options, speech } of expected.random) {
      const { segments } = segment(walk(seed, Math.ceil(samples / FRAME)), samples, settingsOf(options));
      expect(segments, JSON.stringify({ seed, options })).toEqual(speech);
    }
  });

  it("tells a start before each end, never needs audio it gave up, and ends every segment", () => {
    const settings = fc.record({
      threshold: fc.double({ min: 0.1, max: 0.9, noNaN: true }),
      minSpeechMs: fc.constantFrom(0, 100, 250, 1000),
      minSilenceMs: fc.constantFrom(0, 50, 100, 500),
      speechPadMs: fc.constantFrom(0, 10.3, 30, 300),
      maxSpeechMs: fc.constantFrom(700, 2000, Number.POSITIVE_INFINITY),
    });
    fc.assert(
      fc.property(fc.nat(), fc.integer({ min: 1, max: 60_000 }), settings, (seed, samples, chosen) => {
        const { told } = segment(walk(seed, Math.ceil(samples / FRAME)), samples, chosen);
        told.forEach(({ boundary, keepFrom }, i) => {
          expect(boundary.kind).toBe(i % 2 === 0 ? "start" : "end");
          if (boundary.kind === "start") return;
          const before = told[i - 1]!.boundary;
          expect(before).toEqual({ kind: "start", at: boundary.start });
          expect(boundary.start).toBeGreaterThanOrEqual(keepFrom);
          expect(boundary.end).toBeGreaterThanOrEqual(boundary.start);
          expect(boundary.end).toBeLessThanOrEqual(samples);
        });
        expect(told.length % 2).toBe(0);
      }),
    );
  });

  it("tells a start as soon as it is long enough, an end as soon as the silence is", () => {
    const probabilities = [0, 0, ...Array<number>(20).fill(0.9), ...Array<number>(20).fill(0)];
    const samples = probabilities.length * FRAME;
    const when = (settings: SpeechSettings) =>
      segment(probabilities, samples, settings).told.map(({ frame }) => frame);
    expect(when({})).toEqual([2 + 7, 22 + 4]);
    expect(when({ minSpeechMs: 0, minSilenceMs: 0, speechPadMs: 0 })).toEqual([2, 22]);
  });
});
