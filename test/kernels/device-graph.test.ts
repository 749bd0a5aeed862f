import { Tensor } from "onnxruntime-node";
import { expect, it } from "vitest";
import type { CellGraph, Port } from "../../kernels/onnx/cell-graph.ts";
import { deviceGraph } from "../../kernels/onnx/device-graph.ts";
import { lstmOperatorGraph, recurrentGraph } from "../../kernels/onnx/graphs.ts";
import { loadSession, type Tensors } from "../../kernels/onnx/session.ts";
import { lstmCell } from "../fixtures/models.ts";

const ROWS = 3;
const HIDDEN = 6;
const vectors = lstmCell("vectors", { hidden: HIDDEN, input: 4 });
const classes = lstmCell("classes", { hidden: HIDDEN, input: 4, symbols: 5, classes: 3 });

it("gives states of three axes as rows, with the values they had", async () => {
  const graph = lstmOperatorGraph(vectors);
  const changed = deviceGraph(vectors, graph);
  for (const port of [...changed.reads.flat(), ...changed.writes])
    expect(port.dims(ROWS, 1)).toEqual([ROWS, HIDDEN]);
  expect(await valuesOf(changed)).toEqual(await valuesOf(graph));
});

it("gives a next state that callers see twice, under two names", async () => {
  const graph = recurrentGraph(vectors, 1);
  expect(graph.outputs[0]!.name).toBe(graph.writes[0]!.name);
  const changed = deviceGraph(vectors, graph);
  expect(changed.outputs[0]!.name).not.toBe(changed.writes[0]!.name);
  expect(await valuesOf(changed)).toEqual(await valuesOf(graph));
});

it("leaves a graph as it is whose states are rows that no caller sees", () => {
  const graph = recurrentGraph(classes, 1);
  expect(deviceGraph(classes, graph)).toBe(graph);
});

/** What a graph gives for some inputs and states on the CPU: its next states, then its outputs. */
async function valuesOf(graph: CellGraph): Promise<number[][]> {
  const feeds: Tensors = {};
  [...graph.inputs, ...graph.reads.flat()].forEach((port: Port, at) => {
    const dims = port.dims(ROWS, 1);
    const length = dims.reduce((product, size) => product * size, 1);
    feeds[port.name] = new Tensor(
      "float32",
      Float32Array.from({ length }, (_, i) => Math.sin(7 * at + i)),
      dims,
    );
  });
  const session = await loadSession(graph.onnx, { threads: 1 });
  const names = [...graph.writes, ...graph.outputs].map(({ name }) => name);
  const given = await session.infer(feeds, names);
  await session.dispose();
  return names.map((name) => [...(given[name]!.data as Float32Array)]);
}
