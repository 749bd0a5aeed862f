import onnxProto from "onnx-proto";
import type { CellSpec } from "../../src/core/cell.ts";
import { Fault } from "../../src/core/faults.ts";
import type { CellGraph, Port } from "./cell-graph.ts";
import { attributesOf, FLOAT, INT32, INT64, valueInfo } from "./graph.ts";

const { onnx } = onnxProto;
type Graph = onnxProto.onnx.IGraphProto & {
  node: Node[];
  initializer: onnxProto.onnx.ITensorProto[];
};
type Node = onnxProto.onnx.INodeProto;

/**
 * Turns a given ONNX step graph into one whose tensors all have the batch as their first axis and whose names are those
 * of built graphs: other batch axes are transposed, constants are bound, and the context becomes a state like any other.
 */
export function givenGraph(cell: CellSpec): CellGraph {
  const { body } = cell;
  if (body.kind !== "graph") throw new Error(`cell '${cell.name}' has no ONNX graph`);
  const model = decode(cell.name, body.graph.onnx);
  const graph = model.graph as Graph;
  graph.initializer ??= [];
  const inputs = new Set((graph.input ?? []).map(({ name }) => name));
  const outputs = new Set((graph.output ?? []).map(({ name }) => name));
  const before: Node[] = [];
  const after: Node[] = [];
  const newInputs: onnxProto.onnx.IValueInfoProto[] = [];
  const newOutputs: onnxProto.onnx.IValueInfoProto[] = [];
  const need = (names: ReadonlySet<unknown>, name: string, what: string) => {
    if (names.has(name)) return;
    throw new Fault(
      "INVALID_REQUEST",
      `cell '${cell.name}': its graph has no ${what} '${name}', it has ${[...names].join(", ")}`,
    );
  };
  const { states, constants = {}, context } = body.graph;

  states.forEach(({ input, output, batchAxis = 0 }, i) => {
    need(inputs, input, "input");
    need(outputs, output, "output");
    const { name, shape } = cell.states[i]!;
    newInputs.push(valueInfo(`state/${name}`, FLOAT, ["rows", ...shape]));
    newOutputs.push(valueInfo(`next/${name}`, FLOAT, ["rows", ...shape]));
    before.push(moveAxis(`state/${name}`, input, 0, batchAxis, shape.length + 1));
    after.push(moveAxis(output, `next/${name}`, batchAxis, 0, shape.length + 1));
  });
  for (const [name, value] of Object.entries(constants)) {
    need(inputs, name, "input");
    graph.initializer.push(constantLike(graph, name, value));
  }
  for (const { name, dtype, shape } of cell.inputs) {
    need(inputs, name, "input");
    newInputs.push(valueInfo(`in/${name}`, dtype === "int32" ? INT32 : FLOAT, ["rows", ...shape]));
    if (context?.input === name) before.push(...withContext(graph, name, context.size));
    else before.push({ opType: "Identity", input: [`in/${name}`], output: [name] });
  }
  if (context) {
    newInputs.push(valueInfo("state/context", FLOAT, ["rows", context.size]));
    newOutputs.push(valueInfo("next/context", FLOAT, ["rows", context.size]));
  }
  for (const { name, dtype, shape } of cell.outputs) {
    need(outputs, name, "output");
    newOutputs.push(valueInfo(`out/${name}`, dtype === "int32" ? INT32 : FLOAT, ["rows", ...shape]));
    after.push({ opType: "Identity", input: [name], output: [`out/${name}`] });
  }
  graph.node = [...before, ...graph.node, ...after];
  graph.input = newInputs;
  graph.output = newOutputs;
  const rows = (name: string, shape: readonly number[]): Port => ({
    name,
    dims: (count, steps) => [count * steps, ...shape],
  });
  return {
    onnx: onnx.ModelProto.encode(model).finish(),
    inputs: cell.inputs.map(({ name, shape }) => rows(`in/${name}`, shape)),
    reads: [cell.states.map(({ name, shape }) => rows(`state/${name}`, shape))],
    writes: cell.states.map(({ name, shape }) => rows(`next/${name}`, shape)),
    outputs: cell.outputs.map(({ name, shape }) => rows(`out/${name}`, shape)),
  };
}

function decode(cell: string, bytes: Uint8Array): onnxProto.onnx.ModelProto {
  try {
    const model = onnx.ModelProto.decode(bytes);
    if (model.graph?.node?.length) return model;
  } catch (error) {
    throw new Fault("INVALID_REQUEST", `cell '${cell}': its ONNX file cannot be read: ${String(error)}`);
  }
  throw new Fault("INVALID_REQUEST", `cell '${cell}': its ONNX file has no graph`);
}

function moveAxis(input: string, output: string, from: number, to: number, rank: number): Node {
  if (from === to) return { opType: "Identity", input: [input], output: [output] };
  const perm = Array.from({ length: rank }, (_, axis) => axis).filter((axis) => axis !== from);
  perm.splice(to, 0, from);
  return { opType: "Transpose", input: [input], output: [output], attribute: attributesOf({ perm }) };
}

/** `name = [context; input]`, and the end of that is the next context. */
function withContext(graph: Graph, name: string, size: number): Node[] {
  const number = (at: string, value: number) => {
    const rawData = new Uint8Array(BigInt64Array.of(BigInt(value)).buffer);
    graph.initializer.push({ name: at, dataType: INT64, dims: [1], rawData });
    return at;
  };
  const starts = number("context/start", -size);
  const ends = number("context/end", Number.MAX_SAFE_INTEGER);
  const axes = number("context/axis", 1);
  return [
    {
      opType: "Concat",
      input: ["state/context", `in/${name}`],
      output: [name],
      attribute: attributesOf({ axis: 1 }),
    },
    { opType: "Slice", input: [name, starts, ends, axes], output: ["next/context"] },
  ];
}

/** A constant of the type that the graph declares for the input it replaces. */
function constantLike(graph: Graph, name: string, value: number): onnxProto.onnx.ITensorProto {
  const declared = graph.input?.find((input) => input.name === name)?.type?.tensorType;
  const dims = (declared?.shape?.dim ?? []).map(({ dimValue }) => Number(dimValue ?? 1));
  const dataType = declared?.elemType ?? FLOAT;
  const data =
    dataType === INT64
      ? BigInt64Array.of(BigInt(value))
      : dataType === INT32
        ? Int32Array.of(value)
        : Float32Array.of(value);
  return { name, dataType, dims, rawData: new Uint8Array(data.buffer) };
}
