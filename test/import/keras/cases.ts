import { readFileSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { inflateSync } from "node:zlib";
import { onTestFinished } from "vitest";

/** A model of Keras or TensorFlow.js with what that gives. */
export interface Case {
  readonly name: string;
  /** By format; name of a file to its content, zlib in base64. */
  readonly files: Readonly<Record<string, Readonly<Record<string, string>>>>;
  readonly input: "token" | "x";
  /** All values of one request each, of 3 a step for `x`. */
  readonly inputs: readonly (readonly number[])[];
  readonly outputs: readonly (readonly number[])[];
  /** What the importer has to say of it. */
  readonly note?: string;
}

/** Values of a step of `x`. */
export const INPUT = 3;

export const keras = casesOf("cases.json");
export const tfjs = casesOf("tfjs.json");

function casesOf(file: string): readonly Case[] {
  return JSON.parse(readFileSync(new URL(`fixtures/${file}`, import.meta.url), "utf8")) as Case[];
}

/** The files of a case in one format, unpacked. */
export function filesOf({ files }: Case, format: string): Record<string, Buffer> {
  return Object.fromEntries(
    Object.entries(files[format]!).map(([name, packed]) => [
      name,
      inflateSync(Buffer.from(packed, "base64")),
    ]),
  );
}

/** Writes files into a folder that goes with the test, and answers the path of the one to import. */
export async function written(files: Readonly<Record<string, Uint8Array | string>>): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "cellbatch-keras-"));
  onTestFinished(() => rm(folder, { recursive: true }));
  for (const [name, content] of Object.entries(files)) await writeFile(join(folder, name), content);
  return join(folder, "model.json" in files ? "model.json" : "model.keras");
}
