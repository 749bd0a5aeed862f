import { Fault } from "../../../src/core/faults.ts";
import type { Collect } from "../../definition.ts";
import type { CellManifest, Manifest } from "../../manifest.ts";
import { type WrittenTensor, writeSafetensors } from "../../write-safetensors.ts";
import { Uncuttable } from "./faults.ts";
import type { OnnxFile, Port } from "./file.ts";
import { labellings, type Role, roleOf } from "./labels.ts";
import type { OnnxImportOptions } from "./options.ts";
import { type PlainCell, plainCell, plainManifest } from "./plain-cell.ts";
import { type CellPlan, type LayerPlan, type Plan, planCells, withoutDirections } from "./plan.ts";
import { isRecurrent } from "./recurrence.ts";
import { checkStatePairs, findStatePairs } from "./state-pairs.ts";
import { elementType } from "./tensor.ts";
import { constantsFor, nodesFor, TraceStopped, trace } from "./trace.ts";
import type { Value } from "./values.ts";
import { writeCell } from "./write-cell.ts";

/** Cells and program of a model that was cut, and the files that hold the cells. */
export interface CutModel {
  readonly cells: readonly CellManifest[];
  readonly program: Manifest["program"];
  readonly files: Map<string, Uint8Array>;
  readonly notes: readonly string[];
}

/** Cuts a graph over whole sequences at its recurrent nodes. Throws `Uncuttable` with the node where that fails. */
export function cutSequenceModel(file: OnnxFile, options: OnnxImportOptions): CutModel {
  const notes: string[] = [];
  const ports = file.inputs.map((port) => ({
    ...withShape(file, port, options),
    role: roleOf(file, port.name),
  }));
  const pairs = options.states
    ? checkStatePairs(options.states, file.inputs, file.outputs)
    : findStatePairs(
        ports.filter(({ role }) => role === "state"),
        file.outputs,
      );
  const wanted = outputsOf(
    file,
    pairs.map(({ output }) => output),
    options,
  );
  const nodes = nodesFor(file, wanted);
  if (!nodes.some(({ op }) => isRecurrent(op)))
    throw new Uncuttable("no node LSTM, GRU or RNN leads to its outputs");
  const taken = new Set(nodes.flatMap((node) => node.inputs).concat(wanted));
  const used = ports.filter(({ name }) => taken.has(name));
  for (const port of used) noteRole(port, pairs.find(({ input }) => input === port.name)?.output, notes);
  if (used.some(({ type }) => elementType(type) === "float32" && type !== 1)) {
    notes.push("its other kinds of floats are computed as float32");
  }
  const { plan, flat } = tryLabellings(file, { nodes, used, wanted });
  for (const name of flat)
    notes.push(`output '${name}' comes without an axis of directions, one after the other`);
  return { ...written(file, plan, options, notes), notes };
}

function outputsOf(
  file: OnnxFile,
  states: readonly string[],
  { outputs }: OnnxImportOptions,
): readonly string[] {
  const all = file.outputs.map(({ name }) => name);
  const unknown = outputs?.find((name) => !all.includes(name));
  if (unknown !== undefined) {
    throw new Fault("INVALID_REQUEST", `the graph has no output '${unknown}', it has '${all.join("', '")}'`);
  }
  if (outputs) return outputs;
  const others = all.filter((name) => !states.includes(name));
  return others.length > 0 ? others : all;
}

/** An input whose open axes were given, or follow from the weights of the recurrent node that takes it. */
function withShape(file: OnnxFile, port: Port, { shapes = {} }: OnnxImportOptions): Port {
  const { name, shape } = port;
  const own = Object.hasOwn(shapes, name) ? shapes[name] : undefined;
  if (own && shape) {
    // One row at one step has the last axes of the tensor.
    const first = shape.length - own.length;
    if (first < 0)
      throw new Fault(
        "INVALID_REQUEST",
        `input '${name}' has ${shape.length} axes, its shape was given with ${own.length}`,
      );
    return { ...port, shape: shape.map((size, i) => (i < first ? size : own[i - first]!)) };
  }
  const taker = file.nodes.find(({ op, inputs }) => isRecurrent(op) && inputs[0] === name);
  const width = Number(file.constants.get(taker?.inputs[1] ?? "")?.dims?.[2] ?? 0);
  if (!shape && taker && width > 0) return { ...port, shape: ["", "", width] };
  return width > 0 && shape?.length === 3 && typeof shape[2] === "string"
    ? { ...port, shape: shape.with(2, width) }
    : port;
}

