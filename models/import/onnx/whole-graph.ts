import { Fault } from "../../../src/core/faults.ts";
import type { CellManifest, Manifest } from "../../manifest.ts";
import type { OnnxFile, Port } from "./file.ts";
import type { OnnxImportOptions } from "./options.ts";
import { RowsFirst } from "./rows-first.ts";

type OnnxCell = Extract<CellManifest, { kind: "onnx" }>;

/** A graph that is served as it is, and the program that runs it. */
export interface WholeGraph {
  readonly cell: OnnxCell;
  readonly program: Manifest["program"];
  readonly onnx: Uint8Array;
  readonly notes: readonly string[];
}

/** Takes a graph over whole requests. Throws INVALID_REQUEST where its axis of rows is not known. */
export function takeWholeGraph(file: OnnxFile, options: OnnxImportOptions): WholeGraph {
  const graph = new RowsFirst(file, options, { openShapes: true });
  const { constants = {} } = options;
  for (const name of Object.keys(constants)) graph.find(file.inputs, name, "input");
  const inputs = file.inputs
    .filter(({ name }) => !Object.hasOwn(constants, name))
    .map((port) => ({ port, spec: graph.input(port) }));
  if (inputs.length === 0) throw new Fault("INVALID_REQUEST", "the graph has no inputs");
  const wanted = options.outputs ?? file.outputs.map(({ name }) => name);
  const outputs = wanted.map((name) => graph.output(graph.find(file.outputs, name, "output")));
  const lengths = inputs.find(({ port, spec }) => LENGTHS.test(port.name) && spec.shape.length === 0);
  const mask = inputs.find(({ port, spec }) => MASK.test(port.name) && isOpen(spec.shape));
  const notes = [...graph.notes];
  const made = (one: { readonly port: Port } | undefined, what: string) => {
    if (one) notes.push(`input '${one.port.name}' is filled with ${what}`);
  };
  made(lengths, "each request's steps");
  made(mask, "1 where a request has a step, 0 behind");
  const cell: OnnxCell = {
    name: "graph",
    kind: "onnx",
    file: "graph.onnx",
    inputs: inputs.map(({ spec }) => spec),
    outputs,
    states: [],
    constants: { ...constants },
  };
  const program: Manifest["program"] = {
    kind: "graph",
    cell: "graph",
    ...(lengths ? { lengths: lengths.port.name } : {}),
    ...(mask ? { mask: mask.port.name } : {}),
    pad: {},
    order: "oldest",
    eager: true,
    buffers: [{ maxBatch: 64, timeoutMs: 5 }],
  };
  return { cell, program, onnx: graph.encode(), notes };
}

const isOpen = (shape: readonly number[]) => shape.length === 1 && shape[0] === -1;

/** What exporters call the inputs that say where a row's padding begins. */
const LENGTHS = /len(gth)?s?$/i;
const MASK = /mask/i;
