import { open, realpath, stat } from "node:fs/promises";
import { dirname, resolve, sep } from "node:path";
import { z } from "zod";
import { Fault } from "../../../src/core/faults.ts";
import { float16 } from "../../safetensors.ts";
import { parse } from "./config.ts";
import { refuse } from "./faults.ts";
import type { NamedWeight } from "./named-weights.ts";
import { MAX_BYTES, valuesOf } from "./weights.ts";

const Weight = z.looseObject({
  name: z.string(),
  shape: z.array(z.number().int().min(0)).max(8),
  dtype: z.string(),
  quantization: z
    .looseObject({
      dtype: z.enum(["uint8", "uint16", "float16"]),
      scale: z.number().default(1),
      min: z.number().default(0),
    })
    .optional(),
});

const Manifest = z.array(z.looseObject({ paths: z.array(z.string()), weights: z.array(Weight) }));

type WeightJson = z.infer<typeof Weight>;

/**
 * Reads the weights that a manifest of TensorFlow.js names, from files below the folder of `file` only: each group is one
 * run of bytes that is cut into files. Throws INVALID_REQUEST that names the weight or the file.
 */
export async function readShards(json: unknown, file: string): Promise<NamedWeight[]> {
  const groups = parse(Manifest, json, "weightsManifest");
  const folder = await realpath(dirname(resolve(file)));
  const names = new Set<string>();
  for (const { name } of groups.flatMap(({ weights }) => weights)) {
    if (names.has(name)) throw refuse(`two of its weights are called '${name}'`);
    names.add(name);
  }
  const plans = groups.map(({ paths, weights }) => ({ paths, weights: weights.map(layoutOf) }));
  const total = plans.flatMap(({ weights }) => weights).reduce((sum, { bytes }) => sum + bytes, 0);
  if (total > MAX_BYTES) throw refuse(`its weights take ${total} bytes, at most ${MAX_BYTES} are read`);
  const taken = new Set<string>();
  const found: NamedWeight[] = [];
  for (const { paths, weights } of plans) {
    const files: string[] = [];
    for (const path of paths) files.push(await pathInside(folder, path, taken));
    const needs = weights.reduce((sum, { bytes }) => sum + bytes, 0);
    const values = await joined(files, needs, paths);
    let at = 0;
    for (const { weight, bytes, read } of weights) {
      // A copy begins at a multiple of 8, as typed arrays want.
      const own = values.subarray(at, at + bytes);
      found.push({ name: weight.name, shape: weight.shape, read: () => read(own.slice().buffer) });
      at += bytes;
    }
  }
  return found;
}

interface Layout {
  readonly weight: WeightJson;
  readonly bytes: number;
  /** Values from the bytes of this weight; little-endian, as every machine is that Node.js runs on. */
  readonly read: (values: ArrayBuffer) => Float32Array;
}

function layoutOf(weight: WeightJson): Layout {
  const { name, shape, dtype, quantization } = weight;
  const count = valuesOf(name, shape);
  if (dtype !== "float32") throw refuse(`'${name}' holds ${dtype}; weights of float32 are read`);
  if (!quantization) return { weight, bytes: 4 * count, read: (values) => new Float32Array(values) };
  const { scale, min } = quantization;
  const scaled = (values: Uint8Array | Uint16Array) =>
    Float32Array.from(values, (value) => value * scale + min);
  switch (quantization.dtype) {
    case "uint8":
      return { weight, bytes: count, read: (values) => scaled(new Uint8Array(values)) };
    case "uint16":
      return { weight, bytes: 2 * count, read: (values) => scaled(new Uint16Array(values)) };
    case "float16":
      return {
        weight,
        bytes: 2 * count,
        read: (values) => Float32Array.from(new Uint16Array(values), float16),
      };
  }
}

/** The path of a file in the folder, links followed, that no other path led to. */
async function pathInside(folder: string, path: string, taken: Set<string>): Promise<string> {
  const outside = () => refuse(`its weights lie in '${path}', outside the folder of the file`);
  const whole = resolve(folder, path);
  if (path === "" || path.includes("\0") || !whole.startsWith(folder + sep)) throw outside();
  const real = await realpath(whole).catch(() => {
    throw refuse(`its weights lie in '${path}', which is not there`);
  });
  if (!real.startsWith(folder + sep)) throw outside();
  if (!(await stat(real)).isFile()) throw refuse(`its weights lie in '${path}', which is no file`);
  if (taken.has(real)) throw refuse(`its weights name the file '${path}' twice`);
  taken.add(real);
  return real;
}

/** The bytes of files one after the other. */
async function joined(
  files: readonly string[],
  needs: number,
  paths: readonly string[],
): Promise<Uint8Array> {
  const handles = [];
  try {
    let size = 0;
    for (const file of files) {
      const handle = await open(file);
      handles.push(handle);
      size += (await handle.stat()).size;
    }
    if (size !== needs)
      throw refuse(`the files ${sayPaths(paths)} hold ${size} bytes, their weights take ${needs}`);
    const values = new Uint8Array(needs);
    let at = 0;
    for (const handle of handles) {
      for (;;) {
        const { bytesRead } = await handle.read(values, at, needs - at, null);
        if (bytesRead === 0) break;
        at += bytesRead;
      }
    }
    if (at !== needs) throw refuse(`the files ${sayPaths(paths)} ended inside a weight`);
    return values;
  } catch (error) {
    if (error instanceof Fault) throw error;
    throw refuse(`its weights cannot be read: ${(error as Error).message}`);
  } finally {
    for (const handle of handles) await handle.close();
  }
}

function sayPaths(paths: readonly string[]): string {
  const shown = paths.slice(0, 3).map((path) => `'${path}'`);
  return [...shown, ...(paths.length > 3 ? [`${paths.length - 3} more`] : [])].join(", ");
}
