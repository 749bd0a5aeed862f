import { Worker } from "node:worker_threads";
import { Fault } from "../../../src/core/faults.ts";
import type { LayerEntry, Topology } from "./config.ts";
import { refuse, sayLayer } from "./faults.ts";
import type { Hdf5Dataset } from "./hdf5.ts";
import type { Hdf5Answer, Hdf5Task } from "./hdf5-thread.ts";
import { checkShape, type Place, type Weights } from "./weights.ts";

/** Groups that hold the layers: of Keras 3, and of Keras 2.12 and later. */
export const LAYER_GROUPS = ["layers", "_layer_checkpoint_dependencies"] as const;

/** Longest that the weights of a model may take to be read. */
const DEADLINE_MS = 60_000;

/**
 * Reads `model.weights.h5` of an archive on a thread of its own. Throws INVALID_REQUEST where it is no HDF5 file or takes
 * longer than `deadlineMs`, 60 seconds by default.
 */
export async function readWeightsFile(
  bytes: Uint8Array,
  deadlineMs = DEADLINE_MS,
): Promise<readonly Hdf5Dataset[]> {
  const task: Hdf5Task = { bytes, groups: LAYER_GROUPS };
  const worker = new Worker(threadFile(), { workerData: task });
  let timer: NodeJS.Timeout | undefined;
  try {
    const answer = await new Promise<Hdf5Answer>((resolve, reject) => {
      const fail = (why: string) => reject(refuse(`'model.weights.h5' ${why}`));
      worker.once("message", resolve);
      worker.once("error", (error) => fail(`cannot be read: ${error.message}`));
      worker.once("exit", () => fail("cannot be read: its thread ended"));
      timer = setTimeout(() => fail(`takes longer than ${deadlineMs} ms to read`), deadlineMs);
    });
    if (answer.kind === "read") return answer.datasets;
    throw new Fault("INVALID_REQUEST", answer.message);
  } finally {
    clearTimeout(timer);
    await worker.terminate();
  }
}

/** The compiled file, also when this one runs as TypeScript, which threads of Node 20 cannot. */
function threadFile(): URL {
  const isSource = import.meta.url.endsWith(".ts");
  const file = isSource ? "../../../dist/models/import/keras/hdf5-thread.js" : "./hdf5-thread.js";
  return new URL(file, import.meta.url);
}

/** The weights of layers, found by where Keras puts them: `layers/lstm_1/cell/vars/0`. */
export function archiveWeights({ all }: Topology, datasets: readonly Hdf5Dataset[]): Weights {
  const byPath = new Map(datasets.map((dataset) => [dataset.path.join("/"), dataset]));
  const groups = groupsOf(datasets);
  return {
    read(layer, place, { name, index }, wanted) {
      const path = [...PLACES[place], "vars", index].join("/");
      const found = byPath.get(`${groupOf(layer, all, groups)}/${path}`);
      if (!found) throw refuse(`${sayLayer(layer)} has no weights '${path}' (${name})`);
      checkShape(layer, name, found.shape, wanted);
      if (found.values) return { shape: found.shape, data: found.values };
      throw refuse(`'${name}' of ${sayLayer(layer)} does not hold float32, float64 or bfloat16`);
    },
  };
}

/** Where the variables of a part of a layer lie, below the layer. */
const PLACES: Readonly<Record<Place, readonly string[]>> = {
  own: [],
  cell: ["cell"],
  forward: ["forward_layer", "cell"],
  backward: ["backward_layer", "cell"],
  inner: ["layer"],
};

interface LayerGroup {
  readonly path: string;
  /** `lstm` of `lstm_2`. */
  readonly kind: string;
  readonly number: number;
}

/** The groups of layers that have variables, in the order of their numbers. */
function groupsOf(datasets: readonly Hdf5Dataset[]): LayerGroup[] {
  const names = new Map(datasets.map(({ path: [container, name = ""] }) => [`${container}/${name}`, name]));
  const groups = [...names].map(([path, name]): LayerGroup => {
    const [, kind = name, number = "0"] = /^(.+?)(?:_(\d{1,6}))?$/.exec(name) ?? [];
    return { path, kind, number: Number(number) };
  });
  return groups.sort((a, b) => a.number - b.number);
}

/** Groups are called by the classes of their layers and counted, in some versions also where a layer has come before. */
function groupOf(
  layer: LayerEntry,
  all: readonly LayerEntry[],
  groups: readonly LayerGroup[],
): string | undefined {
  const wanted = snakeCase(layer.className);
  const place = all.filter(({ className }) => snakeCase(className) === wanted).indexOf(layer);
  return groups.filter(({ kind }) => kind === wanted)[place]?.path;
}

/** As Keras makes names of groups from those of classes: `SimpleRNN` to `simple_rnn`. */
function snakeCase(name: string): string {
  return name
    .replaceAll(/\W+/g, "")
    .replaceAll(/(.)([A-Z][a-z]+)/g, "$1_$2")
    .replaceAll(/([a-z])([A-Z])/g, "$1_$2")
    .toLowerCase();
}
