import { mkdir, readdir, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { Fault } from "../src/core/faults.ts";
import type { ImportedModel } from "./import/imported.ts";
import { inside } from "./read-cell.ts";

/**
 * Writes an imported model into a folder, which is made where it is missing. Throws INVALID_REQUEST where the folder holds
 * other things than a model, or a file's name leads out of it.
 */
export async function writeModel(folder: string, { manifest, files }: ImportedModel): Promise<void> {
  const present = await readdir(folder).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return [] as string[];
    throw new Fault("INVALID_REQUEST", `${folder} is no folder to write to: ${error.message}`);
  });
  if (present.length > 0 && !present.includes("model.json")) {
    throw new Fault("INVALID_REQUEST", `${folder} holds other files and no model.json; name a new folder`);
  }
  for (const [name, content] of files) {
    const path = inside(folder, name);
    await mkdir(dirname(path), { recursive: true });
    await writeFile(path, content);
  }
  // Last, so that a folder with a model.json is whole.
  await writeFile(join(folder, "model.json"), `${JSON.stringify(manifest, undefined, 2)}\n`);
}
