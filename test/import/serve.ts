import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { onTestFinished } from "vitest";
import type { ImportedModel } from "../../models/import/imported.ts";
import { writeModel } from "../../models/write-model.ts";
import { createRuntime } from "../../src/runtime/create.ts";
import type { Runtime } from "../../src/runtime/types.ts";

/** Serves an imported model from its folder until the test ends. */
export async function serveImported(imported: ImportedModel): Promise<Runtime> {
  const folder = await mkdtemp(join(tmpdir(), "cellbatch-served-"));
  onTestFinished(() => rm(folder, { recursive: true }));
  await writeModel(folder, imported);
  const runtime = await createRuntime({ models: [folder], inline: true });
  onTestFinished(() => runtime.close(0));
  return runtime;
}
