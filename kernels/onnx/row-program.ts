import type onnxProto from "onnx-proto";
import type { CellSpec } from "../../src/core/cell.ts";
import type { ProgramPort, RowProgram } from "../native/program.ts";
import type { CellGraph, Port } from "./cell-graph.ts";
import type { Call } from "./row-call.ts";
import { RowColumns, type RowValue } from "./row-columns.ts";
import { operators } from "./row-operators.ts";
import { sizeOfAll } from "./row-values.ts";
import { type Constant, constantsOf, decoded } from "./tensors.ts";

type Node = onnxProto.onnx.INodeProto;

/**
 * A step graph as a program for the native addon: what goes into each output is followed back to the inputs for one row, what only
 * moves elements becomes places, and the rest operations. Answers why not, where the graph has an operator that is none of those.
 * That rows do not mix is not seen here: the caller compares with the graph.
 */
export function rowProgram(
  model: onnxProto.onnx.ModelProto,
  cell: CellSpec,
  graph: CellGraph,
): RowProgram | string {
  if (cell.inputs.some(({ dtype }) => dtype !== "float32")) return "its input is not float32";
  if (cell.outputs.some(({ dtype }) => dtype !== "float32")) return "its output is not float32";
  const columns = new RowColumns();
  const trace = new Trace(model.graph!, columns);
  const size = (port: Port) => sizeOfAll(port.dims(1, 1));
  const inputs = [...graph.inputs, ...graph.reads.flat()].map((port): ProgramPort => {
    const [width, dims] = [size(port), port.dims(1, 1)];
    const column = columns.take(width);
    trace.give(port.name, { dims, places: Array.from({ length: width }, (_, i) => column + i) });
    return { name: port.name, column, width };
  });
  try {
    const names = new Map([...graph.writes, ...graph.outputs].map((port) => [port.name, size(port)]));
    const outputs = [...names].map(([name, width]): ProgramPort => {
      const { places } = trace.value(name);
      if (places.length !== width) throw new Unsupported(`'${name}' has ${places.length} values`);
      return { name, column: columns.sideBySide(places), width };
    });
    return columns.program(inputs, outputs);
  } catch (error) {
    if (error instanceof Unsupported) return error.message;
    throw error;
  }
}

class Unsupported extends Error {}

/** Follows values of one row through a graph. */
class Trace {
  readonly #columns: RowColumns;
  readonly #producers = new Map<string, Node>();
  readonly #constants: ReadonlyMap<string, Constant>;
  readonly #values = new Map<string, RowValue>();

  constructor(graph: onnxProto.onnx.IGraphProto, columns: RowColumns) {
    this.#columns = columns;
    this.#constants = constantsOf(graph);
    for (const node of graph.node ?? []) for (const name of node.output!) this.#producers.set(name, node);
  }

  give(name: string, value: RowValue): void {
    this.#values.set(name, value);
  }

  value(name: string): RowValue {
    const known = this.#values.get(name);
    if (known) return known;
    const node = this.#producers.get(name);
    if (!node) throw new Unsupported(`'${name}' is no value of a row`);
    const made = this.#run(node);
    node.output!.forEach((output, i) => {
      if (made[i]) this.give(output, made[i]);
    });
    return this.#values.get(name) ?? this.#refuse(node);
  }

  #constant(name: string | undefined): Constant | undefined {
    if (!name) return undefined;
    const known = this.#constants.get(name);
    if (known) return known;
    const node = this.#producers.get(name);
    // Shapes are what is left of folding; of one row they are known.
    if (node?.opType !== "Shape") return undefined;
    const { dims } = this.value(node.input![0]!);
    return { dims: [dims.length], values: Float64Array.from(dims) };
  }

  #run(node: Node): readonly RowValue[] {
    const { opType, input = [] } = node;
    const call: Call = {
      node,
      of: decoded(node),
      columns: this.#columns,
      value: (at) => this.value(input![at]!),
      named: (name) => this.value(name),
      constant: (name) => this.#constant(name),
      numbers: (at, missing) => {
        const found = this.#constant(input![at])?.values ?? missing;
        if (!found) throw new Unsupported(`'${input![at]}' is not known beforehand`);
        return [...found];
      },
    };
    return operators[opType!]?.(call) ?? this.#refuse(node);
  }

  #refuse({ opType, name, output }: Node): never {
    throw new Unsupported(`operator ${opType} of node '${name || output![0]}'`);
  }
}