function noteRole(
  { name, role }: Port & { readonly role: Role },
  next: string | undefined,
  notes: string[],
): void {
  if (role === "lengths") notes.push(`input '${name}' falls away: a request is as long as its steps`);
  if (role !== "state") return;
  if (next === undefined) {
    throw new Uncuttable(
      `input '${name}' is an initial state that no output goes on with, so requests cannot begin from zeros`,
    );
  }
  notes.push(
    `input '${name}' falls away: requests begin with zeros and keep the state that '${next}' would give`,
  );
}

function tryLabellings(
  file: OnnxFile,
  {
    nodes,
    used,
    wanted,
  }: {
    readonly nodes: ReturnType<typeof nodesFor>;
    readonly used: readonly (Port & { readonly role: Role })[];
    readonly wanted: readonly string[];
  },
): { readonly plan: Plan; readonly flat: readonly string[] } {
  for (const { name, type, shape } of used) {
    if (!elementType(type)) throw new Uncuttable(`input '${name}' has type ${type}, which cells do not take`);
    if (!shape) throw new Uncuttable(`input '${name}' has no shape in the file`);
  }
  const fromInputs = new Set(used.map(({ name }) => name));
  const moving = nodes.filter(({ inputs, outputs }) => {
    const moves = inputs.some((name) => fromInputs.has(name));
    if (moves) for (const name of outputs) fromInputs.add(name);
    return moves;
  });
  const moves = new Set(moving);
  const known = trace(
    file,
    nodes.filter((node) => !moves.has(node)),
    constantsFor(file, nodes),
    {},
  );
  let best: { readonly passed: number; readonly error: Uncuttable } | undefined;
  for (const { inputs, fixed } of labellings(used)) {
    try {
      const values = trace(file, moving, new Map([...known, ...inputs]), fixed);
      const traced = wanted.map((name) => ({ name, expression: expressionOf(name, values.get(name)) }));
      const outputs = traced.map(({ name, expression }) => ({
        name,
        expression: withoutDirections(expression),
      }));
      const flat = wanted.filter((_, i) => outputs[i]!.expression !== traced[i]!.expression);
      return { plan: planCells(outputs), flat };
    } catch (error) {
      if (!(error instanceof Uncuttable)) throw error;
      const passed = error instanceof TraceStopped ? error.passed : moving.length;
      if (!best || passed > best.passed) best = { passed, error };
    }
  }
  if (best) throw best.error;
  const open = used
    .map(({ name, shape }) => `'${name}' [${shape!.map((size) => size || "?").join(", ")}]`)
    .join(", ");
  throw new Uncuttable(`the inputs ${open} leave more axes open than steps and rows: give \`shapes\``);
}

function expressionOf(name: string, value: Value | undefined) {
  if (value?.kind === "tensor") return value.expression;
  throw new Uncuttable(`output '${name}' is no tensor of values`);
}

