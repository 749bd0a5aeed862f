import type { Tensor } from "../core/tensor.ts";
import { command } from "../engine/messages.ts";
import type { PacketWriter } from "../engine/packet.ts";
import type { EngineSlot } from "./engines.ts";
import type { Entry } from "./entries.ts";
import type { BufferChange } from "./types.ts";
import type { Version } from "./versions.ts";

/** Stands where other commands have the number of a request. */
export const NO_REQUEST = -1;

/** Begins a command for the engine of a request. */
export function tell({ engine: { writer }, id }: Entry, kind: number): PacketWriter {
  writer.int(kind);
  writer.int(id);
  return writer;
}

export function writeTensors(writer: PacketWriter, tensors: readonly Tensor[]): void {
  writer.int(tensors.length);
  tensors.forEach(({ shape, data }, at) => {
    writer.int(at);
    writer.tensor(shape, data);
  });
}

export function tellBuffers(
  { writer }: EngineSlot,
  { number }: Version,
  { buffers, eager }: BufferChange,
): void {
  writer.int(command.BUFFERS);
  writer.int(0);
  writer.int(number);
  writer.int(eager ? 1 : 0);
  writer.int(buffers.length);
  for (const { upTo = -1, maxBatch, timeoutMs } of buffers) {
    writer.int(upTo);
    writer.int(maxBatch);
    writer.double(timeoutMs);
  }
}
