import { command, type EngineOptions, writeOptions } from "../../src/engine/messages.ts";
import type { PacketWriter } from "../../src/engine/packet.ts";

const OPTIONS: EngineOptions = {
  priority: 5,
  timeoutMs: Number.POSITIVE_INFINITY,
  maxSteps: Number.POSITIVE_INFINITY,
  temperature: 0,
  topK: 0,
  topP: 1,
  seed: 0,
  beamWidth: 0,
  stream: false,
};
/** Writes a request of some tokens for the first model, as the runtime does. */
export function submit(writer: PacketWriter, id: number, steps: number): void {
  writer.int(command.SUBMIT);
  writer.int(id);
  writer.int(0);
  writeOptions(writer, OPTIONS);
  writer.int(1);
  writer.int(0);
  writer.tensor([steps], new Int32Array(steps).fill(id & 255));
}
