import { readdir, stat } from "node:fs/promises";
import { join } from "node:path";

/** A folder that holds a version of a model. */
export interface FoundVersion {
  /** The number that the folder is named by; undefined where the model's folder is itself the version. */
  readonly version: string | undefined;
  readonly folder: string;
}

/**
 * The models of a repository by name, each with its versions, newest first: `DIR/<model>/<version>/model.json` with a whole
 * number above 0, or `DIR/<model>/model.json` alone. Other names are passed over, so that a version can be written beside
 * the others under a name such as `.new` and then renamed.
 */
export async function scanRepository(dir: string): Promise<ReadonlyMap<string, readonly FoundVersion[]>> {
  const models = new Map<string, readonly FoundVersion[]>();
  for (const name of (await readdir(dir)).sort()) {
    if (!MODEL_NAME.test(name)) continue;
    const folder = join(dir, name);
    const inside = await readdir(folder).catch(() => undefined);
    if (inside) models.set(name, await versionsOf(folder, inside));
  }
  return models;
}

async function versionsOf(folder: string, inside: readonly string[]): Promise<readonly FoundVersion[]> {
  const numbers = inside.filter((one) => VERSION.test(one)).sort((a, b) => Number(b) - Number(a));
  const versions: FoundVersion[] = [];
  for (const version of numbers) {
    const own = join(folder, version);
    if (await isFile(join(own, MANIFEST))) versions.push({ version, folder: own });
  }
  if (versions.length > 0) return versions;
  return (await isFile(join(folder, MANIFEST))) ? [{ version: undefined, folder }] : [];
}

/** Changes whenever a file of the folder does: names, sizes and times of all files, three folders deep. */
export async function signatureOf(folder: string, depth = 3): Promise<string> {
  const parts: string[] = [];
  for (const name of (await readdir(folder)).sort()) {
    const path = join(folder, name);
    // A file that is replaced just now is another signature next time.
    const found = await stat(path, { bigint: true }).catch(() => undefined);
    if (!found) parts.push(`${name} gone`);
    else if (!found.isDirectory()) parts.push(`${name} ${found.ino} ${found.size} ${found.mtimeNs}`);
    else if (depth > 1) parts.push(`${name} (${await signatureOf(path, depth - 1)})`);
  }
  return parts.join("\n");
}

const MANIFEST = "model.json";
/** As `model.json` has it. */
const MODEL_NAME = /^[a-z0-9][a-z0-9._-]{0,63}$/;
const VERSION = /^[1-9]\d{0,14}$/;

async function isFile(path: string): Promise<boolean> {
  return (await stat(path).catch(() => undefined))?.isFile() ?? false;
}
