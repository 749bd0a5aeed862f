import onnxProto from "onnx-proto";
import { Fault } from "../../../src/core/faults.ts";
import type { CellManifest } from "../../manifest.ts";
import { type Graph, nodesOf, type OnnxFile, type Port } from "./file.ts";
import { isBatchName } from "./labels.ts";
import type { OnnxImportOptions } from "./options.ts";
import { elementType } from "./tensor.ts";

const { onnx } = onnxProto;
const { DataType } = onnx.TensorProto;
const { AttributeType } = onnx.AttributeProto;
type OnnxCell = Extract<CellManifest, { kind: "onnx" }>;

/**
 * A graph that is changed, input by input and output by output, until its rows lie along the first axis and its values are
 * float32 or int32.
 */
export class RowsFirst {
  readonly notes: string[] = [];
  readonly #file: OnnxFile;
  readonly #options: OnnxImportOptions;
  readonly #graph: Graph & { node: onnxProto.onnx.INodeProto[] };
  #isChanged = false;

  readonly #openShapes: boolean;

  /** `openShapes`: whether axes besides that of the rows may be open; they become -1. */
  constructor(file: OnnxFile, options: OnnxImportOptions, { openShapes = false } = {}) {
    this.#file = file;
    this.#options = options;
    this.#openShapes = openShapes;
    this.#graph = file.model.graph as Graph & { node: onnxProto.onnx.INodeProto[] };
  }

  find(ports: readonly Port[], name: string, what: string): Port {
    const found = ports.find((port) => port.name === name);
    if (found) return found;
    const names = ports.map((port) => `'${port.name}'`).join(", ");
    throw new Fault("INVALID_REQUEST", `the graph has no ${what} '${name}', it has ${names}`);
  }

