import type { FixedLengths } from "./axes.ts";
import { constantOf } from "./expression.ts";
import { refuse, Uncuttable } from "./faults.ts";
import type { FileNode, OnnxFile } from "./file.ts";
import { recurrenceRules } from "./recurrence.ts";
import { elementwiseRules } from "./rules-elementwise.ts";
import { productRules } from "./rules-product.ts";
import { selectRules } from "./rules-select.ts";
import { shapeRules } from "./rules-shape.ts";
import { asSizes, shapeRule, sizeRules } from "./rules-sizes.ts";
import { readTensor } from "./tensor.ts";
import { type Call, type Rule, type Traced, traced, type Value } from "./values.ts";

const RULES: ReadonlyMap<string, Rule> = new Map(
  Object.entries({
    Shape: shapeRule,
    ...elementwiseRules,
    ...shapeRules,
    ...selectRules,
    ...productRules,
    ...recurrenceRules,
  }),
);

/** Operators that leave lengths of sequences what they are. */
const KEEPS_LENGTHS = new Set(["Cast", "Identity", "Squeeze", "Unsqueeze", "Reshape"]);

/** Inputs that an operator cannot be without, where that is not one. */
const LEAST_INPUTS: ReadonlyMap<string, number> = new Map([
  ["Constant", 0],
  ...(
    "Add And Conv Div Equal Expand Gather Gemm Greater GreaterOrEqual LayerNormalization Less LessOrEqual MatMul Mod Mul " +
    "Or PRelu Pow Reshape Sub Xor"
  )
    .split(" ")
    .map((op) => [op, 2] as const),
  ...["GRU", "LSTM", "OneHot", "RNN", "Where"].map((op) => [op, 3] as const),
  ["BatchNormalization", 5],
]);

/** Most values that all computed constants together may have beyond those of the file. */
const MAX_COMPUTED = 2 ** 26;

/** A graph that could not be walked through, and how far it went. */
export class TraceStopped extends Uncuttable {
  /** Nodes that were passed. */
  readonly passed: number;

  constructor(why: string, passed: number) {
    super(why);
    this.passed = passed;
  }
}

/** The nodes that some values need, in the order of the file. */
export function nodesFor(file: OnnxFile, wanted: Iterable<string>): FileNode[] {
  const needed = new Set(wanted);
  const nodes: FileNode[] = [];
  for (const node of file.nodes.toReversed()) {
    if (!node.outputs.some((name) => needed.has(name))) continue;
    nodes.push(node);
    for (const name of node.inputs) needed.add(name);
  }
  return nodes.reverse();
}

/** The constants of the file that nodes take. */
export function constantsFor(file: OnnxFile, nodes: readonly FileNode[]): Map<string, Value> {
  const values = new Map<string, Value>();
  for (const name of nodes.flatMap(({ inputs }) => inputs)) {
    const stored = values.has(name) ? undefined : file.constants.get(name);
    const constant = stored && readTensor(stored);
    if (constant) values.set(name, traced(constant.dims, constantOf(constant)));
  }
  return values;
}

/** Walks through nodes with what is known of constants and of the graph's inputs. Throws `TraceStopped` where one mixes steps or rows. */
export function trace(
  { opset }: OnnxFile,
  nodes: readonly FileNode[],
  inputs: ReadonlyMap<string, Value>,
  fixed: FixedLengths,
): Map<string, Value> {
  const values = new Map(inputs);
  let budget = MAX_COMPUTED;
  for (const value of inputs.values()) if (value.kind === "tensor") budget += 4 * computed(value);
  nodes.forEach((node, passed) => {
    try {
      const given = node.inputs.map((name) => (name === "" ? undefined : values.get(name)));
      const lost = node.inputs.find((name, i) => name !== "" && given[i] === undefined);
      if (lost !== undefined)
        throw new Uncuttable(`takes '${lost}' of a type that cells do not compute with`);
      const results = apply({ node, inputs: trimmed(given), opset, fixed });
      node.outputs.forEach((name, i) => {
        const result = results[i];
        if (name === "") return;
        if (!result) throw new Uncuttable(`has no rule for its output '${name}'`);
        budget -= result.kind === "tensor" ? computed(result) : 0;
        values.set(name, result);
      });
    } catch (error) {
      if (!(error instanceof Uncuttable)) throw error;
      throw new TraceStopped(`node '${node.name}' (${node.op}) ${error.message}`, passed);
    }
    if (budget < 0) throw refuse(`node '${node.name}' (${node.op}) computes too many constant values`);
  });
  return values;
}

function apply(call: Call): readonly Value[] {
  const { node, inputs } = call;
  if (node.domain !== "")
    throw new Uncuttable(`is of domain '${node.domain}', whose operators are not known`);
  const least = LEAST_INPUTS.get(node.op) ?? 1;
  for (let i = 0; i < least; i++) if (!inputs[i]) throw new Uncuttable(`lacks input ${i}`);
  const [first] = inputs;
  if (first?.kind === "lengths" && KEEPS_LENGTHS.has(node.op)) return [first];
  const all = sizeRules[node.op] && asSizes(call);
  if (all) return [sizeRules[node.op]!(call, all)];
  const rule = RULES.get(node.op);
  if (!rule) throw new Uncuttable("is not known to act on each step alone");
  return rule(call);
}

/** Without inputs that are left out at the end. */
function trimmed(inputs: readonly (Value | undefined)[]): (Value | undefined)[] {
  const last = inputs.findLastIndex((value) => value !== undefined);
  return inputs.slice(0, last + 1);
}

function computed({ expression }: Traced): number {
  return expression.kind === "constant" ? expression.constant.data.length : 0;
}