/** Writes the cells of a plan, those of a layer all plain or all as graphs. */
function written(
  file: OnnxFile,
  plan: Plan,
  options: OnnxImportOptions,
  notes: string[],
): Pick<CutModel, "cells" | "program" | "files"> {
  const cells: CellManifest[] = [];
  const files = new Map<string, Uint8Array>();
  const tensors = new Map<string, WrittenTensor>();
  const renamed = new Map<string, string>();
  let hidden: number | undefined;
  const add = (group: readonly CellPlan[], isLast: boolean): void => {
    const plain = group.map(plainCell);
    const from = group[0]!.inputs[0]?.expression;
    const given = namesOf(group[0]!.outputs);
    // What has one name in a layer is merged, so cells may only share names where they share values.
    const isShared = group.every(
      ({ inputs, outputs }) => inputs[0]?.expression === from && namesOf(outputs) === given,
    );
    if (isShared && plain.every((one) => one !== undefined) && isAlike(plain, hidden, isLast)) {
      hidden = plain[0]!.hidden;
      plain.forEach((one, i) => {
        cells.push(plainManifest(one, WEIGHTS));
        for (const [name, tensor] of one.tensors) tensors.set(`${one.name}.${name}`, tensor);
        noteNames(group[i]!, one, { renamed, notes, isLast, isFirst: cells.length === 1 });
      });
      return;
    }
    for (const one of group) {
      const { cell, onnx } = writeCell(one, file.opset);
      cells.push(cell);
      files.set(cell.file, onnx);
    }
  };
  if (plan.kind === "chain") add([plan.cell], true);
  else {
    plan.layers.forEach((layer, i) => add(cellsOf(layer), i === plan.layers.length - 1));
    if (plan.head) {
      const inputs = plan.head.inputs.map(({ name, expression }) => ({
        name: renamed.get(name) ?? name,
        expression,
      }));
      add([{ ...plan.head, inputs }], false);
    }
  }
  if (tensors.size > 0) files.set(WEIGHTS, writeSafetensors(tensors));
  return { cells, files, program: programOf(plan, renamed, options) };
}

const WEIGHTS = "weights.safetensors";

function namesOf(outputs: readonly { readonly name: string }[]): string {
  return JSON.stringify(outputs.map(({ name }) => name));
}

function cellsOf({ forward, backward }: LayerPlan): CellPlan[] {
  return [forward, backward].filter((cell) => cell !== undefined);
}

/** Whether plain cells can make up a layer: alike in names, and with the state sizes that all plain cells share. */
function isAlike(plain: readonly PlainCell[], hidden: number | undefined, isLast: boolean): boolean {
  const [first] = plain;
  const names = first!.outputs.join(" ");
  return plain.every(
    (one) =>
      one.hidden === (hidden ?? first!.hidden) &&
      one.input === first!.input &&
      one.outputs.join(" ") === names &&
      (isLast || one.outputs.length === 1),
  );
}

function noteNames(
  plan: CellPlan,
  plain: PlainCell,
  {
    renamed,
    notes,
    isLast,
    isFirst,
  }: {
    readonly renamed: Map<string, string>;
    readonly notes: string[];
    readonly isLast: boolean;
    readonly isFirst: boolean;
  },
): void {
  const given = plan.inputs[0]!.name;
  if (isFirst && given !== plain.input) notes.push(`input '${given}' is called '${plain.input}'`);
  if (!isLast) return;
  plan.outputs.forEach(({ name }, i) => {
    const to = plain.outputs[i]!;
    if (renamed.has(name) || name === to) return;
    renamed.set(name, to);
    notes.push(`output '${name}' is called '${to}'`);
  });
}

function programOf(
  plan: Plan,
  renamed: ReadonlyMap<string, string>,
  { program }: OnnxImportOptions,
): Manifest["program"] {
  if (plan.kind === "chain") {
    const cell = plan.cell.name;
    if (program !== "session") return { kind: "chain", cell, collect: plan.collect };
    if (plan.collect === "all") return { kind: "session", cell };
  }
  if (program === "session") {
    throw new Fault("INVALID_REQUEST", "this model needs the whole sequence, so it cannot be a session");
  }
  const { layers, collect, head } = plan as Extract<Plan, { kind: "layers" }>;
  const named: Collect | Record<string, Collect> =
    typeof collect === "string"
      ? collect
      : Object.fromEntries(Object.entries(collect).map(([name, how]) => [renamed.get(name) ?? name, how]));
  return {
    kind: "layers",
    layers: layers.map(({ forward, backward }) => ({
      ...(forward ? { forward: forward.name } : {}),
      ...(backward ? { backward: backward.name } : {}),
      merge: "concat",
    })),
    collect: named,
    ...(head ? { head: head.name } : {}),
  };
}
