import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { onTestFinished } from "vitest";
import { writeSafetensors } from "../../models/write-safetensors.ts";
import { noise } from "../fixtures/models.ts";

/** A folder for models that is gone after the test. */
export async function repositoryFolder(): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), "cellbatch-repository-"));
  onTestFinished(() => rm(dir, { recursive: true, force: true }));
  return dir;
}

const HIDDEN = 8;

/** The weights of an LSTM over vectors of 4, which `seed` tells from others. */
export function weights(seed: number): Uint8Array {
  const gates = 4 * HIDDEN;
  return writeSafetensors(
    new Map([
      ["weight_ih", { shape: [gates, 4], data: noise(gates * 4, seed) }],
      ["weight_hh", { shape: [gates, HIDDEN], data: noise(gates * HIDDEN, seed + 1) }],
      ["bias_ih", { shape: [gates], data: noise(gates, seed + 2) }],
      ["bias_hh", { shape: [gates], data: noise(gates, seed + 3) }],
    ]),
  );
}

/** A `model.json` of a model for requests, or for sessions. */
export function manifest(name: string, version: string, kind: "chain" | "session" = "chain"): string {
  return JSON.stringify({
    format: 1,
    name,
    version,
    description: "an LSTM for tests",
    cells: [{ name: "cell", kind: "lstm", weights: { file: "weights.safetensors" } }],
    program: { kind, cell: "cell" },
  });
}

/** Writes a whole model. */
export async function writeFolder(
  folder: string,
  { name, version, seed, kind }: { name: string; version: string; seed: number; kind?: "chain" | "session" },
): Promise<void> {
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, "weights.safetensors"), weights(seed));
  await writeFile(join(folder, "model.json"), manifest(name, version, kind));
}
