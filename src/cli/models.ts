import { createRuntime } from "../runtime/create.ts";
import type { ModelInfo, ValueSpec } from "../runtime/types.ts";
import { modelPaths } from "./paths.ts";

export async function listModels({
  model,
  json,
}: {
  readonly model?: readonly string[];
  readonly json: boolean;
}): Promise<void> {
  const { paths, missing } = modelPaths(model);
  const runtime = await createRuntime({ models: paths, inline: true });
  if (json) process.stdout.write(`${JSON.stringify(runtime.models, undefined, 2)}\n`);
  else {
    for (const info of runtime.models) process.stdout.write(`${modelLine(info)}\n`);
    for (const { name, reason } of missing) process.stdout.write(`${name.padEnd(12)} not here: ${reason}\n`);
  }
  await runtime.close(0);
}

/** One line about a model, for people. */
export function modelLine({ name, program, inputs, outputs, cells, description }: ModelInfo): string {
  const shape = (values: readonly ValueSpec[]) => values.map(specOf).join(", ");
  const batches = cells.map((cell) => `${cell.name} ${cell.kind} x${cell.maxBatch}`).join(", ");
  return `${name.padEnd(12)} ${program.padEnd(8)} ${shape(inputs)} -> ${shape(outputs)}  [${batches}]  ${description}`;
}

function specOf({ name, type, shape }: ValueSpec): string {
  if (type === "text") return `${name}: text`;
  return `${name}: ${type}[${shape.map((dim) => (dim === -1 ? "*" : dim)).join(", ")}]`;
}
