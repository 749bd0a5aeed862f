import { stat } from "node:fs/promises";
import { crc32 } from "node:zlib";
import { type Entry, openPromise, type ZipFile } from "yauzl";
import { Fault } from "../../../src/core/faults.ts";
import { refuse } from "./faults.ts";
import { MAX_BYTES } from "./weights.ts";

/** The files of a `.keras` archive. */
export interface KerasArchive {
  readonly config: unknown;
  readonly metadata: unknown;
  /** An HDF5 file. */
  readonly weights: Uint8Array;
}

/** Most bytes of each file, unpacked. */
const LIMITS = {
  "config.json": 2 ** 26,
  "metadata.json": 2 ** 20,
  "model.weights.h5": MAX_BYTES,
} as const;

type Member = keyof typeof LIMITS;

/**
 * Unpacks a `.keras` archive (a zip file) in memory. Throws INVALID_REQUEST where it is none, lacks a file, or a file is
 * larger than its limit or than the archive says.
 */
export async function readArchive(file: string): Promise<KerasArchive> {
  try {
    if (!(await stat(file)).isFile()) throw refuse(`${file} is no file`);
    const zip = await openPromise(file, { autoClose: false, strictFileNames: true });
    try {
      return await membersOf(zip);
    } finally {
      zip.close();
    }
  } catch (error) {
    if (error instanceof Fault) throw error;
    throw refuse(`the archive cannot be read: ${(error as Error).message}`);
  }
}

async function membersOf(zip: ZipFile): Promise<KerasArchive> {
  const entries = new Map<string, Entry>();
  for await (const entry of zip.eachEntry()) {
    if (!Object.hasOwn(LIMITS, entry.fileName)) continue;
    if (entries.has(entry.fileName)) throw refuse(`the archive has two files '${entry.fileName}'`);
    entries.set(entry.fileName, entry);
  }
  const read = (name: Member) => {
    const entry = entries.get(name);
    if (!entry) throw refuse(`the archive has no '${name}'`);
    return unpack(zip, entry, LIMITS[name]);
  };
  const metadata = json(await read("metadata.json"), "metadata.json");
  const config = json(await read("config.json"), "config.json");
  return { config, metadata, weights: await read("model.weights.h5") };
}

async function unpack(zip: ZipFile, entry: Entry, limit: number): Promise<Uint8Array> {
  const { fileName: name, uncompressedSize: size, compressedSize } = entry;
  if (size > limit) throw refuse(`'${name}' takes ${size} bytes, at most ${limit} are read`);
  if (size > compressedSize * MAX_RATIO + 1024) {
    throw refuse(
      `'${name}' would grow from ${compressedSize} to ${size} bytes, which is more than can be packed`,
    );
  }
  const bytes = new Uint8Array(size);
  let at = 0;
  const stream = await zip.openReadStreamPromise(entry);
  for await (const chunk of stream as AsyncIterable<Buffer>) {
    if (at + chunk.length > size)
      throw refuse(`'${name}' is larger than the ${size} bytes that the archive says`);
    bytes.set(chunk, at);
    at += chunk.length;
  }
  if (at !== size || crc32(bytes) !== entry.crc32) throw refuse(`'${name}' is damaged: its checksum differs`);
  return bytes;
}

/** What deflate can reach. */
const MAX_RATIO = 1032;

function json(bytes: Uint8Array, name: string): unknown {
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch (error) {
    throw refuse(`'${name}' is no JSON (${(error as Error).message})`);
  }
}
