import type { CellManifest, Manifest } from "../../manifest.ts";
import { Uncuttable } from "./faults.ts";
import type { OnnxFile, Port } from "./file.ts";
import type { OnnxImportOptions } from "./options.ts";
import { RowsFirst } from "./rows-first.ts";
import { checkStatePairs, findStatePairs } from "./state-pairs.ts";

type OnnxCell = Extract<CellManifest, { kind: "onnx" }>;

/** A step graph as a cell of its own, and the program that runs it. */
export interface StepModel {
  readonly cell: OnnxCell;
  readonly program: Manifest["program"];
  readonly onnx: Uint8Array;
  readonly notes: readonly string[];
}

/** Takes a graph that computes one step. Throws `Uncuttable` where it has no states, INVALID_REQUEST where options lack. */
export function takeStepModel(file: OnnxFile, options: OnnxImportOptions): StepModel {
  const pairs = options.states
    ? checkStatePairs(options.states, file.inputs, file.outputs)
    : findStatePairs(file.inputs, file.outputs);
  if (pairs.length === 0) {
    const names = (ports: readonly Port[]) => ports.map(({ name }) => `'${name}'`).join(", ");
    const loop = file.nodes.find(({ op }) => op === "Loop" || op === "Scan");
    const where = loop ? `node '${loop.name}' (${loop.op}) is not cut into steps, and ` : "";
    throw new Uncuttable(
      `${where}no input is named like an output that could be its next value: inputs ${names(file.inputs)}, outputs ${names(file.outputs)}`,
    );
  }
  const taken = new Set(pairs.flatMap(({ input, output }) => [input, output]));
  const { constants = {} } = options;
  const step = new RowsFirst(file, options);
  for (const name of Object.keys(constants)) step.find(file.inputs, name, "input");
  const given = file.inputs.filter(({ name }) => !taken.has(name) && !Object.hasOwn(constants, name));
  const wanted = options.outputs ?? file.outputs.map(({ name }) => name).filter((name) => !taken.has(name));
  if (given.length === 0) throw new Uncuttable("it has no inputs but its states");
  if (wanted.length === 0) throw new Uncuttable("it has no outputs but its states");
  const states = pairs.map(({ input, output }) => step.state(input, output));
  const inputs = given.map((port) => step.input(port));
  const outputs = wanted.map((name) => step.output(step.find(file.outputs, name, "output")));
  const { context, program = "session" } = options;
  const cell: OnnxCell = {
    name: "step",
    kind: "onnx",
    file: "step.onnx",
    inputs,
    outputs,
    states,
    constants: { ...constants },
    ...(context ? { context } : {}),
  };
  const runs: Manifest["program"] =
    program === "session"
      ? { kind: "session", cell: "step" }
      : { kind: "chain", cell: "step", collect: "all" };
  return { cell, program: runs, onnx: step.encode(), notes: step.notes };
}
