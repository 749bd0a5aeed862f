import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";
import type { ModelDefinition } from "../../models/definition.ts";
import { Fault } from "../core/faults.ts";
import { requestsFor } from "../load/requests.ts";
import { oneAtATime, type Service } from "../load/service.ts";
import { createRuntime, modelDefinition } from "../runtime/create.ts";
import { inputShapes, serviceOf } from "./model-service.ts";
import { type WholeBatching, wholeSequenceModel } from "./whole-sequence.ts";

/** How a user's model is served: as it is, one request at a time, by another kernel, or whole sequences where it can be put so. */
export type ModelArm =
  | { readonly arm: "cellular" }
  | { readonly arm: "single" }
  | { readonly arm: "tfjs" }
  | ({ readonly arm: "graph" } & WholeBatching);

export interface ModelSubject {
  /** Folder, or path of a module. */
  readonly path: string;
  readonly texts?: readonly string[];
  readonly maxSteps?: number;
}

/** Serves a model the way an arm says, with one engine on one thread. */
export async function serveModel({ path, texts, maxSteps }: ModelSubject, how: ModelArm): Promise<Service> {
  const definition = await modelDefinition(path);
  const served = how.arm === "graph" && isCell(definition) ? wholeOf(definition, how) : undefined;
  const runtime = await createRuntime({
    models: [served ?? path],
    engines: 1,
    maxActive: 100_000,
    ...(how.arm === "tfjs" ? { kernel: tfjsKernelFile() } : {}),
  });
  const service = serviceOf(runtime, {
    model: definition.name,
    requests: requestsFor(inputShapes(definition), texts),
    ...(maxSteps === undefined ? {} : { maxSteps }),
  });
  return how.arm === "single" ? oneAtATime(service) : service;
}

/** Whether whole sequences give the same: one LSTM or GRU whose last state is the answer. */
export function isCell({ cells, program, text }: ModelDefinition): boolean {
  const [cell] = cells;
  const body = cell?.body;
  return (
    cells.length === 1 &&
    program.kind === "chain" &&
    program.collect === "last" &&
    !text &&
    (body?.kind === "lstm" || body?.kind === "gru") &&
    !body.head &&
    cell!.outputs.length === 1 &&
    cell!.outputs[0]!.name === "h"
  );
}

function wholeOf({ name, cells }: ModelDefinition, batching: WholeBatching): ModelDefinition {
  return wholeSequenceModel(name, cells[0]!, batching);
}

/** The installed packages of TensorFlow.js that can compute here, best first. */
const TFJS = ["@tensorflow/tfjs-node-gpu", "@tensorflow/tfjs-node", "@tensorflow/tfjs-backend-wasm"];

/** The first that is installed where this is run; undefined where none is. */
export function installedTfjs(): string | undefined {
  const require = createRequire(import.meta.url);
  return TFJS.find((name) => {
    try {
      require.resolve(name);
      return true;
    } catch {
      return false;
    }
  });
}

/** Throws UNSUPPORTED where no TensorFlow.js is installed. */
export function tfjsKernelFile(): string {
  if (installedTfjs() === undefined)
    throw new Fault("UNSUPPORTED", `none of ${TFJS.join(", ")} is installed`);
  return fileURLToPath(new URL("./tfjs-kernel.js", import.meta.url));
}
