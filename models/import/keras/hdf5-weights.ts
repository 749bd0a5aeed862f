import { randomUUID } from "node:crypto";
import type { Dataset, Group } from "h5wasm";
import { Fault } from "../../../src/core/faults.ts";
import { bfloat16, type StoredTensor } from "../../safetensors.ts";
import type { LayerEntry, Topology } from "./config.ts";
import { refuse, sayLayer } from "./faults.ts";
import { checkShape, type Place, type Weights } from "./weights.ts";

/** Weights in an HDF5 file, until it is closed. */
export interface Hdf5Weights extends Weights {
  close(): void;
}

/**
 * Opens the weights of a `.keras` archive, in the layout of Keras 3 (`layers/lstm_1/cell/vars/0`) or of Keras 2.12 and
 * later. The library runs on a memory of its own that holds no other files, so links that lead out of this one find nothing.
 */
export async function openWeights(bytes: Uint8Array, { all }: Topology): Promise<Hdf5Weights> {
  const { File, ready } = await import("h5wasm");
  const { FS, activate_throwing_error_handler: throwErrors } = await ready;
  throwErrors();
  const name = `${randomUUID()}.h5`;
  FS.writeFile(name, bytes);
  const close = () => FS.unlink(name);
  try {
    const file = guarded(() => new File(name, "r"));
    return {
      read: (layer, place, variable, wanted) =>
        guarded(() => {
          const group = groupOf(file, layer, all);
          const path = [...PLACES[place], "vars", String(variable.index)];
          const dataset = group && at(group, path);
          if (!isDataset(dataset))
            throw refuse(`${sayLayer(layer)} has no '${path.join("/")}' (${variable.name})`);
          checkShape(layer, variable.name, dataset.shape ?? [], wanted);
          return valuesOf(layer, variable.name, dataset, bytes.length);
        }),
      close: () => {
        guarded(() => file.close());
        close();
      },
    };
  } catch (error) {
    close();
    throw error;
  }
}

/** Where the variables of a part of a layer lie, below the layer. */
const PLACES: Readonly<Record<Place, readonly string[]>> = {
  own: [],
  cell: ["cell"],
  forward: ["forward_layer", "cell"],
  backward: ["backward_layer", "cell"],
  inner: ["layer"],
};

/** The group of a layer: groups are called by their classes and counted, and those of other layers hold no variables. */
function groupOf(file: Group, layer: LayerEntry, all: readonly LayerEntry[]): Group | undefined {
  const layers = at(file, ["layers"]) ?? at(file, ["_layer_checkpoint_dependencies"]);
  if (!isGroup(layers)) throw refuse("'model.weights.h5' has no group 'layers'");
  const wanted = snakeCase(layer.className);
  const place = all.filter(({ className }) => snakeCase(className) === wanted).indexOf(layer);
  const numbered = layers.keys().flatMap((key) => {
    const number = key === wanted ? "0" : key.startsWith(`${wanted}_`) ? key.slice(wanted.length + 1) : "";
    return /^\d{1,6}$/.test(number) ? [{ key, number: Number(number) }] : [];
  });
  numbered.sort((a, b) => a.number - b.number);
  const groups = numbered.map(({ key }) => at(layers, [key])).filter(isGroup);
  return groups.filter((group) => holdsVariables(group, 0))[place];
}

/** As Keras makes names of groups from those of classes: `SimpleRNN` to `simple_rnn`. */
function snakeCase(name: string): string {
  return name
    .replaceAll(/\W+/g, "")
    .replaceAll(/(.)([A-Z][a-z]+)/g, "$1_$2")
    .replaceAll(/([a-z])([A-Z])/g, "$1_$2")
    .toLowerCase();
}

function holdsVariables(group: Group, depth: number): boolean {
  return group.keys().some((key) => {
    const item = at(group, [key]);
    return isDataset(item) || (isGroup(item) && depth < MAX_DEPTH && holdsVariables(item, depth + 1));
  });
}

/** Of a layer's group: a Bidirectional has its variables at `forward_layer/cell/vars`. */
const MAX_DEPTH = 3;

/** What lies in a group, links within the file followed; undefined where nothing does. */
function at(group: Group, path: readonly string[]): ReturnType<Group["get"]> | undefined {
  let here: ReturnType<Group["get"]> = group;
  for (const name of path) {
    if (!isGroup(here) || !here.keys().includes(name)) return undefined;
    here = here.get(name);
  }
  return here;
}

function isGroup(item: unknown): item is Group {
  return typeof item === "object" && item !== null && "type" in item && item.type === "Group";
}

function isDataset(item: unknown): item is Dataset {
  return typeof item === "object" && item !== null && "type" in item && item.type === "Dataset";
}

/** Keras packs no values, so that they cannot take more bytes than the file; others would grow when they are read. */
function valuesOf(layer: LayerEntry, name: string, dataset: Dataset, fileBytes: number): StoredTensor {
  const { metadata } = dataset;
  const shape = dataset.shape ?? [];
  const count = shape.reduce((product, size) => product * size, 1);
  const what = `'${name}' of ${sayLayer(layer)}`;
  if (!(count * metadata.size <= fileBytes)) {
    throw refuse(`${what} takes ${count * metadata.size} bytes in a file of ${fileBytes}`);
  }
  const isFloat = metadata.type === FLOAT && (metadata.size === 4 || metadata.size === 8);
  const isBfloat16 = metadata.size === 2 && dataset.attrs.dtype?.value === "bfloat16";
  if (!isFloat && !isBfloat16) {
    throw refuse(`${what} holds values of ${metadata.size} bytes that are not float32, float64 or bfloat16`);
  }
  const { value } = dataset;
  if (isBfloat16 && value instanceof Uint8Array) {
    return { shape, data: Float32Array.from(new Uint16Array(value.slice().buffer), bfloat16) };
  }
  if (value instanceof Float32Array || value instanceof Float64Array) {
    return { shape, data: Float32Array.from(value) };
  }
  throw refuse(`${what} could not be read`);
}

/** `H5T_FLOAT`, the class of types that floats have. */
const FLOAT = 1;

/** Errors of the library, which come as a trace through its code, as faults. */
function guarded<T>(read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (error instanceof Fault) throw error;
    const message = error instanceof Error ? error.message : String(error);
    const causes = [...message.matchAll(/^ *#\d+:.*?\(\): (.*)$/gm)].map(([, cause]) => cause);
    throw refuse(`'model.weights.h5' cannot be read: ${causes.at(-1) ?? message.split("\n")[0]}`);
  }
}
