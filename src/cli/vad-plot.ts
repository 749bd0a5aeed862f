import type { WavAudio } from "./wav.ts";

/** What was heard in a file. */
export interface Heard {
  readonly segments: readonly { readonly startMs: number; readonly endMs: number }[];
  /** One for every 32 ms. */
  readonly probabilities: readonly number[];
}

/**
 * An SVG of 1200 by 340: waveform above, probability below, segments behind both.
 *
 * ```
 *  |~~~~/\/\/\~~~~| envelope, -1 to 1
 *  |___/^^^^^\____| probability, 0 to 1, and the threshold of 0.5
 *  0 s           9 s
 * ```
 */
export function plotSpeech(
  title: string,
  { samples, sampleRate }: WavAudio,
  { segments, probabilities }: Heard,
): string {
  const seconds = Math.max(samples.length / sampleRate, 0.001);
  const x = (time: number) => round(LEFT + (Math.min(time, seconds) / seconds) * WIDTH);
  const bands = segments.map(({ startMs, endMs }) => {
    const [from, to] = [x(startMs / 1000), x(endMs / 1000)];
    return `<rect x="${from}" y="${WAVE.top}" width="${round(to - from)}" height="${CHANCE.bottom - WAVE.top}" fill="#cfe8cf"/>`;
  });
  const chance = probabilities.map((value, i) => `${x((i + 0.5) * 0.032)},${height(CHANCE, value)}`);
  return `<svg xmlns="http://www.w3.org/2000/svg" width="1200" height="340" viewBox="0 0 1200 340" font-family="sans-serif" font-size="12">
<rect width="1200" height="340" fill="#fff"/>
<text x="${LEFT}" y="18">${escaped(title)}: ${segments.length} segments of speech</text>
${bands.join("\n")}
<path d="${envelope(samples)}" stroke="#456" fill="none"/>
${axis(CHANCE, [0, 0.5, 1])}
<polyline points="${chance.join(" ")}" stroke="#b40" fill="none"/>
${axis(WAVE, [-1, 0, 1])}
${times(seconds, x)}
</svg>
`;
}

interface Panel {
  readonly top: number;
  readonly bottom: number;
  readonly least: number;
}

const LEFT = 50;
const WIDTH = 1130;
const WAVE: Panel = { top: 30, bottom: 170, least: -1 };
const CHANCE: Panel = { top: 190, bottom: 300, least: 0 };

/** Where a value of a panel lies; from its least to 1. */
function height({ top, bottom, least }: Panel, value: number): number {
  const share = (Math.max(least, Math.min(1, value)) - least) / (1 - least);
  return round(bottom - share * (bottom - top));
}

/** A stroke per pixel, from the least to the greatest sample in it. */
function envelope(samples: Float32Array): string {
  const strokes: string[] = [];
  for (let pixel = 0; pixel < WIDTH; pixel++) {
    const from = Math.floor((pixel * samples.length) / WIDTH);
    const to = Math.max(from + 1, Math.floor(((pixel + 1) * samples.length) / WIDTH));
    if (from >= samples.length) break;
    let [least, most] = [samples[from]!, samples[from]!];
    for (let i = from; i < to; i++) {
      least = Math.min(least, samples[i]!);
      most = Math.max(most, samples[i]!);
    }
    strokes.push(`M${LEFT + pixel + 0.5} ${height(WAVE, most)}V${round(height(WAVE, least) + 0.5)}`);
  }
  return strokes.join("");
}

function axis(panel: Panel, values: readonly number[]): string {
  const lines = values.map((value) => {
    const y = height(panel, value);
    return `<path d="M${LEFT} ${y}h${WIDTH}" stroke="#ccc" stroke-dasharray="2 3"/><text x="${LEFT - 6}" y="${y + 4}" text-anchor="end">${value}</text>`;
  });
  return lines.join("\n");
}

/** Up to twelve marks at whole steps of 1, 2 or 5. */
function times(seconds: number, x: (time: number) => number): string {
  const least = seconds / 12;
  const power = 10 ** Math.floor(Math.log10(least));
  const step = ([1, 2, 5].find((factor) => factor * power >= least) ?? 10) * power;
  const marks = Array.from({ length: Math.floor(seconds / step) + 1 }, (_, i) => i * step);
  return marks
    .map(
      (time) => `<text x="${x(time)}" y="322" text-anchor="middle">${Number(time.toPrecision(6))} s</text>`,
    )
    .join("\n");
}

function escaped(text: string): string {
  return text.replace(/[&<>]/g, (sign) => `&#${sign.charCodeAt(0)};`);
}

function round(value: number): number {
  return Math.round(value * 100) / 100;
}
