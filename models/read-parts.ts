import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { Fault } from "../src/core/faults.ts";
import type { ModelDefinition } from "./definition.ts";
import type { Pipeline } from "./pipeline.ts";

/** Reads those models of a pipeline that lie in its folder. Throws INVALID_REQUEST where one is not named as its folder. */
export async function readParts(
  folder: string,
  { stages }: Pipeline,
  read: (folder: string) => Promise<ModelDefinition>,
): Promise<ModelDefinition[]> {
  const parts: ModelDefinition[] = [];
  for (const model of new Set(stages.map((stage) => stage.model))) {
    const path = join(folder, model);
    const isHere = await readFile(join(path, "model.json")).then(
      () => true,
      () => false,
    );
    if (!isHere) continue;
    const part = await read(path);
    if (part.name !== model) {
      throw new Fault("INVALID_REQUEST", `${path} holds model '${part.name}', the pipeline wants '${model}'`);
    }
    parts.push(part);
  }
  return parts;
}
