import { z } from "zod";
import { Fault } from "../src/core/faults.ts";

/** A tensor of a safetensors file, converted to float32. */
export interface StoredTensor {
  readonly shape: readonly number[];
  readonly data: Float32Array;
}

const Header = z.record(
  z.string(),
  z.object({
    dtype: z.string(),
    shape: z.array(z.number().int().min(0)).max(8),
    data_offsets: z.tuple([z.number().int().min(0), z.number().int().min(0)]),
  }),
);

/**
 * Reads a safetensors file (https://huggingface.co/docs/safetensors): 8 bytes of header length, a JSON header, values.
 * Takes F64, F32, F16 and BF16. Throws INVALID_REQUEST that says what is wrong with which tensor of `file`.
 */
export function readSafetensors(bytes: Uint8Array, file: string): Map<string, StoredTensor> {
  const refuse = (why: string): never => {
    throw new Fault("INVALID_REQUEST", `${file} is no safetensors file: ${why}`);
  };
  if (bytes.length < 8) refuse(`it has ${bytes.length} bytes`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const length = Number(view.getBigUint64(0, true));
  if (length > MAX_HEADER || length > bytes.length - 8) refuse(`its header would take ${length} bytes`);
  const header = parseHeader(bytes.subarray(8, 8 + length), refuse);
  const values = bytes.subarray(8 + length);
  const tensors = new Map<string, StoredTensor>();
  for (const [name, { dtype, shape, data_offsets: offsets }] of Object.entries(header)) {
    const type =
      types.get(dtype) ?? refuse(`tensor '${name}' is ${dtype}, not one of ${[...types.keys()].join(", ")}`);
    const [from, to] = offsets;
    const count = shape.reduce((product, dim) => product * dim, 1);
    if (from > to || to > values.length)
      refuse(`tensor '${name}' lies at ${from} to ${to} of ${values.length}`);
    if (to - from !== count * type.bytes) {
      refuse(
        `tensor '${name}' has ${to - from} bytes, its shape [${shape.join(", ")}] needs ${count * type.bytes}`,
      );
    }
    // A copy begins at a multiple of 8, as typed arrays want; every machine that Node.js runs on is little-endian.
    tensors.set(name, { shape, data: type.read(new Uint8Array(values.subarray(from, to)).buffer) });
  }
  return tensors;
}

function parseHeader(bytes: Uint8Array, refuse: (why: string) => never): z.infer<typeof Header> {
  let json: unknown;
  try {
    json = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch (error) {
    refuse(`its header is no JSON (${String(error)})`);
  }
  if (typeof json === "object" && json !== null) delete (json as Record<string, unknown>).__metadata__;
  const parsed = Header.safeParse(json);
  return parsed.success ? parsed.data : refuse(`its header is malformed at ${z.prettifyError(parsed.error)}`);
}

/** As the reference implementation. */
const MAX_HEADER = 100_000_000;

const types = new Map<
  string,
  { readonly bytes: number; readonly read: (values: ArrayBuffer) => Float32Array }
>([
  ["F64", { bytes: 8, read: (values) => Float32Array.from(new Float64Array(values)) }],
  ["F32", { bytes: 4, read: (values) => new Float32Array(values) }],
  ["F16", { bytes: 2, read: (values) => lookUp(new Uint16Array(values), float16) }],
  ["BF16", { bytes: 2, read: (values) => lookUp(new Uint16Array(values), bfloat16) }],
]);

/** Converts every bit pattern at most once. */
function lookUp(patterns: Uint16Array, convert: (bits: number) => number): Float32Array {
  const table = new Float32Array(65_536);
  const known = new Uint8Array(65_536);
  const values = new Float32Array(patterns.length);
  for (let i = 0; i < patterns.length; i++) {
    const bits = patterns[i]!;
    if (known[bits] === 0) {
      table[bits] = convert(bits);
      known[bits] = 1;
    }
    values[i] = table[bits]!;
  }
  return values;
}

/** The value of a 16-bit float's bits. */
export function float16(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 0x1f;
  const fraction = bits & 0x3ff;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 0x1f) return fraction === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

const word = new Uint32Array(1);
const wordAsFloat = new Float32Array(word.buffer);

/** The value of a bfloat16's bits. */
export function bfloat16(bits: number): number {
  word[0] = bits << 16;
  return wordAsFloat[0]!;
}
