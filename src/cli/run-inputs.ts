import { readFile } from "node:fs/promises";
import { Fault } from "../core/faults.ts";
import type { Tensor } from "../core/tensor.ts";
import type { ModelInfo, RequestOptions, Runtime, Value, Values } from "../runtime/types.ts";
import { readInfer, writeAnswer } from "../server/http/infer-json.ts";
import { InferBody } from "../server/http/schemas.ts";
import { outputsOf, wantedOutputs } from "../server/oip/answers.ts";
import { parseJson } from "../server/oip/json.ts";
import { optionsOf } from "../server/oip/parameters.ts";
import { inputOf } from "../server/oip/plain-inputs.ts";
import { readInputs } from "../server/oip/read-tensors.ts";

/**
 * Runs a model on a JSON file and answers JSON in the same form: inputs by name, each a number, a text or nested arrays; or
 * a request of the Open Inference Protocol, whose own parameters then precede `options`. Throws INVALID_REQUEST or
 * INVALID_INPUT that names the input.
 */
export async function runInputs(
  runtime: Runtime,
  model: ModelInfo,
  file: string,
  options: RequestOptions,
): Promise<string> {
  if (model.streaming) {
    throw new Fault(
      "INVALID_REQUEST",
      `model '${model.name}' takes sessions; use the library or the server for their tensors`,
    );
  }
  const text = await readFile(file, "utf8").catch((error: Error) => {
    throw new Fault("INVALID_REQUEST", `${file} cannot be read: ${error.message}`);
  });
  const json = parseJson(text);
  if (typeof json !== "object" || json === null || Array.isArray(json)) {
    throw new Fault("INVALID_REQUEST", `${file} holds no object of inputs by name`);
  }
  const isProtocol = "inputs" in json && !model.inputs.some(({ name }) => name === "inputs");
  return isProtocol ? runProtocol(runtime, model, json, options) : runNamed(runtime, model, json, options);
}

async function runProtocol(
  runtime: Runtime,
  model: ModelInfo,
  json: object,
  options: RequestOptions,
): Promise<string> {
  const body = InferBody.safeParse(json);
  if (!body.success) {
    const [issue] = body.error.issues;
    throw new Fault("INVALID_REQUEST", `${issue!.path.join(".")}: ${issue!.message}`);
  }
  const { request } = readInfer({ model: model.name, version: undefined }, body.data, undefined);
  const names = wantedOutputs(model, request.outputs);
  const { values, isBatch } = readInputs(model, request.inputs);
  const own = { ...options, ...optionsOf(request.parameters) };
  const { outputs } = await runtime.run(model.name, values, own);
  const { id } = request;
  const { name, version } = model;
  const answer = { id, model: name, version, parameters: {}, outputs: outputsOf(outputs, names, isBatch) };
  return writeAnswer(answer, () => false).json;
}

async function runNamed(
  runtime: Runtime,
  model: ModelInfo,
  json: object,
  options: RequestOptions,
): Promise<string> {
  const inputs = Object.entries(json).map(([name, value]) => {
    const spec = model.inputs.find((one) => one.name === name);
    if (spec) return inputOf(spec, value);
    const names = model.inputs.map((one) => `'${one.name}'`).join(", ");
    throw new Fault("INVALID_REQUEST", `model '${model.name}' has no input '${name}', it takes ${names}`);
  });
  const { outputs } = await runtime.run(model.name, readInputs(model, inputs).values, options);
  return JSON.stringify(plain(outputs));
}

function plain(outputs: Values): Record<string, unknown> {
  const plainOf = (value: Value) => (typeof value === "string" ? value : nested(value, 0, 0));
  return Object.fromEntries(Object.entries(outputs).map(([name, value]) => [name, plainOf(value)]));
}

/** The part of a tensor that begins at a value, as arrays nested like its axes from one on. */
function nested({ shape, data }: Tensor, axis: number, from: number): unknown {
  if (axis === shape.length) return data[from];
  const size = shape.slice(axis + 1).reduce((product, length) => product * length, 1);
  return Array.from({ length: shape[axis]! }, (_, i) =>
    nested({ shape, data } as Tensor, axis + 1, from + i * size),
  );
}
