import { buffer } from "node:stream/consumers";
import { crc32, deflateRawSync } from "node:zlib";
import { fromBufferPromise } from "yauzl";

/** A file to put into an archive; what the archive says of it may be wrong. */
export interface Member {
  readonly name: string;
  readonly content: Uint8Array | string;
  readonly isPacked?: boolean;
  /** Bytes that it is said to have. */
  readonly size?: number;
  readonly crc?: number;
}

/** Writes a zip file, true or not (https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT). */
export function zip(members: readonly Member[]): Buffer {
  const parts: Buffer[] = [];
  const directory: Buffer[] = [];
  let offset = 0;
  for (const { name, content, isPacked = false, ...said } of members) {
    const bytes = Buffer.from(content as Uint8Array);
    const stored = isPacked ? deflateRawSync(bytes) : bytes;
    const common = Buffer.alloc(26);
    common.writeUInt16LE(20, 0);
    common.writeUInt16LE(isPacked ? 8 : 0, 4);
    common.writeUInt32LE(said.crc ?? crc32(bytes), 10);
    common.writeUInt32LE(stored.length, 14);
    common.writeUInt32LE(said.size ?? bytes.length, 18);
    common.writeUInt16LE(name.length, 22);
    parts.push(Buffer.from("PK\x03\x04"), common, Buffer.from(name), stored);
    const rest = Buffer.alloc(14);
    rest.writeUInt32LE(offset, 10);
    directory.push(Buffer.from("PK\x01\x02"), Buffer.from([20, 0]), common, rest, Buffer.from(name));
    offset += 30 + name.length + stored.length;
  }
  const listed = Buffer.concat(directory);
  const end = Buffer.alloc(18);
  end.writeUInt16LE(members.length, 4);
  end.writeUInt16LE(members.length, 6);
  end.writeUInt32LE(listed.length, 8);
  end.writeUInt32LE(offset, 12);
  return Buffer.concat([...parts, listed, Buffer.from("PK\x05\x06"), end]);
}

/** The files of a true archive. */
export async function unzip(content: Buffer): Promise<Record<string, Buffer>> {
  const files: Record<string, Buffer> = {};
  const archive = await fromBufferPromise(content);
  for await (const entry of archive.eachEntry()) {
    files[entry.fileName] = await buffer(await archive.openReadStreamPromise(entry));
  }
  return files;
}
