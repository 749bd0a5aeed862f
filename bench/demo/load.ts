import { WebSocket } from "ws";
import { Latencies } from "../../src/load/latencies.ts";
import { words } from "./words.ts";

export interface LoadSettings {
  readonly port: number;
  readonly clients: number;
  /** Share of the clients that stream audio in real time. */
  readonly voices: number;
  /** Mean of the exponential pause between an answer and the next question, in milliseconds. */
  readonly pauseMs: number;
}

/** Clients that ask a server at random times: words to pronounce, definitions to write, audio to listen to. */
export class Load {
  readonly latency = new Latencies();
  /** From the push of 32 ms of audio to its probability. */
  readonly voiceLatency = new Latencies();
  answered = 0;
  errors = 0;
  readonly #settings: LoadSettings;
  readonly #sockets: WebSocket[] = [];
  readonly #stops: (() => void)[] = [];
  #stopped = false;

  constructor(settings: LoadSettings) {
    this.#settings = settings;
  }

  async start(): Promise<void> {
    const { clients, voices } = this.#settings;
    for (let i = 0; i < clients; i++) {
      const ws = await this.#connect();
      if (i < clients * voices) this.#listen(ws);
      else this.#ask(ws);
    }
  }

  stop(): void {
    this.#stopped = true;
    for (const stop of this.#stops) stop();
    for (const ws of this.#sockets) ws.terminate();
  }

  async #connect(): Promise<WebSocket> {
    const ws = new WebSocket(`ws://127.0.0.1:${this.#settings.port}/v1/stream`, "cellbatch.v1");
    this.#sockets.push(ws);
    await new Promise((resolve, reject) => {
      ws.once("open", resolve);
      ws.once("error", reject);
    });
    ws.on("error", () => {
      if (!this.#stopped) this.errors++;
    });
    return ws;
  }

  /** Asks, waits for the answer, thinks, asks again. */
  #ask(ws: WebSocket): void {
    let sentMs = 0;
    const ask = () => {
      if (this.#stopped) return;
      sentMs = performance.now();
      const inputs =
        Math.random() < WRITING_SHARE
          ? { text: "a " }
          : { text: words[Math.floor(Math.random() * words.length)] };
      const model = inputs.text === "a " ? "char-lm" : "g2p";
      const parameters = {
        stream: false,
        max_steps: 40,
        temperature: model === "g2p" ? 0 : 0.8,
        seed: Math.floor(Math.random() * 1e9),
      };
      ws.send(JSON.stringify({ type: "infer", id: "1", model, inputs, parameters }));
    };
    const think = () => setTimeout(ask, -Math.log(1 - Math.random()) * this.#settings.pauseMs);
    ws.on("message", (data: Buffer) => {
      const { type } = JSON.parse(data.toString()) as { type: string };
      if (type === "done") {
        this.latency.add(performance.now() - sentMs);
        this.answered++;
      } else if (type === "error") this.errors++;
      else return;
      think();
    });
    think();
  }

  /** Streams audio, 512 samples every 32 ms, as a microphone does. */
  #listen(ws: WebSocket): void {
    const sent: number[] = [];
    let phase = Math.random() * 100;
    const push = () => {
      if (sent.length >= MOST_IN_FLIGHT) return;
      const data = Array.from({ length: 512 }, () => {
        phase += 0.05 + 0.02 * Math.sin(phase / 40);
        return Math.round(2000 * Math.sin(phase)) / 32_768;
      });
      sent.push(performance.now());
      ws.send(
        JSON.stringify({
          type: "push",
          id: "v",
          inputs: { input: { datatype: "FP32", shape: [512], data } },
        }),
      );
    };
    ws.on("message", (data: Buffer) => {
      const { type } = JSON.parse(data.toString()) as { type: string };
      if (type === "output") {
        this.voiceLatency.add(performance.now() - sent.shift()!);
        this.answered++;
      } else if (type === "error") this.errors++;
    });
    ws.send(JSON.stringify({ type: "open", id: "v", model: "silero-vad" }));
    const start = setTimeout(() => {
      const timer = setInterval(push, 32);
      this.#stops.push(() => clearInterval(timer));
    }, Math.random() * 32);
    this.#stops.push(() => clearTimeout(start));
  }
}

const WRITING_SHARE = 0.3;
/** A voice whose server is this far behind drops audio, as a live caller would. */
const MOST_IN_FLIGHT = 128;
