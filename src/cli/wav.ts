import { Fault } from "../core/faults.ts";

/** Audio of a WAV file, all channels mixed into one. */
export interface WavAudio {
  readonly sampleRate: number;
  readonly channels: number;
  /** As the file says: `PCM` or `float`, with its bits. */
  readonly format: string;
  /** In [-1, 1), one per sample frame: the mean over the channels. */
  readonly samples: Float32Array;
}

/**
 * Reads a WAV file of PCM (8, 16, 24 or 32 bit) or float (32 or 64 bit), any rate, up to 256 channels. A file that was cut
 * off gives what is there. Throws INVALID_INPUT that says what the file is. Source: Microsoft's RIFF and WAVE_FORMAT_EXTENSIBLE.
 */
export function readWav(bytes: Buffer, file: string): WavAudio {
  const refuse = (why: string) =>
    new Fault("INVALID_INPUT", `${file} ${why}; expected WAV, PCM of 8 to 32 bit or float`);
  const isRiff = bytes.toString("latin1", 0, 4) === "RIFF" && bytes.toString("latin1", 8, 12) === "WAVE";
  if (bytes.length < 12 || !isRiff) throw refuse("is no WAV file");
  let format: Format | undefined;
  for (let at = 12; at + 8 <= bytes.length; ) {
    const kind = bytes.toString("latin1", at, at + 4);
    const size = bytes.readUInt32LE(at + 4);
    const body = bytes.subarray(at + 8, at + 8 + size);
    if (kind === "fmt " && body.length >= 16) {
      format = formatOf(body);
      const { tag, bits, channels, rate } = format;
      const isKnown = format.reader !== undefined && channels >= 1 && channels <= 256 && rate >= 1;
      if (!isKnown) throw refuse(`has format ${tag}, ${channels} channels, ${rate} Hz, ${bits} bit`);
    }
    if (kind === "data" && format) {
      const { rate, channels, tag, bits } = format;
      const samples = mixed(body, format);
      return {
        sampleRate: rate,
        channels,
        format: `${tag === FLOAT ? "float" : "PCM"} ${bits} bit`,
        samples,
      };
    }
    at += 8 + size + (size & 1);
  }
  throw refuse("has no samples");
}

/** The samples of a WAV file in [-1, 1). Throws INVALID_INPUT unless it is PCM, 16 bit, mono, 16 kHz. */
export function samplesOfWav(bytes: Buffer, file: string): Float32Array {
  const { sampleRate, channels, format, samples } = readWav(bytes, file);
  if (format === "PCM 16 bit" && channels === 1 && sampleRate === 16_000) return samples;
  const found = `${format}, ${channels} channels, ${sampleRate} Hz`;
  throw new Fault("INVALID_INPUT", `${file} has ${found}; expected WAV, PCM, 16 bit, mono, 16 kHz`);
}

type Reader = (body: Buffer, at: number) => number;

interface Format {
  readonly tag: number;
  readonly channels: number;
  readonly rate: number;
  readonly bits: number;
  readonly reader: Reader | undefined;
}

function formatOf(body: Buffer): Format {
  const isExtensible = body.readUInt16LE(0) === EXTENSIBLE && body.length >= 26;
  const tag = body.readUInt16LE(isExtensible ? 24 : 0);
  const bits = body.readUInt16LE(14);
  const reader = readers[`${tag}/${bits}`];
  return { tag, channels: body.readUInt16LE(2), rate: body.readUInt32LE(4), bits, reader };
}

/** By format tag and bits. */
const readers: Readonly<Record<string, Reader>> = {
  "1/8": (body, at) => (body[at]! - 128) / 2 ** 7,
  "1/16": (body, at) => body.readInt16LE(at) / 2 ** 15,
  "1/24": (body, at) => body.readIntLE(at, 3) / 2 ** 23,
  "1/32": (body, at) => body.readInt32LE(at) / 2 ** 31,
  "3/32": (body, at) => body.readFloatLE(at),
  "3/64": (body, at) => body.readDoubleLE(at),
};
const FLOAT = 3;
const EXTENSIBLE = 0xfffe;

function mixed(body: Buffer, { channels, bits, reader }: Format): Float32Array {
  const bytes = bits / 8;
  const samples = new Float32Array(Math.floor(body.length / (bytes * channels)));
  for (let i = 0, at = 0; i < samples.length; i++) {
    let sum = 0;
    for (let channel = 0; channel < channels; channel++, at += bytes) sum += reader!(body, at);
    samples[i] = sum / channels;
  }
  return samples;
}
