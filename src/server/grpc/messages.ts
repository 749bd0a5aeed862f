import type { Metadata } from "@grpc/grpc-js";
import { Fault } from "../../core/faults.ts";
import type { InferAnswer, InferRequest, InputTensor, ParameterValue, TensorSource } from "../oip/types.ts";
import { bytesOf, typeOf } from "../oip/write-tensors.ts";

type Choice = "bool_param" | "int64_param" | "string_param" | "double_param" | "uint64_param";

/** `InferParameter`; which field is set is said by `parameter_choice`. */
export interface WireParameter {
  readonly parameter_choice?: Choice;
  readonly bool_param?: boolean;
  readonly int64_param?: string;
  readonly string_param?: string;
  readonly double_param?: number;
  readonly uint64_param?: string;
}

type WireParameters = Readonly<Record<string, WireParameter>>;

const contentFields = {
  bool_contents: ["BOOL"],
  int_contents: ["INT8", "INT16", "INT32"],
  int64_contents: ["INT64"],
  uint_contents: ["UINT8", "UINT16", "UINT32"],
  uint64_contents: ["UINT64"],
  fp32_contents: ["FP32"],
  fp64_contents: ["FP64"],
  bytes_contents: ["BYTES"],
} as const satisfies Record<string, readonly string[]>;

type ContentField = keyof typeof contentFields;

interface WireInput {
  readonly name: string;
  readonly datatype: string;
  readonly shape: readonly string[];
  readonly contents: Readonly<Record<ContentField, readonly unknown[]>> | null;
}

/** `ModelInferRequest` as the proto loader gives it. */
export interface WireRequest {
  readonly model_name: string;
  readonly model_version: string;
  readonly id: string;
  readonly parameters: WireParameters;
  readonly inputs: readonly WireInput[];
  readonly outputs: readonly { readonly name: string; readonly parameters: WireParameters }[];
  readonly raw_input_contents: readonly Buffer[];
}

const MAX_TENSORS = 256;
const MAX_AXES = 16;

/** Reads an infer request of a call with `metadata`. Throws a `Fault` that names the tensor or the parameter. */
export function readRequest(wire: WireRequest, metadata: Metadata): InferRequest {
  const { model_name: model, inputs, outputs, raw_input_contents: raw } = wire;
  if (inputs.length > MAX_TENSORS || outputs.length > MAX_TENSORS) {
    throw new Fault(
      "INVALID_REQUEST",
      `${Math.max(inputs.length, outputs.length)} tensors are more than ${MAX_TENSORS}`,
    );
  }
  if (raw.length > inputs.length) {
    throw new Fault(
      "INVALID_REQUEST",
      `unexpected additional input data for model '${model}': ${raw.length} raw contents for ${inputs.length} inputs`,
    );
  }
  for (const { name, parameters } of outputs) {
    for (const unsupported of ["classification", "shared_memory_region"]) {
      if (Object.hasOwn(parameters, unsupported)) {
        throw new Fault("UNSUPPORTED", `output '${name}' asks for '${unsupported}', which is not supported`);
      }
    }
  }
  return {
    model,
    version: wire.model_version || undefined,
    id: wire.id,
    parameters: readParameters(wire.parameters),
    inputs: inputs.map((input, at) => readInput(model, input, raw.length > 0, raw[at])),
    outputs: outputs.map(({ name }) => name),
    traceparent: metadata.get("traceparent")[0]?.toString(),
  };
}

function readInput(model: string, wire: WireInput, isRaw: boolean, bytes: Buffer | undefined): InputTensor {
  const { name, datatype, contents } = wire;
  if (isRaw && contents && filledFields(contents).length > 0) {
    throw new Fault(
      "INVALID_REQUEST",
      `contents field must not be specified when using raw_input_contents for '${name}' for model '${model}'`,
    );
  }
  if (isRaw && !bytes) throw missingData(name, model);
  const shape = readShape(wire);
  const source: TensorSource = bytes
    ? { kind: "bytes", bytes }
    : { kind: "values", values: readContents(model, wire, shape) };
  return { name, datatype, shape, source };
}

