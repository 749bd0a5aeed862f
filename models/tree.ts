import { Fault } from "../src/core/faults.ts";
import type { Tensor } from "../src/core/tensor.ts";
import type { Graph, ModelDefinition, Run, Tree } from "./definition.ts";

type Inputs = Readonly<Record<string, Tensor>>;

/** A node of a request's tree, or a leaf. */
interface Part {
  /** The step of the inputs that is its own; undefined where it has none. */
  readonly step?: number;
  /** Numbers of parts before it; undefined where a child is absent. */
  readonly children: readonly (number | undefined)[];
}

/** Adds the cells of a `tree` program, from the leaves up. Throws INVALID_INPUT where the inputs are no tree. */
export function unfoldTree(graph: Graph, program: Tree, inputs: Inputs, model: ModelDefinition): void {
  const { leaf, child, node, head } = program;
  const { parent, children, ...values } = inputs;
  const steps = new Steps(values);
  const { reads } = model.cells.find(({ name }) => name === node)!;
  const most = child === undefined ? reads : Number.POSITIVE_INFINITY;
  const parts = parent
    ? partsOfParents(parent.data, steps.count, most)
    : partsOfChildren(children!, steps.count);
  if (parts.length === 0) throw new Fault("INVALID_INPUT", `the tree of model '${model.name}' has no nodes`);
  const runs: Run[] = [];
  for (const { step, children } of parts) {
    const own = step === undefined ? NO_INPUTS : steps.at(step);
    if (children.length === 0 && leaf !== undefined) {
      runs.push(graph.run(leaf, { inputs: own }));
      continue;
    }
    const from: (Run | undefined)[] = [];
    for (const one of children) from.push(one === undefined ? undefined : runs[one]);
    if (child === undefined) {
      while (from.length < reads) from.push(undefined);
      runs.push(graph.run(node, { inputs: own, steps: 1, from }));
      continue;
    }
    let sum: Run | undefined;
    for (const one of from) if (one) sum = graph.run(child, { inputs: own, steps: 1, from: [sum, one] });
    runs.push(graph.run(node, { inputs: own, steps: 1, from: [sum] }));
  }
  const root = runs.at(-1)!;
  const top = head === undefined ? root : graph.run(head, { steps: 1, from: [root] });
  for (const { name } of model.outputs) graph.output(name, top, name, "last");
}

/** Leaves, then nodes as `children [nodes, width]` says, where -1 is an absent child. */
function partsOfChildren({ shape, data }: Tensor, leaves: number): Part[] {
  const [nodes = 0, width = 0] = shape;
  const parts: Part[] = Array.from({ length: leaves }, (_, step) => ({ step, children: NO_CHILDREN }));
  const hasParent = new Uint8Array(leaves + nodes);
  for (let node = 0; node < nodes; node++) {
    const children: (number | undefined)[] = [];
    let isEmpty = true;
    for (let at = node * width; at < (node + 1) * width; at++) {
      const child = data[at]!;
      if (child === ABSENT) {
        children.push(undefined);
        continue;
      }
      const isBefore = child >= 0 && child < parts.length;
      if (!isBefore || hasParent[child]) {
        const why = isBefore ? "already has a parent" : "is not a leaf or an earlier node";
        throw new Fault(
          "INVALID_INPUT",
          `input 'children' names ${child} as a child of node ${node}, which ${why}`,
        );
      }
      hasParent[child] = 1;
      isEmpty = false;
      children.push(child);
    }
    if (isEmpty) throw new Fault("INVALID_INPUT", `input 'children' gives node ${node} no child`);
    parts.push({ children });
  }
  const alone = hasParent.indexOf(0);
  if (alone === parts.length - 1) return parts;
  const what = alone < leaves ? `leaf ${alone}` : `node ${alone - leaves}`;
  throw new Fault(
    "INVALID_INPUT",
    `input 'children' names ${what} as nobody's child; only the last node, the root, may be`,
  );
}

/** Nodes as `parent [nodes]` says, children before their parents; siblings are in the order of their numbers. */
function partsOfParents(parent: ArrayLike<number>, nodes: number, most: number): Part[] {
  const refuse = (what: string) => new Fault("INVALID_INPUT", `input 'parent' ${what}`);
  if (parent.length !== nodes) throw refuse(`has ${parent.length} nodes, the others have ${nodes}`);
  const children: number[][] = Array.from({ length: nodes }, () => []);
  let root = ABSENT;
  for (let node = 0; node < nodes; node++) {
    const above = parent[node]!;
    if (above === ABSENT) {
      if (root !== ABSENT) throw refuse(`has two roots, ${root} and ${node}`);
      root = node;
      continue;
    }
    if (above < 0 || above >= nodes)
      throw refuse(`is ${above} at ${node}, expected a node from 0 to ${nodes - 1}, or -1 for the root`);
    if (children[above]!.push(node) > most) throw refuse(`gives node ${above} more than ${most} children`);
  }
  // From the root down, then the other way round; what is not reached hangs on a circle.
  const order = root === ABSENT ? [] : [root];
  for (let at = 0; at < order.length; at++) order.push(...children[order[at]!]!);
  if (order.length < nodes) {
    const reached = new Set(order);
    const lost = children.findIndex((_, node) => !reached.has(node));
    throw refuse(`leads from node ${lost} round in a circle, not to a root (-1)`);
  }
  const place = new Int32Array(nodes);
  order.reverse().forEach((node, at) => {
    place[node] = at;
  });
  return order.map((node) => ({ step: node, children: children[node]!.map((child) => place[child]!) }));
}

/** The inputs, step by step. */
class Steps {
  readonly count: number;
  readonly #values: readonly {
    readonly name: string;
    readonly value: Tensor;
    readonly shape: readonly number[];
  }[];

  constructor(values: Inputs) {
    this.#values = Object.entries(values).map(([name, value]) => {
      return { name, value, shape: [1, ...value.shape.slice(1)] };
    });
    this.count = this.#values[0]?.value.shape[0] ?? 0;
  }

  at(step: number): Inputs {
    const [only, other] = this.#values;
    if (only && !other) return { [only.name]: this.#row(only, step) };
    return Object.fromEntries(this.#values.map((one) => [one.name, this.#row(one, step)]));
  }

  #row(
    { value: { dtype, data }, shape }: { readonly value: Tensor; readonly shape: readonly number[] },
    step: number,
  ) {
    const size = data.length / this.count;
    return { dtype, shape, data: data.subarray(step * size, (step + 1) * size) } as Tensor;
  }
}

const ABSENT = -1;
const NO_INPUTS: Inputs = {};
const NO_CHILDREN: readonly number[] = [];
