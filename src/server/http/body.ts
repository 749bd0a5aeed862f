import { promisify } from "node:util";
import { deflate, gunzip, gzip, inflate } from "node:zlib";
import { Fault } from "../../core/faults.ts";
import { parseJson } from "../oip/json.ts";

/** A body as JSON and the bytes after it, if any. */
export interface Body {
  /** Undefined where the body is empty. */
  readonly json: unknown;
  /** Bytes of binary tensors; undefined where the client announced none. */
  readonly tail: Buffer | undefined;
  /** The body is one tensor's bytes and nothing else. */
  readonly isRaw: boolean;
}

const decoders: Readonly<
  Record<string, (bytes: Buffer, options: { maxOutputLength: number }) => Promise<Buffer>>
> = {
  gzip: promisify(gunzip),
  deflate: promisify(inflate),
};

const encoders = { gzip: promisify(gzip), deflate: promisify(deflate) };

/** Takes the coding off a body. Throws UNSUPPORTED, INVALID_REQUEST, or TOO_LARGE past `maxBytes`. */
export async function decoded(bytes: Buffer, coding: string | undefined, maxBytes: number): Promise<Buffer> {
  if (coding === undefined || coding === "" || coding === "identity") return bytes;
  const decode = Object.hasOwn(decoders, coding) ? decoders[coding] : undefined;
  if (!decode) {
    throw new Fault("UNSUPPORTED", `Content-Encoding '${coding}' is not supported, use gzip or deflate`);
  }
  try {
    return await decode(bytes, { maxOutputLength: maxBytes });
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === "ERR_BUFFER_TOO_LARGE") {
      throw new Fault("TOO_LARGE", `the body is longer than ${maxBytes} bytes without its ${coding}`, {
        cause,
      });
    }
    throw new Fault("INVALID_REQUEST", `the body is no ${coding}: ${(cause as Error).message}`, { cause });
  }
}

/** A coding that the client takes, for a body that is worth it. */
export function codingFor(accepts: string | undefined, bytes: number): keyof typeof encoders | undefined {
  if (!accepts || bytes < LEAST_CODED_BYTES) return undefined;
  const names = accepts.split(",").map((part) => part.trim());
  return (["gzip", "deflate"] as const).find((name) => names.includes(name));
}

export function encoded(bytes: Buffer, coding: keyof typeof encoders): Promise<Buffer> {
  // The fastest level: an answer is waited for.
  return encoders[coding](bytes, { level: 1 });
}

const LEAST_CODED_BYTES = 1024;

/**
 * Splits a body at `Inference-Header-Content-Length`, the length of its JSON in bytes. Throws INVALID_REQUEST.
 */
export function splitBody(bytes: Buffer, header: string | undefined): Body {
  if (header === undefined) return { json: jsonOf(bytes), tail: undefined, isRaw: false };
  const text = header.trim();
  if (!/^[+-]?\d+$/.test(text)) {
    throw new Fault(
      "INVALID_REQUEST",
      `Unable to parse Inference-Header-Content-Length, got: ${text.slice(0, 80)}`,
    );
  }
  const length = Number(text);
  if (length === 0) return { json: undefined, tail: bytes, isRaw: true };
  if (length < 0 || length > bytes.length) {
    throw new Fault(
      "INVALID_REQUEST",
      `inference header size should be in range (0, ${bytes.length}), got: ${text.slice(0, 80)}`,
    );
  }
  return { json: jsonOf(bytes.subarray(0, length)), tail: bytes.subarray(length), isRaw: false };
}

function jsonOf(bytes: Buffer): unknown {
  return bytes.length === 0 ? undefined : parseJson(bytes.toString());
}
