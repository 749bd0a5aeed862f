import { Fault } from "../../core/faults.ts";
import { sizeOf, type Tensor } from "../../core/tensor.ts";
import type { ModelInfo, Value, Values } from "../../runtime/types.ts";
import { type Datatype, datatypeOf, datatypes } from "../datatypes.ts";
import type { InputTensor } from "./types.ts";

export interface ReadInputs {
  readonly values: Values;
  /** Whether the tensors had a batch axis of 1 before the axes of the model; the answer then has one too. */
  readonly isBatch: boolean;
}

/**
 * The values of a request. A tensor has the model's shape, or one axis of exactly 1 before it: the client's batch axis.
 * Throws INVALID_INPUT that names the input and the value.
 */
export function readInputs(model: ModelInfo, inputs: readonly InputTensor[]): ReadInputs {
  const values: Record<string, Value> = {};
  let batched = 0;
  for (const input of inputs) {
    const { name } = input;
    if (Object.hasOwn(values, name)) throw new Fault("INVALID_INPUT", `input '${name}' is there twice`);
    const isBatch = hasBatchAxis(model, input);
    if (isBatch) batched++;
    const value = input.datatype === "BYTES" ? readText(model, input) : readTensor(model, input, isBatch);
    Object.defineProperty(values, name, { value, enumerable: true });
  }
  if (batched > 0 && batched < inputs.length) {
    throw new Fault(
      "INVALID_INPUT",
      `${batched} of ${inputs.length} inputs have a batch axis: give it to all of them or to none`,
    );
  }
  return { values, isBatch: batched > 0 };
}

function hasBatchAxis(model: ModelInfo, { name, datatype, shape }: InputTensor): boolean {
  const spec = model.inputs.find((one) => one.name === name);
  // A name that the model lacks is the runtime's to refuse; text is one element and its own axis.
  if (!spec) return false;
  const rank = spec.type === "text" && datatype === "BYTES" ? 1 : spec.shape.length;
  if (shape.length !== rank + 1) return false;
  if (shape[0] === 1) return true;
  throw new Fault(
    "INVALID_INPUT",
    `inference request to model '${model.name}' must specify batch-size 1: input '${name}' has shape [${shape.join(", ")}]; sequences are batched by the server, so send each in a request of its own`,
  );
}

function readText(model: ModelInfo, { name, shape, source }: InputTensor): string {
  if (sizeOf(shape) !== 1) {
    throw new Fault(
      "INVALID_INPUT",
      `input '${name}' has shape [${shape.join(", ")}], text is one element: [1]`,
    );
  }
  if (source.kind === "bytes") {
    const [element] = readElements(model, name, source.bytes, 1);
    return utf8(name, element!);
  }
  const values = flatten(name, source.values, shape.length);
  const [value] = values;
  if (typeof value === "string") return value;
  if (value instanceof Uint8Array) return utf8(name, value);
  throw new Fault(
    "INVALID_INPUT",
    `input '${name}' of datatype BYTES holds ${show(value)}, expected a string`,
  );
}

/** BYTES elements: each a length in 4 bytes, little-endian, and that many bytes. */
function readElements(model: ModelInfo, name: string, bytes: Uint8Array, count: number): Uint8Array[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const elements: Uint8Array[] = [];
  let at = 0;
  while (elements.length < count) {
    const length = at + 4 <= bytes.length ? view.getUint32(at, true) : Number.POSITIVE_INFINITY;
    if (at + 4 + length > bytes.length) {
      throw new Fault(
        "INVALID_INPUT",
        `input '${name}' of datatype BYTES ends inside element ${elements.length}: ${bytes.length} bytes, ${at} of them read`,
      );
    }
    elements.push(bytes.subarray(at + 4, at + 4 + length));
    at += 4 + length;
  }
  if (at < bytes.length) {
    throw new Fault(
      "INVALID_INPUT",
      `unexpected additional input data for model '${model.name}': input '${name}' has ${bytes.length - at} bytes after its last element`,
    );
  }
  return elements;
}

const decoder = new TextDecoder("utf-8", { fatal: true });

function utf8(name: string, bytes: Uint8Array): string {
  try {
    return decoder.decode(bytes);
  } catch (cause) {
    throw new Fault("INVALID_INPUT", `input '${name}' of ${bytes.length} bytes is not UTF-8`, { cause });
  }
}

function readTensor(model: ModelInfo, input: InputTensor, isBatch: boolean): Tensor {
  const { name, datatype, source } = input;
  const type = datatypeOf(datatype);
  if (!type) {
    throw new Fault(
      "INVALID_INPUT",
      `input '${name}' has datatype '${datatype}', expected BYTES or one of ${Object.keys(datatypes).join(", ")}`,
    );
  }
  const shape = isBatch ? input.shape.slice(1) : input.shape;
  const count = sizeOf(shape);
  const data =
    source.kind === "bytes"
      ? fromBytes(model, input, type, source.bytes, count)
      : fromValues(input, type, source.values, count);
  return { dtype: type.to, shape, data } as Tensor;
}

