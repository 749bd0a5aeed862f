import { element } from "./dom.ts";
import { colours } from "./theme.ts";

/** One frame of sound: its loudest sample, and how likely it holds speech once that is known. */
interface Frame {
  readonly peak: number;
  probability?: number;
}

const MOST_FRAMES = 320;
export const SPEECH = 0.5;

/** Sound as bars and the probability of speech as a line; the latest ten seconds, or all of a short file. */
export class SpeechView {
  readonly canvas = element("canvas", {
    className: "speech",
    role: "img",
    "aria-label": "Loudness of the sound and probability of speech over time",
  });
  #frames: Frame[] = [];
  #first = 0;
  #isDue = false;

  clear(): void {
    this.#frames = [];
    this.#first = 0;
    this.#draw();
  }

  heard(samples: Float32Array): void {
    let peak = 0;
    for (const sample of samples) peak = Math.max(peak, Math.abs(sample));
    this.#frames.push({ peak });
    if (this.#frames.length > MOST_FRAMES) {
      this.#frames.shift();
      this.#first++;
    }
    this.#draw();
  }

  judged(frame: number, probability: number): void {
    const one = this.#frames[frame - this.#first];
    if (one) one.probability = probability;
    this.#draw();
  }

  #draw(): void {
    if (this.#isDue) return;
    this.#isDue = true;
    requestAnimationFrame(() => {
      this.#isDue = false;
      this.#paint();
    });
  }

  #paint(): void {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    this.canvas.width = width * devicePixelRatio;
    this.canvas.height = height * devicePixelRatio;
    const context = this.canvas.getContext("2d")!;
    context.scale(devicePixelRatio, devicePixelRatio);
    const { series, muted, grid } = colours();
    const pitch = width / MOST_FRAMES;
    const y = (probability: number) => 4 + (1 - probability) * (height - 8);
    this.#frames.forEach(({ peak, probability = 0 }, i) => {
      const bar = Math.max(1, Math.min(1, peak * 1.4) * (height - 8));
      context.fillStyle = probability >= SPEECH ? series[2]! : muted;
      context.globalAlpha = probability >= SPEECH ? 0.75 : 0.4;
      context.fillRect(i * pitch, (height - bar) / 2, Math.max(1, pitch - 0.5), bar);
    });
    context.globalAlpha = 1;
    context.strokeStyle = grid;
    context.setLineDash([4, 4]);
    context.beginPath();
    context.moveTo(0, y(SPEECH));
    context.lineTo(width, y(SPEECH));
    context.stroke();
    context.setLineDash([]);
    context.strokeStyle = series[1]!;
    context.lineWidth = 1.5;
    context.beginPath();
    this.#frames.forEach(({ probability }, i) => {
      if (probability !== undefined) context.lineTo((i + 0.5) * pitch, y(probability));
    });
    context.stroke();
  }
}
