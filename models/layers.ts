import { Fault } from "../src/core/faults.ts";
import type { Tensor } from "../src/core/tensor.ts";
import type { Collect, Graph, Layer, ModelDefinition, Program, Run, Series } from "./definition.ts";

type Layers = Extract<Program, { kind: "layers" }>;
type Inputs = Readonly<Record<string, Tensor>>;

/** Adds the cells of a `layers` program: the two directions of a layer run at the same time, a layer after the one before. */
export function unfoldLayers(graph: Graph, program: Layers, inputs: Inputs, model: ModelDefinition): void {
  let values: ReadonlyMap<string, Tensor | Series> = new Map(Object.entries(inputs));
  for (const layer of program.layers) values = addLayer(graph, layer, values, model);
  const collected = new Map<string, Series>();
  for (const [name, series] of values as ReadonlyMap<string, Series>) {
    const collect = collectOf(program.collect, name);
    if (collect !== undefined) collected.set(name, { ...series, collect });
  }
  if (program.head !== undefined) {
    const head = cellOf(model, program.head);
    const taken = Object.fromEntries(head.inputs.map(({ name }) => [name, need(collected, name, head.name)]));
    const run = graph.run(head.name, { inputs: taken });
    for (const { name } of head.outputs) graph.output(name, run, name, "last");
    for (const { name } of head.inputs) collected.delete(name);
  }
  for (const [name, series] of collected) give(graph, name, series);
}

function addLayer(
  graph: Graph,
  { forward, backward, merge }: Layer,
  values: ReadonlyMap<string, Tensor | Series>,
  model: ModelDefinition,
): ReadonlyMap<string, Series> {
  const outputs = new Map<string, Series>();
  const add = (cell: string | undefined, backwards: boolean) => {
    if (cell === undefined) return;
    const run = addRun(graph, cell, values, backwards, model);
    for (const { name } of cellOf(model, cell).outputs) {
      const part = { run, output: name, backwards };
      const other = outputs.get(name);
      outputs.set(name, { of: other ? [...other.of, part] : [part], merge });
    }
  };
  add(forward, false);
  add(backward, true);
  return outputs;
}

function addRun(
  graph: Graph,
  cell: string,
  values: ReadonlyMap<string, Tensor | Series>,
  backwards: boolean,
  model: ModelDefinition,
): Run {
  const { inputs } = cellOf(model, cell);
  const sole = inputs.length === 1 && values.size === 1 ? [...values.values()][0] : undefined;
  const taken = inputs.map(({ name }) => {
    const value = sole ?? need(values, name, cell);
    return [name, backwards ? reversed(value) : value] as const;
  });
  return graph.run(cell, { inputs: Object.fromEntries(taken) });
}

/** A single forward run gives its outputs as they come; what is merged or pooled is given at the end. */
function give(graph: Graph, name: string, series: Series): void {
  const [only, other] = series.of;
  const { collect = "all" } = series;
  if (!other && (collect === "last" || (collect === "all" && !only!.backwards))) {
    graph.output(name, only!.run, only!.output, collect);
  } else graph.give(name, series);
}

function reversed(value: Tensor | Series): Tensor | Series {
  if ("of" in value) return { ...value, backwards: true };
  const steps = value.shape[0]!;
  const size = value.data.length / Math.max(1, steps);
  const data = value.data.slice();
  for (let step = 0; step < steps; step++) {
    data.set(value.data.subarray((steps - 1 - step) * size, (steps - step) * size), step * size);
  }
  return { ...value, data } as Tensor;
}

function collectOf(collect: Layers["collect"], name: string): Collect | undefined {
  return typeof collect === "string" ? collect : collect[name];
}

function cellOf(model: ModelDefinition, name: string) {
  return model.cells.find((cell) => cell.name === name)!;
}

function need<T>(values: ReadonlyMap<string, T>, name: string, cell: string): T {
  const value = values.get(name);
  if (value !== undefined) return value;
  const there = [...values.keys()].map((one) => `'${one}'`).join(", ");
  throw new Fault("INVALID_INPUT", `cell '${cell}' takes '${name}', which is not among ${there}`);
}
