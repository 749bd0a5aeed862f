import { Fault } from "../core/faults.ts";

/** The samples of a WAV file in [-1, 1). Throws INVALID_INPUT unless it is PCM, 16 bit, mono, 16 kHz. */
export function samplesOfWav(bytes: Buffer, file: string): Float32Array {
  const refuse = (why: string) =>
    new Fault("INVALID_INPUT", `${file} ${why}; expected WAV, PCM, 16 bit, mono, 16 kHz`);
  if (
    bytes.length < 12 ||
    bytes.toString("latin1", 0, 4) !== "RIFF" ||
    bytes.toString("latin1", 8, 12) !== "WAVE"
  ) {
    throw refuse("is no WAV file");
  }
  let hasFormat = false;
  for (let at = 12; at + 8 <= bytes.length; ) {
    const kind = bytes.toString("latin1", at, at + 4);
    const size = bytes.readUInt32LE(at + 4);
    const body = bytes.subarray(at + 8, at + 8 + size);
    if (kind === "fmt " && body.length >= 16) {
      const [format, channels, rate, bits] = [
        body.readUInt16LE(0),
        body.readUInt16LE(2),
        body.readUInt32LE(4),
        body.readUInt16LE(14),
      ];
      if (format !== 1 || channels !== 1 || rate !== 16_000 || bits !== 16) {
        throw refuse(`has format ${format}, ${channels} channels, ${rate} Hz, ${bits} bit`);
      }
      hasFormat = true;
    }
    if (kind === "data" && hasFormat) {
      return Float32Array.from({ length: body.length >> 1 }, (_, i) => body.readInt16LE(2 * i) / 32_768);
    }
    at += 8 + size + (size & 1);
  }
  throw refuse("has no samples");
}
