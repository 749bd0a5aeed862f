import onnxProto from "onnx-proto";
import type { CellSpec } from "../../src/core/cell.ts";
import { sizeOf } from "../../src/core/tensor.ts";
import type { CellGraph, Port } from "./cell-graph.ts";
import { FLOAT, INT64, valueInfo } from "./graph.ts";

const { onnx } = onnxProto;

/**
 * Changes a cell's graph so that its states can stay on a device: they go in and out as `[rows, size]`, which is what rows are
 * picked from, and a next state that callers see too is given twice, for an output is on the device or in host memory.
 */
export function deviceGraph(cell: CellSpec, graph: CellGraph): CellGraph {
  const seen = new Set(graph.outputs.map(({ name }) => name));
  const isFlat = ({ dims }: Port) => dims(1, 1).length === 2;
  const reads = graph.reads.flat().filter((port) => !isFlat(port));
  const writes = graph.writes.filter((port) => !isFlat(port) || seen.has(port.name));
  if (reads.length + writes.length === 0) return graph;

  const model = onnx.ModelProto.decode(graph.onnx);
  const { node, initializer, input, output } = model.graph!;
  const reshape = (from: string, to: string, dims: readonly number[]) => {
    const shape = `${to}/shape`;
    const rawData = new Uint8Array(BigInt64Array.from(dims, BigInt).buffer);
    initializer!.push({ name: shape, dims: [dims.length], dataType: INT64, rawData });
    return { opType: "Reshape", input: [from, shape], output: [to] };
  };
  const sizes = new Map<string, number>();
  for (const ports of [...graph.reads, graph.writes]) {
    ports.forEach(({ name }, i) => {
      sizes.set(name, sizeOf(cell.states[i]!.shape));
    });
  }
  for (const { name, dims } of reads) {
    const at = input!.findIndex((port) => port.name === name);
    input![at] = valueInfo(onDevice(name), FLOAT, ["rows", sizes.get(name)!]);
    node!.unshift(reshape(onDevice(name), name, dims(-1, 1)));
  }
  for (const { name } of writes) {
    const size = sizes.get(name)!;
    node!.push(reshape(name, onDevice(name), [-1, size]));
    const given = valueInfo(onDevice(name), FLOAT, ["rows", size]);
    if (seen.has(name)) output!.push(given);
    else output![output!.findIndex((port) => port.name === name)] = given;
  }
  const changed = new Set([...reads, ...writes]);
  const flat = (port: Port): Port => {
    if (!changed.has(port)) return port;
    return { name: onDevice(port.name), dims: (rows) => [rows, sizes.get(port.name)!] };
  };
  return {
    onnx: onnx.ModelProto.encode(model).finish(),
    inputs: graph.inputs,
    reads: graph.reads.map((ports) => ports.map(flat)),
    writes: graph.writes.map(flat),
    outputs: graph.outputs,
  };
}

function onDevice(name: string): string {
  return `device/${name}`;
}
