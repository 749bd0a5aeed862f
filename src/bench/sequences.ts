import type { ModelDefinition } from "../../models/definition.ts";
import { requestsFor } from "../load/requests.ts";
import type { Service } from "../load/service.ts";
import { createRuntime } from "../runtime/create.ts";
import { tfjsKernelFile } from "./model-arm.ts";
import { inputShapes, serviceOf } from "./model-service.ts";
import { chainOf, lstmCell, tokenCell } from "./synthetic.ts";
import { type WholeBatching, wholeSequenceModel } from "./whole-sequence.ts";

/** An LSTM of some width over sequences of tokens (through an embedding of its own width) or of vectors. */
export interface SequenceModel {
  readonly hidden: number;
  readonly input: "token" | "vector";
}

export type SequenceArm =
  | { readonly arm: "cellular"; readonly maxBatch?: number }
  | ({ readonly arm: "graph" } & WholeBatching)
  | { readonly arm: "single" }
  | { readonly arm: "tfjs" };

const ONE_AT_A_TIME: WholeBatching = {
  maxBatch: 1,
  timeoutMs: 0,
  order: "oldest",
  bucketWidth: Number.POSITIVE_INFINITY,
};

/** The model as cells. */
export function chainModelOf({ hidden, input }: SequenceModel): ModelDefinition {
  return chainOf("lstm", input === "token" ? tokenCell(hidden) : lstmCell(hidden));
}

/** Serves the model the way an arm says, with one engine on one thread. */
export async function serveSequences(sequences: SequenceModel, how: SequenceArm): Promise<Service> {
  const chain = chainModelOf(sequences);
  const isCellular = how.arm === "cellular" || how.arm === "tfjs";
  const model = isCellular
    ? chain
    : wholeSequenceModel("lstm", chain.cells[0]!, how.arm === "single" ? ONE_AT_A_TIME : how);
  const runtime = await createRuntime({
    models: [model],
    engines: 1,
    maxActive: 100_000,
    ...(how.arm === "tfjs" ? { kernel: tfjsKernelFile() } : {}),
    ...(how.arm === "cellular" && how.maxBatch !== undefined ? { maxBatch: how.maxBatch } : {}),
  });
  return serviceOf(runtime, { model: "lstm", requests: requestsFor(inputShapes(chain)) });
}
