import type { Dataset, Group } from "h5wasm";
import { Fault } from "../../../src/core/faults.ts";
import { bfloat16 } from "../../safetensors.ts";
import { refuse } from "./faults.ts";

/** A dataset of an HDF5 file. */
export interface Hdf5Dataset {
  /** Names of groups, then its own. */
  readonly path: readonly string[];
  readonly shape: readonly number[];
  /** Undefined where it holds other things than float32, float64 or bfloat16. */
  readonly values: Float32Array | undefined;
}

/**
 * Reads all datasets below some groups of an HDF5 file. The library runs on a memory of its own that holds no other files,
 * so links that lead out of this one find nothing. A hostile file can keep it busy for long, so it belongs on a thread.
 */
export async function readDatasets(bytes: Uint8Array, groups: readonly string[]): Promise<Hdf5Dataset[]> {
  const { File, ready } = await import("h5wasm");
  const { FS, activate_throwing_error_handler: throwErrors } = await ready;
  throwErrors();
  FS.writeFile(NAME, bytes);
  try {
    const reader = new Reader(bytes.length);
    const file = new File(NAME, "r");
    for (const name of file.keys()) if (groups.includes(name)) reader.add(file, [], name);
    file.close();
    return reader.found;
  } catch (error) {
    if (error instanceof Fault) throw error;
    throw refuse(`'model.weights.h5' cannot be read: ${causeOf(error)}`);
  } finally {
    FS.unlink(NAME);
  }
}

const NAME = "weights.h5";

/** Deeper than Keras nests groups. */
const MAX_DEPTH = 12;
const MAX_ITEMS = 100_000;

class Reader {
  readonly found: Hdf5Dataset[] = [];
  #bytesLeft: number;
  #itemsLeft = MAX_ITEMS;

  constructor(fileBytes: number) {
    this.#bytesLeft = fileBytes;
  }

  add(group: Group, path: readonly string[], name: string): void {
    if (--this.#itemsLeft < 0)
      throw refuse(`'model.weights.h5' has more than ${MAX_ITEMS} groups and datasets`);
    const item = group.get(name);
    const own = [...path, name];
    if (isKind(item, "Dataset")) this.found.push(this.#read(item as Dataset, own));
    if (!isKind(item, "Group") || own.length > MAX_DEPTH) return;
    const inner = item as Group;
    for (const key of inner.keys()) this.add(inner, own, key);
  }

  #read(dataset: Dataset, path: readonly string[]): Hdf5Dataset {
    const { type, size } = dataset.metadata;
    const shape = dataset.shape ?? [];
    const isFloat = type === FLOAT && (size === 4 || size === 8);
    const isBfloat16 = size === 2 && dataset.attrs.dtype?.value === "bfloat16";
    if (!isFloat && !isBfloat16) return { path, shape, values: undefined };
    // Keras packs no values: what takes more than the file would grow when it is read.
    const bytes = shape.reduce((product, length) => product * length, size);
    this.#bytesLeft -= bytes;
    if (!(this.#bytesLeft >= 0)) {
      throw refuse(
        `'${path.join("/")}' of 'model.weights.h5' takes ${bytes} bytes, more than the file has left`,
      );
    }
    return { path, shape, values: floatsOf(dataset.value, isBfloat16) };
  }
}

/** `H5T_FLOAT`, the class of types that floats have. */
const FLOAT = 1;

function isKind(item: unknown, kind: "Group" | "Dataset"): boolean {
  return typeof item === "object" && item !== null && "type" in item && item.type === kind;
}

function floatsOf(value: unknown, isBfloat16: boolean): Float32Array | undefined {
  if (isBfloat16 && value instanceof Uint8Array) {
    return Float32Array.from(new Uint16Array(value.slice().buffer), bfloat16);
  }
  if (value instanceof Float32Array) return value;
  return value instanceof Float64Array ? Float32Array.from(value) : undefined;
}

/** Errors of the library are traces through its code; the last line is the first cause. */
function causeOf(error: unknown): string {
  const message = error instanceof Error ? error.message : String(error);
  const causes = [...message.matchAll(/^ *#\d+:.*?\(\): (.*)$/gm)].map(([, cause]) => cause);
  return causes.at(-1) ?? message.split("\n")[0]!;
}
