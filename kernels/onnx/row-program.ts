import type onnxProto from "onnx-proto";
import type { CellSpec } from "../../src/core/cell.ts";
import type { ProgramPort, RowProgram } from "../native/program.ts";
import type { CellGraph, Port } from "./cell-graph.ts";
import { recurrenceOf } from "./recurrence-node.ts";
import { RowColumns, type RowValue } from "./row-columns.ts";
import { convolve, multiply } from "./row-products.ts";
import { step } from "./row-recurrences.ts";
import {
  joined,
  type Moved,
  picked,
  reflected,
  reshaped,
  sizeOfAll,
  sliceOf,
  transposed,
} from "./row-values.ts";
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
    return this.value(name);
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

  #numbers(name: string | undefined, missing?: readonly number[]): number[] {
    const found = this.#constant(name)?.values ?? missing;
    if (!found) throw new Unsupported(`'${name}' is not known beforehand`);
    return [...found];
  }

  #run(node: Node): readonly (RowValue | undefined)[] {
    const { opType, input = [], output = [] } = node;
    const of = decoded(node);
    const refuse = (): never => {
      throw new Unsupported(`operator ${opType} of node '${node.name || output![0]}'`);
    };
    const first = () => this.value(input![0]!);
    const axisOf = (axis: number, rank: number) => (axis < 0 ? axis + rank : axis);
    const like = (value: RowValue, dims: readonly number[]): RowValue => ({ dims, places: value.places });
    switch (opType) {
      case "Identity":
        return [first()];
      case "Transpose": {
        const value = first();
        const reversed = value.dims.map((_, axis) => value.dims.length - 1 - axis);
        return [moved(value, transposed(value.dims, of.ints("perm") ?? reversed))];
      }
      case "Reshape": {
        const value = first();
        return [like(value, reshaped(value.dims, this.#numbers(input![1])) ?? refuse())];
      }
      case "Flatten": {
        const value = first();
        const axis = axisOf(of.int("axis") ?? 1, value.dims.length);
        return [like(value, [sizeOfAll(value.dims.slice(0, axis)), sizeOfAll(value.dims.slice(axis))])];
      }
      case "Squeeze": {
        const value = first();
        const axes =
          of.ints("axes") ??
          this.#numbers(
            input![1],
            value.dims.flatMap((size, i) => (size === 1 ? [i] : [])),
          );
        const out = new Set(axes.map((axis) => axisOf(axis, value.dims.length)));
        return [
          like(
            value,
            value.dims.filter((_, axis) => !out.has(axis)),
          ),
        ];
      }
      case "Unsqueeze": {
        const value = first();
        const axes = of.ints("axes") ?? this.#numbers(input![1]);
        const rank = value.dims.length + axes.length;
        const added = axes.map((axis) => axisOf(axis, rank)).sort((a, b) => a - b);
        return [
          like(
            value,
            added.reduce((dims, axis) => dims.toSpliced(axis, 0, 1), [...value.dims]),
          ),
        ];
      }
      case "ReduceMean": {
        const value = first();
        const axes = (of.ints("axes") ?? this.#numbers(input![1])).map((axis) =>
          axisOf(axis, value.dims.length),
        );
        if (axes.some((axis) => value.dims[axis] !== 1)) return refuse();
        return [
          of.int("keepdims") === 0
            ? like(
                value,
                value.dims.filter((_, axis) => !axes.includes(axis)),
              )
            : value,
        ];
      }
      case "Concat": {
        const parts = input!.map((name) => this.value(name));
        const axis = axisOf(of.int("axis") ?? 0, parts[0]!.dims.length);
        const { dims, from } = joined(
          parts.map((part) => part.dims),
          axis,
        );
        const places = parts.flatMap((part) => part.places);
        return [{ dims, places: from.map((at) => places[at]!) }];
      }
      case "Gather": {
        const value = first();
        const at = this.#constant(input![1]);
        if (!at || at.dims.length > 1) return refuse();
        const axis = axisOf(of.int("axis") ?? 0, value.dims.length);
        const indices = [...at.values].map((index) => axisOf(index, value.dims[axis]!));
        if (indices.some((index) => index < 0 || index >= value.dims[axis]!)) return refuse();
        return [moved(value, picked(value.dims, axis, indices, at.dims.length === 0 ? "nothing" : "axis"))];
      }
      case "Slice": {
        let value = first();
        const [starts, ends] = [this.#numbers(input![1]), this.#numbers(input![2])];
        const axes = this.#numbers(
          input![3],
          starts.map((_, i) => i),
        );
        const steps = this.#numbers(
          input![4],
          starts.map(() => 1),
        );
        axes.forEach((given, i) => {
          const axis = axisOf(given, value.dims.length);
          const indices = sliceOf(value.dims[axis]!, starts[i]!, ends[i]!, steps[i]!) ?? refuse();
          value = moved(value, picked(value.dims, axis, indices, "axis"));
        });
        return [value];
      }
      case "Split": {
        const value = first();
        const axis = axisOf(of.int("axis") ?? 0, value.dims.length);
        const even = output!.map(() => value.dims[axis]! / output!.length);
        let begin = 0;
        return this.#numbers(input![1], even).map((length) => {
          const indices = Array.from({ length }, (_, i) => begin + i);
          begin += length;
          return moved(value, picked(value.dims, axis, indices, "axis"));
        });
      }
      case "Pad": {
        let value = first();
        if (of.text("mode") !== "reflect") return refuse();
        const pads = this.#numbers(input![1]);
        const rank = value.dims.length;
        for (let axis = 0; axis < rank; axis++) {
          const indices = reflected(value.dims[axis]!, pads[axis]!, pads[axis + rank]!) ?? refuse();
          value = moved(value, picked(value.dims, axis, indices, "axis"));
        }
        return [value];
      }
      case "Relu":
        return [this.#columns.each("relu", first())];
      case "Sigmoid":
        return [this.#columns.each("sigmoid", first())];
      case "Tanh":
        return [this.#columns.each("tanh", first())];
      case "Sqrt":
        return [this.#columns.each("root", first())];
      case "Pow":
        if (String(this.#constant(input![1])?.values) !== "2") return refuse();
        return [this.#columns.each("square", first())];
      case "Add":
      case "Sub":
      case "Mul": {
        const [a, b] = [first(), this.value(input![1]!)];
        if (String(a.dims) !== String(b.dims)) return refuse();
        if (opType === "Mul") return [this.#columns.each("multiply", a, b)];
        return [this.#columns.each("add", a, b, Float32Array.of(opType === "Add" ? 1 : -1))];
      }
      case "Gemm":
      case "MatMul": {
        const [weights, bias] = [this.#constant(input![1]), this.#constant(input![2])];
        if (!weights || (input![2] && !bias)) return refuse();
        return [multiply(this.#columns, node, first(), weights, bias) ?? refuse()];
      }
      case "Conv":
        return [convolve(this.#columns, node, first(), (name) => this.#constant(name)) ?? refuse()];
      case "LSTM":
      case "GRU": {
        const recurrence = recurrenceOf(node, (name) => this.#constant(name)) ?? refuse();
        const { x, h, c } = recurrence;
        const given = { x: this.value(x), h: this.value(h), c: c === undefined ? c : this.value(c) };
        return step(this.#columns, recurrence, given) ?? refuse();
      }
      default:
        return refuse();
    }
  }
}

function moved({ places }: RowValue, { dims, from }: Moved): RowValue {
  return { dims, places: from.map((at) => places[at]!) };
}