function fromBytes(
  model: ModelInfo,
  { name, datatype }: InputTensor,
  type: Datatype,
  bytes: Uint8Array,
  count: number,
): Tensor["data"] {
  const missing = count * type.bytes - bytes.length;
  if (missing > 0) {
    throw new Fault(
      "INVALID_INPUT",
      `unexpected size for input '${name}', expecting ${missing} additional bytes for model '${model.name}'`,
    );
  }
  if (missing < 0) {
    throw new Fault(
      "INVALID_INPUT",
      `unexpected additional input data for model '${model.name}': input '${name}' has ${-missing} bytes too many`,
    );
  }
  const data = type.to === "float32" ? new Float32Array(count) : new Int32Array(count);
  if (datatype === "FP32" || datatype === "INT32") {
    // The bytes may stand at any offset, where a view of 4-byte values would throw; so they are copied as bytes.
    new Uint8Array(data.buffer).set(bytes);
    return data;
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let i = 0; i < count; i++) {
    const value = type.read(view, i * type.bytes);
    data[i] = checked(name, datatype, type, value, i);
  }
  return data;
}

function fromValues(
  { name, datatype, shape }: InputTensor,
  type: Datatype,
  given: readonly unknown[],
  count: number,
): Tensor["data"] {
  if (!type.inJson) {
    throw new Fault(
      "INVALID_INPUT",
      `receiving ${datatype} data via JSON is not supported. Please use the binary data format for input ${name}`,
    );
  }
  const data = type.to === "float32" ? new Float32Array(count) : new Int32Array(count);
  if (given.length === count && readPlain(given, type, data)) return data;
  const values = flatten(name, given, shape.length);
  if (values.length !== count) {
    throw new Fault(
      "INVALID_INPUT",
      `Shape does not match true shape of 'data' field: input '${name}' has ${values.length} values, its shape [${shape.join(", ")}] needs ${count}`,
    );
  }
  for (let i = 0; i < count; i++) data[i] = checked(name, datatype, type, values[i], i);
  return data;
}

/** Reads what is a flat list of numbers that need no second look, as nearly all are; false at the first that does. */
function readPlain(given: readonly unknown[], { to, range }: Datatype, data: Tensor["data"]): boolean {
  if ((to === "float32") === (range !== undefined)) return false;
  const [least, most] = range ? [Number(range[0]), Number(range[1])] : [-FLOAT32_MAX, FLOAT32_MAX];
  for (let i = 0; i < given.length; i++) {
    const value = given[i];
    if (typeof value !== "number" || !(value >= least && value <= most)) return false;
    data[i] = value;
    if (range && data[i] !== value) return false;
  }
  return true;
}

const FLOAT32_MAX = 3.4028234663852886e38;

/** A value as a number, where the client's datatype and ours can both hold it. */
function checked(name: string, datatype: string, type: Datatype, value: unknown, at: number): number {
  const refuse = (why: string) =>
    new Fault(
      "INVALID_INPUT",
      `input '${name}' of datatype ${datatype} holds ${show(value)} at ${at}, ${why}`,
    );
  if (datatype === "BOOL") {
    if (value === true || value === 1) return 1;
    if (value === false || value === 0) return 0;
    throw refuse("which is neither true nor false");
  }
  if (typeof value !== "number" && typeof value !== "bigint") throw refuse("which is no number");
  const number = Number(value);
  if (!type.range) {
    if (Number.isFinite(number) && !Number.isFinite(Math.fround(number)))
      throw refuse("which float32 cannot hold");
    return number;
  }
  if (typeof value === "number" && !Number.isInteger(value)) throw refuse("which is no integer");
  const integer = BigInt(value);
  const [least, most] = type.range;
  if (integer < least || integer > most) throw refuse(`which is not from ${least} to ${most}`);
  if (number !== (number | 0)) throw refuse("which the model's int32 cannot hold");
  return number;
}

/** Values flat, as they are or out of arrays nested at most `depth` deep. */
function flatten(name: string, values: readonly unknown[], depth: number): readonly unknown[] {
  if (!values.some(Array.isArray)) return values;
  if (depth <= 1) {
    throw new Fault("INVALID_INPUT", `input '${name}' has data nested deeper than its shape has axes`);
  }
  return values.flatMap((value) => {
    if (Array.isArray(value)) return flatten(name, value, depth - 1);
    throw new Fault("INVALID_INPUT", `input '${name}' mixes arrays with ${show(value)}`);
  });
}

function show(value: unknown): string {
  if (typeof value === "bigint") return `${value}`;
  if (typeof value === "number") return Object.is(value, -0) ? "-0" : `${value}`;
  return (JSON.stringify(value) ?? `${value}`).slice(0, 80);
}