  state(input: string, output: string): OnnxCell["states"][number] {
    const from = this.find(this.#file.inputs, input, "input");
    const to = this.find(this.#file.outputs, output, "output");
    const batchAxis = this.#batchAxis(from);
    const shape = this.#rowShape(from, batchAxis, to);
    this.#takes(from, DataType.FLOAT, 0);
    this.#gives(to, DataType.FLOAT, 0);
    return { input, output, shape, batchAxis };
  }

  input(port: Port): OnnxCell["inputs"][number] {
    if (port.shape?.every((size) => size === 1)) {
      const why =
        "is one number for all rows: give its value in `constants`, or its axis of rows in `batchAxes`";
      if (!Object.hasOwn(this.#options.batchAxes ?? {}, port.name)) {
        throw new Fault("INVALID_REQUEST", `input '${port.name}' ${why}`);
      }
    }
    const batchAxis = this.#batchAxis(port);
    const shape = this.#rowShape(port, batchAxis);
    const dtype = outerType(port);
    this.#takes(port, dtype === "float32" ? DataType.FLOAT : DataType.INT32, batchAxis);
    return { name: port.name, dtype, shape };
  }

  output(port: Port): OnnxCell["outputs"][number] {
    const batchAxis = this.#batchAxis(port);
    const shape = this.#rowShape(port, batchAxis);
    const dtype = outerType(port);
    this.#gives(port, dtype === "float32" ? DataType.FLOAT : DataType.INT32, batchAxis);
    return { name: port.name, dtype, shape };
  }

  encode(): Uint8Array {
    const bytes = onnx.ModelProto.encode(this.#file.model).finish();
    if (this.#isChanged)
      this.notes.push("nodes were added at its inputs and outputs: rows first, float32 and int32");
    return bytes;
  }

  #batchAxis({ name, shape }: Port): number {
    const given = this.#options.batchAxes;
    const rank = shape?.length;
    if (given && Object.hasOwn(given, name)) {
      const axis = given[name]!;
      if (Number.isInteger(axis) && axis >= 0 && axis < (rank ?? axis + 1)) return axis;
      throw new Fault("INVALID_REQUEST", `'${name}' has ${rank} axes, so axis ${axis} cannot hold the rows`);
    }
    if (!shape)
      throw new Fault(
        "INVALID_REQUEST",
        `'${name}' has no shape in the file: name its axis of rows in \`batchAxes\``,
      );
    const called = shape.findIndex((size) => typeof size === "string" && isBatchName(size));
    const open = called >= 0 ? called : shape.findIndex((size) => typeof size === "string");
    if (open >= 0) return open;
    const said = `'${name}' of shape [${shape.join(", ")}] has no open axis for rows`;
    throw new Fault(
      "INVALID_REQUEST",
      `${said}: the graph may be fixed to them; if not, name the axis in \`batchAxes\``,
    );
  }

  #rowShape({ name, shape }: Port, batchAxis: number, other?: Port): number[] {
    const given = this.#options.shapes;
    if (given && Object.hasOwn(given, name)) return [...given[name]!];
    const row = (shape ?? [undefined]).map((size, i) => {
      if (typeof size === "number") return size;
      const also = other?.shape?.[i];
      if (typeof also === "number") return also;
      return this.#openShapes ? -1 : undefined;
    });
    row.splice(batchAxis, 1);
    if (shape && row.every((size) => size !== undefined)) return row;
    const said = shape ? `'${name}' of shape [${shape.map((size) => size || "?").join(", ")}]` : `'${name}'`;
    throw new Fault("INVALID_REQUEST", `${said} leaves the shape of a row open: give it in \`shapes\``);
  }

  /** Lets an input be given with another type and with its rows first. */
  #takes({ name, type }: Port, given: number, batchAxis: number): void {
    const declared = this.#graph.input!.find((port) => port.name === name)!;
    const rank = declared.type?.tensorType?.shape?.dim?.length ?? 0;
    if (type === given && batchAxis === 0) return;
    const inner = this.#rename(name);
    const moved = batchAxis === 0 ? name : `${inner}/rows`;
    this.#graph.node.unshift(castNode(moved, inner, type));
    if (batchAxis !== 0) this.#graph.node.unshift(moveAxis(name, moved, 0, batchAxis, rank));
    declared.type!.tensorType!.elemType = given;
    delete declared.type!.tensorType!.shape;
    this.#isChanged = true;
  }

  /** Lets an output be given with another type and with its rows first. */
  #gives({ name, type }: Port, wanted: number, batchAxis: number): void {
    const declared = this.#graph.output!.find((port) => port.name === name)!;
    const rank = declared.type?.tensorType?.shape?.dim?.length ?? 0;
    if (type === wanted && batchAxis === 0) return;
    const inner = this.#rename(name);
    const cast = `${inner}/cast`;
    this.#graph.node.push(castNode(inner, batchAxis === 0 ? name : cast, wanted));
    if (batchAxis !== 0) this.#graph.node.push(moveAxis(cast, name, batchAxis, 0, rank));
    declared.type!.tensorType!.elemType = wanted;
    delete declared.type!.tensorType!.shape;
    this.#isChanged = true;
  }

  /** Gives a value another name wherever nodes take or give it. */
  #rename(name: string): string {
    const inner = `${name}/inner`;
    const swap = (names: string[] | null | undefined) =>
      names?.map((one) => (one === name ? inner : one)) ?? [];
    for (const node of nodesOf(this.#graph)) {
      node.input = swap(node.input);
      node.output = swap(node.output);
    }
    return inner;
  }
}

function outerType({ name, type }: Port): "float32" | "int32" {
  const known = elementType(type);
  if (!known) throw new Fault("INVALID_REQUEST", `'${name}' has type ${type}, which cells do not take`);
  return known === "float32" ? "float32" : "int32";
}

function castNode(input: string, output: string, type: number): onnxProto.onnx.INodeProto {
  return {
    opType: "Cast",
    input: [input],
    output: [output],
    attribute: [{ name: "to", type: AttributeType.INT, i: type }],
  };
}

function moveAxis(
  input: string,
  output: string,
  from: number,
  to: number,
  rank: number,
): onnxProto.onnx.INodeProto {
  const perm = Array.from({ length: rank }, (_, axis) => axis).filter((axis) => axis !== from);
  perm.splice(to, 0, from);
  return {
    opType: "Transpose",
    input: [input],
    output: [output],
    attribute: [{ name: "perm", type: AttributeType.INTS, ints: perm }],
  };
}
