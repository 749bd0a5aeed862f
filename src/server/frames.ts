import { Fault } from "../core/faults.ts";
import type { BinaryData } from "./tensors.ts";

/** A frame as JSON, and the bytes after it where it is binary. */
export interface Frame {
  readonly json: unknown;
  readonly binary: BinaryFrame | undefined;
}

/** Parses a frame. Throws INVALID_REQUEST that says what is wrong with it. */
export function parseFrame(data: Buffer, isBinary: boolean): Frame {
  if (!isBinary) return { json: parseJson(data.toString()), binary: undefined };
  if (data.length < 4)
    throw new Fault("INVALID_REQUEST", `a binary frame of ${data.length} bytes has no JSON length`);
  const length = data.readUInt32LE(0);
  if (length > data.length - 4) {
    throw new Fault(
      "INVALID_REQUEST",
      `a binary frame of ${data.length} bytes cannot hold ${length} bytes of JSON`,
    );
  }
  return {
    json: parseJson(data.toString("utf8", 4, 4 + length)),
    binary: new BinaryFrame(data.subarray(4 + length)),
  };
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new Fault("INVALID_REQUEST", `the frame is no JSON: ${(error as Error).message}`);
  }
}

/** The bytes of a binary frame, given to its tensors one after the other. */
export class BinaryFrame implements BinaryData {
  readonly #bytes: Buffer;
  #at = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  get left(): number {
    return this.#bytes.length - this.#at;
  }

  take(bytes: number): Uint8Array {
    if (bytes > this.left) {
      throw new Fault("INVALID_INPUT", `a tensor wants ${bytes} bytes, the frame has ${this.left} left`);
    }
    this.#at += bytes;
    return this.#bytes.subarray(this.#at - bytes, this.#at);
  }
}

/** A binary frame: the length of the JSON, the JSON, the chunks. */
export function binaryFrame(message: object, chunks: readonly Uint8Array[]): Buffer {
  const json = JSON.stringify(message);
  const length = Buffer.byteLength(json);
  let bytes = 4 + length;
  for (const chunk of chunks) bytes += chunk.length;
  const frame = Buffer.allocUnsafe(bytes);
  frame.writeUInt32LE(length);
  let at = 4 + frame.write(json, 4);
  for (const chunk of chunks) {
    frame.set(chunk, at);
    at += chunk.length;
  }
  return frame;
}
