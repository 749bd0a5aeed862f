import type { ModelDefinition } from "../../models/definition.ts";
import type { Gate, Pipeline, Stage } from "../../models/pipeline.ts";
import { float32 } from "../../src/core/tensor.ts";
import type { StepOutput } from "../../src/runtime/types.ts";
import { noise } from "../fixtures/models.ts";

export function pipeline(
  name: string,
  stages: readonly Stage[],
  outputs?: Pipeline["outputs"],
): ModelDefinition {
  const program: Pipeline = { kind: "pipeline", stages, ...(outputs ? { outputs } : {}) };
  return { name, version: "1", description: "", cells: [], program, inputs: [], outputs: [] };
}

export const stage = (name: string, model: string, inputs: Stage["inputs"] = {}, gate?: Gate): Stage => ({
  name,
  model,
  inputs,
  ...(gate ? { gate } : {}),
});

export const vectors = (steps: number, seed: number) => float32([steps, 4], noise(steps * 4, seed));

export async function stepsOf(from: AsyncIterable<StepOutput>): Promise<StepOutput[]> {
  const steps: StepOutput[] = [];
  for await (const step of from) steps.push(step);
  return steps;
}
