/** Runs in the audio thread: gathers samples into frames of 512 and hands them to the page. */
interface Processor {
  readonly port: MessagePort;
}
declare const AudioWorkletProcessor: new () => Processor;
declare function registerProcessor(name: string, processor: new () => Processor): void;

const FRAME = 512;

class Framer extends AudioWorkletProcessor {
  #frame = new Float32Array(FRAME);
  #filled = 0;

  process(inputs: readonly (readonly Float32Array[])[]): boolean {
    const samples = inputs[0]?.[0] ?? [];
    for (const sample of samples) {
      this.#frame[this.#filled++] = sample;
      if (this.#filled < FRAME) continue;
      this.port.postMessage(this.#frame, [this.#frame.buffer]);
      this.#frame = new Float32Array(FRAME);
      this.#filled = 0;
    }
    return true;
  }
}

registerProcessor("framer", Framer);
