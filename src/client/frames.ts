import type { ServerMessage } from "../server/protocol.ts";
import { readValues, type Values, writeValues } from "./values.ts";

/** What a client sends; `inputs` are put into the form of the wire here. */
export interface ClientMessage {
  readonly type: string;
  readonly id: string;
  readonly inputs?: Values;
  readonly [field: string]: unknown;
}

type WithValues<T> = T extends { readonly outputs: unknown }
  ? Omit<T, "outputs"> & { readonly outputs: Values }
  : T;

/** What a server sends, with its values read. */
export type Heard = WithValues<ServerMessage>;

/** A frame: text, or binary where `isBinary`, which is answered in kind. */
export function writeFrame(message: ClientMessage, isBinary: boolean): string | Uint8Array<ArrayBuffer> {
  const chunks: Uint8Array[] = [];
  const wire = message.inputs ? { ...message, inputs: writeValues(message.inputs, chunks) } : message;
  const json = JSON.stringify(wire);
  if (!isBinary) return json;
  const text = new TextEncoder().encode(json);
  const size = chunks.reduce((sum, { byteLength }) => sum + byteLength, LENGTH_BYTES + text.byteLength);
  const frame = new Uint8Array(size);
  new DataView(frame.buffer).setUint32(0, text.byteLength, true);
  frame.set(text, LENGTH_BYTES);
  let at = LENGTH_BYTES + text.byteLength;
  for (const chunk of chunks) {
    frame.set(chunk, at);
    at += chunk.byteLength;
  }
  return frame;
}

/** The message of a frame; undefined where it is none, which a client of a newer server passes over. */
export function readFrame(data: string | ArrayBuffer): Heard | undefined {
  const { json, bytes } = typeof data === "string" ? { json: data, bytes: undefined } : split(data);
  const message = JSON.parse(json) as ServerMessage;
  if (typeof message !== "object" || message === null) return undefined;
  if (!("outputs" in message)) return message;
  return { ...message, outputs: readValues(message.outputs, bytes) } as Heard;
}

function split(frame: ArrayBuffer): { readonly json: string; readonly bytes: ArrayBuffer } {
  const length = new DataView(frame).getUint32(0, true);
  const json = new TextDecoder().decode(new Uint8Array(frame, LENGTH_BYTES, length));
  return { json, bytes: frame.slice(LENGTH_BYTES + length) };
}

const LENGTH_BYTES = 4;
