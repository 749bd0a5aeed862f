import { Fault } from "../../core/faults.ts";
import { sizeOf } from "../../core/tensor.ts";
import type { ModelInfo } from "../../runtime/types.ts";
import { metadataOf } from "../oip/metadata.ts";
import type { InferAnswer, InferRequest, InputTensor, TensorSource } from "../oip/types.ts";
import { bytesOf, jsonValuesOf, typeOf } from "../oip/write-tensors.ts";
import type { InferBody } from "./schemas.ts";

/** A request, and which of its outputs the client wants as bytes. */
export interface HttpInfer {
  readonly request: InferRequest;
  readonly isBinary: (output: string) => boolean;
}

export interface Target {
  readonly model: string;
  readonly version: string | undefined;
}

/** Reads the body of an infer request. Throws a `Fault` that names the tensor. */
export function readInfer(target: Target, body: InferBody, tail: Buffer | undefined): HttpInfer {
  const { id = "", inputs, outputs } = body;
  const parameters = new Map(Object.entries(body.parameters ?? {}));
  const all = parameters.get("binary_data_output") ?? false;
  if (typeof all !== "boolean") {
    throw new Fault("INVALID_REQUEST", `Unable to parse 'binary_data_output': ${all} is no boolean`);
  }
  const choices = new Map<string, boolean>();
  for (const { name, parameters: wishes } of outputs ?? []) {
    for (const unsupported of ["classification", "shared_memory_region"] as const) {
      if (wishes?.[unsupported] === undefined) continue;
      throw new Fault("UNSUPPORTED", `output '${name}' asks for '${unsupported}', which is not supported`);
    }
    if (wishes?.binary_data !== undefined) choices.set(name, wishes.binary_data);
  }
  return {
    request: {
      ...target,
      id,
      parameters,
      inputs: readInputs(target, inputs, tail),
      outputs: outputs?.map(({ name }) => name),
    },
    isBinary: (name) => choices.get(name) ?? all,
  };
}

/** Gives the bytes after the JSON to the tensors that ask for them, in order. */
function readInputs({ model }: Target, inputs: InferBody["inputs"], tail: Buffer | undefined): InputTensor[] {
  let at = 0;
  const read = inputs.map(({ name, datatype, shape, data, parameters }): InputTensor => {
    const size = parameters?.binary_data_size;
    if (parameters?.shared_memory_region !== undefined) {
      throw new Fault("UNSUPPORTED", `input '${name}' is in shared memory, which is not supported`);
    }
    if ((data === undefined) === (size === undefined)) {
      const but = data === undefined ? "But no field is set" : "But set 'data' and 'binary_data_size'";
      throw new Fault(
        "INVALID_REQUEST",
        `Input must set only one of the following fields: 'data', 'binary_data_size' in 'parameters', 'shared_memory_region' in 'parameters'. ${but} for input '${name}'`,
      );
    }
    if (data !== undefined) return { name, datatype, shape, source: { kind: "values", values: data } };
    if (!tail) {
      throw new Fault(
        "INVALID_REQUEST",
        `must specify valid 'Infer-Header-Content-Length' in request header and 'binary_data_size' when passing inputs in binary data format, as input '${name}' does`,
      );
    }
    if (size! > tail.length - at) {
      throw new Fault(
        "INVALID_REQUEST",
        `unexpected size for input '${name}', expecting ${size! - (tail.length - at)} additional bytes for model '${model}'`,
      );
    }
    const source: TensorSource = { kind: "bytes", bytes: tail.subarray(at, at + size!) };
    at += size!;
    return { name, datatype, shape, source };
  });
  if (tail && at < tail.length) {
    throw new Fault(
      "INVALID_REQUEST",
      `unexpected additional input data for model '${model}': ${tail.length - at} bytes belong to no input`,
    );
  }
  return read;
}

/** Reads a body that is one tensor's bytes, for a model with one input of at most one free axis. All answers are bytes. */
export function readRaw(model: ModelInfo, target: Target, bytes: Buffer): HttpInfer {
  const { inputs } = metadataOf(model, { models: [model] });
  const input = inputs[0];
  if (!input || inputs.length > 1) {
    throw new Fault(
      "INVALID_REQUEST",
      `a raw binary request needs a model with one input, '${model.name}' has ${inputs.length}`,
    );
  }
  const { name, datatype, shape } = input;
  const free = shape.filter((dim) => dim === -1).length;
  if (free > 1) {
    throw new Fault(
      "INVALID_REQUEST",
      `a raw binary request needs an input with at most one free axis, '${name}' has ${free}`,
    );
  }
  const fixed = sizeOf(shape.filter((dim) => dim !== -1)) * FIXED_BYTES;
  const steps = bytes.length / fixed;
  if (datatype !== "BYTES" && free === 1 && !Number.isInteger(steps)) {
    throw new Fault(
      "INVALID_REQUEST",
      `a raw binary request for input '${name}' [${shape.join(", ")}] needs a multiple of ${fixed} bytes, got ${bytes.length}`,
    );
  }
  const request: InferRequest = {
    ...target,
    id: "",
    parameters: new Map(),
    inputs: [
      {
        name,
        datatype,
        shape: shape.map((dim) => (dim === -1 ? steps : dim)),
        source: { kind: "bytes", bytes },
      },
    ],
    outputs: undefined,
  };
  return { request, isBinary: () => true };
}

/** Of FP32 and INT32, which are all that models take besides text. */
const FIXED_BYTES = 4;

/** The JSON of an answer, and the bytes that follow it. */
export function writeAnswer(
  { id, model, version, parameters, outputs }: InferAnswer,
  isBinary: (output: string) => boolean,
): { readonly json: string; readonly chunks: readonly Uint8Array[] } {
  const chunks: Uint8Array[] = [];
  const written = outputs.map((output) => {
    const { datatype, shape } = typeOf(output);
    const head = `{"name":${JSON.stringify(output.name)},"datatype":"${datatype}","shape":[${shape.join(",")}]`;
    if (!isBinary(output.name)) return `${head},"data":[${jsonValuesOf(output)}]}`;
    const bytes = bytesOf(output);
    chunks.push(bytes);
    return `${head},"parameters":{"binary_data_size":${bytes.length}}}`;
  });
  const json = [
    ...(id === "" ? [] : [`"id":${JSON.stringify(id)}`]),
    `"model_name":${JSON.stringify(model)}`,
    `"model_version":${JSON.stringify(version)}`,
    ...(Object.keys(parameters).length > 0 ? [`"parameters":${JSON.stringify(parameters)}`] : []),
    `"outputs":[${written.join(",")}]`,
  ];
  return { json: `{${json.join(",")}}`, chunks };
}
