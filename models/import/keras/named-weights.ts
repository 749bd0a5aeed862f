import type { StoredTensor } from "../../safetensors.ts";
import type { LayerEntry, Topology } from "./config.ts";
import { refuse, sayLayer } from "./faults.ts";
import { checkShape, type Place, type Variable, type Weights } from "./weights.ts";

/** A weight that a file gives a name, read when it is asked for. */
export interface NamedWeight {
  /** `lstm/lstm_cell/kernel` and the like. */
  readonly name: string;
  readonly shape: readonly number[];
  read(): Float32Array;
}

/**
 * Weights by the names that Keras gives them: the layer first, the variable last. Keras 3 puts the model before them, a
 * Bidirectional its direction and Keras 2 from TensorFlow 2.2 on the cell between them.
 */
export function namedWeights(
  topology: Topology,
  found: readonly NamedWeight[],
): Weights & { readonly unused: () => string[] } {
  const owners = new Map(topology.layers.map((layer) => [layer.name, layer]));
  const paths = withoutModel(
    found.map((weight) => ({ weight, path: pathOf(weight.name) })),
    topology.name,
    owners,
  );
  const byLayer = new Map<LayerEntry, Path[]>();
  for (const one of paths) {
    const owner = one.path.slice(0, -1).find((part) => owners.has(part));
    const layer = owner === undefined ? undefined : owners.get(owner);
    if (layer) byLayer.set(layer, [...(byLayer.get(layer) ?? []), one]);
  }
  const used = new Set<NamedWeight>();
  return {
    read(layer, place, variable, wanted): StoredTensor {
      const own = (byLayer.get(layer) ?? []).filter((one) => isOf(layer, one.path, place, variable));
      if (own.length !== 1)
        throw refuse(`${sayLayer(layer)} has ${own.length} weights '${sayPlace(place)}${variable.name}'`);
      const { weight } = own[0]!;
      used.add(weight);
      checkShape(layer, weight.name, weight.shape, wanted);
      return { shape: weight.shape, data: weight.read() };
    },
    unused: () => found.filter((weight) => !used.has(weight)).map(({ name }) => name),
  };
}

interface Path {
  readonly weight: NamedWeight;
  readonly path: readonly string[];
}

function pathOf(name: string): string[] {
  return name.replace(/:\d+$/, "").split("/");
}

function nameIn(json: unknown): string | undefined {
  if (typeof json !== "object" || json === null || !("config" in json)) return undefined;
  const { config } = json;
  if (typeof config !== "object" || config === null || !("name" in config)) return undefined;
  return typeof config.name === "string" ? config.name : undefined;
}

/** Without the model's name before all of them, which may be that of a layer too. */
function withoutModel(
  paths: readonly Path[],
  model: string,
  owners: ReadonlyMap<string, LayerEntry>,
): readonly Path[] {
  const isPrefix = paths.every(({ path }) => path.length > 2 && path[0] === model && owners.has(path[1]!));
  return isPrefix ? paths.map(({ weight, path }) => ({ weight, path: path.slice(1) })) : paths;
}

function isOf(layer: LayerEntry, path: readonly string[], place: Place, { name, index }: Variable): boolean {
  const last = path.at(-1);
  if (last !== name && last !== String(index)) return false;
  if (place !== "forward" && place !== "backward") return true;
  const names = directionNames(layer, place);
  return path.some((part) => names.includes(part));
}

/** What the layer of a direction may be called: copies get a prefix, and Keras 3 writes it into the config. */
function directionNames({ config }: LayerEntry, place: "forward" | "backward"): string[] {
  const layers = place === "forward" ? [config.layer] : [config.backward_layer, config.layer];
  const names = layers.map(nameIn).filter((name) => name !== undefined);
  const isNamed = place === "forward" || config.backward_layer !== undefined;
  return [...(isNamed ? names.slice(0, 1) : []), ...names.map((name) => `${place}_${name}`)];
}

function sayPlace(place: Place): string {
  return place === "forward" || place === "backward" ? `${place}_*/` : "";
}
