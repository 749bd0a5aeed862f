import { readFile, rename, writeFile } from "node:fs/promises";
import { Fault } from "../core/faults.ts";
import { formatKeys, type KeyEntry, type KeyLimits, makeKey, parseKeys } from "../server/access/key-file.ts";
import { table } from "./table.ts";

/** Makes a key, prints it once, and keeps its hash in the file. */
export async function addKey(name: string, file: string, limits: KeyLimits): Promise<void> {
  const keys = await keysOf(file);
  if (keys.some((one) => one.name === name)) {
    throw new Fault("INVALID_REQUEST", `${file} has a key '${name}': remove it first or choose another name`);
  }
  const { key, entry } = makeKey(name, limits, new Date().toISOString());
  await write(file, [...keys, entry]);
  process.stdout.write(`${key}\n`);
  process.stderr.write(
    `Key '${name}' is in ${file} as a hash: this is the only time that it is shown. A running server takes it on SIGHUP.\n`,
  );
}

/** Prints the keys of a file with their limits, without anything secret. */
export async function listKeys(file: string, json: boolean): Promise<void> {
  const keys = await keysOf(file);
  const shown = keys.map(({ hash: _, ...rest }) => rest);
  if (json) {
    process.stdout.write(`${JSON.stringify(shown)}\n`);
    return;
  }
  const head = ["name", "id", "created", "requests/s", "open ids", "priority", "models", "admin"];
  const rows = shown.map((key) => [
    key.name,
    key.id,
    key.created.slice(0, 10),
    key.requestsPerSecond === undefined ? "any" : `${key.requestsPerSecond}`,
    `${key.openIds ?? "any"}`,
    `${key.priority ?? 1} to 9`,
    key.models?.join(", ") ?? "all",
    key.admin ? "yes" : "no",
  ]);
  process.stdout.write(keys.length === 0 ? `${file} has no keys.\n` : table([head, ...rows]));
}

export async function removeKey(name: string, file: string): Promise<void> {
  const keys = await keysOf(file);
  const rest = keys.filter((one) => one.name !== name);
  if (rest.length === keys.length) {
    const known = keys.map((one) => one.name).join(", ") || "none";
    throw new Fault("INVALID_REQUEST", `${file} has no key '${name}'; it has ${known}`);
  }
  await write(file, rest);
  process.stderr.write(`Key '${name}' is gone from ${file}. A running server drops it on SIGHUP.\n`);
}

/** The keys of a file; none where there is no file yet. */
async function keysOf(file: string): Promise<readonly KeyEntry[]> {
  try {
    return parseKeys(await readFile(file, "utf8"), file);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
    throw error;
  }
}

/** Whole or not at all, and for its owner only. */
async function write(file: string, keys: readonly KeyEntry[]): Promise<void> {
  const next = `${file}.${process.pid}.tmp`;
  await writeFile(next, formatKeys(keys), { mode: 0o600 });
  await rename(next, file);
}