function readShape({ name, shape }: WireInput): number[] {
  const axes = shape.map(Number);
  if (axes.length <= MAX_AXES && axes.every((axis) => axis >= 0 && axis < 2 ** 31)) return axes;
  throw new Fault(
    "INVALID_REQUEST",
    `Unable to parse 'shape': input '${name}' has [${shape.slice(0, MAX_AXES).join(", ")}], at most ${MAX_AXES} axes of 0 to ${2 ** 31 - 1}`,
  );
}

function readContents(model: string, { name, datatype, contents }: WireInput, shape: number[]): unknown[] {
  const filled = contents ? filledFields(contents) : [];
  const wrong = filled.find((field) => !(contentFields[field] as readonly string[]).includes(datatype));
  if (wrong) {
    throw new Fault(
      "INVALID_REQUEST",
      `unexpected explicit tensor data for input tensor '${name}' for model '${model}' of type '${contentFields[wrong].at(-1)}', expected datatype '${datatype}'`,
    );
  }
  const field = filled[0];
  if (!contents || !field) {
    if (shape.includes(0)) return [];
    throw missingData(name, model);
  }
  const values = contents[field];
  const isLong = field === "int64_contents" || field === "uint64_contents";
  return isLong ? values.map((digits) => BigInt(digits as string)) : [...values];
}

function filledFields(contents: NonNullable<WireInput["contents"]>): ContentField[] {
  return (Object.keys(contentFields) as ContentField[]).filter((field) => contents[field].length > 0);
}

function missingData(name: string, model: string): Fault {
  return new Fault(
    "INVALID_REQUEST",
    `unable to find data for input tensor '${name}' for model '${model}' in request.`,
  );
}

/** Which fields the parameters of the protocol may come in, and how a refusal says it. */
const typed: Readonly<Record<string, readonly [readonly Choice[], string]>> = {
  sequence_id: [["int64_param", "string_param"], "int64_param or string_param"],
  sequence_start: [["bool_param"], "bool_param"],
  sequence_end: [["bool_param"], "bool_param"],
  priority: [["int64_param", "uint64_param"], "int64_param or uint64_param"],
  timeout: [["int64_param"], "int64_param"],
};
const untyped: (typeof typed)[string] = [
  ["int64_param", "bool_param", "string_param", "double_param"],
  "int64_param, bool_param, or string_param",
];

function readParameters(wire: WireParameters): Map<string, ParameterValue> {
  const parameters = new Map<string, ParameterValue>();
  for (const [name, parameter] of Object.entries(wire)) {
    const [choices, names] = Object.hasOwn(typed, name) ? typed[name]! : untyped;
    const choice = parameter.parameter_choice;
    if (!choice || !choices.includes(choice)) {
      throw new Fault("INVALID_REQUEST", `invalid value type for '${name}' parameter, expected ${names}.`);
    }
    const value = parameter[choice]!;
    if (choice !== "int64_param" && choice !== "uint64_param") parameters.set(name, value);
    else {
      // An id is 64 bits without a sign, whatever field carries it.
      const integer = name === "sequence_id" ? BigInt.asUintN(64, BigInt(value)) : BigInt(value);
      parameters.set(name, Number.isSafeInteger(Number(integer)) ? Number(integer) : integer);
    }
  }
  return parameters;
}

/** `ModelInferResponse`; values are always raw. `extra` parameters are added to the answer's own. */
export function writeAnswer(answer: InferAnswer, extra: InferAnswer["parameters"] = {}): object {
  const { id, model, version, outputs } = answer;
  const parameters: Record<string, WireParameter> = {};
  for (const [name, value] of Object.entries({ ...answer.parameters, ...extra })) {
    parameters[name] = typeof value === "boolean" ? { bool_param: value } : { string_param: value };
  }
  return {
    model_name: model,
    model_version: version,
    id,
    parameters,
    outputs: outputs.map((output) => ({ name: output.name, ...typeOf(output) })),
    raw_output_contents: outputs.map(bytesOf),
  };
}
