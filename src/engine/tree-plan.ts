import type { ModelDefinition } from "../../models/definition.ts";
import type { OutputLists, RunOutput } from "./outputs.ts";

/** What requests of a model look like that are a binary tree whose leaves' states are known. */
export interface TreePlan {
  readonly kind: "tree";
  /** Indices among the model's cells; `head` is what reads the root, where there is one. */
  readonly node: number;
  readonly head: number | undefined;
  /** Among the model's inputs. */
  readonly token: number;
  readonly children: number;
  /** The slot of token 0, and how many tokens there are. */
  readonly firstKnown: number;
  readonly symbols: number;
  /** Of the head or the root. */
  readonly outputs: readonly RunOutput[];
}

/** The plan of a model; undefined where its leaves must run, its nodes have inputs, or not two children. */
export function treePlan(
  definition: ModelDefinition,
  lists: OutputLists,
  known: readonly (number | undefined)[],
): TreePlan | undefined {
  const { program, cells, inputs, outputs } = definition;
  if (program.kind !== "tree" || program.child !== undefined || inputs.length !== 2) return undefined;
  const indexOf = (cell: string | undefined) => cells.findIndex(({ name }) => name === cell);
  const inputOf = (input: string) => inputs.findIndex(({ name }) => name === input);
  const [leaf, node, head] = [indexOf(program.leaf), indexOf(program.node), indexOf(program.head)];
  const [token, children] = [inputOf("token"), inputOf("children")];
  const firstKnown = known[leaf];
  const body = cells[leaf]?.body;
  const { reads, writes, inputs: given } = cells[node]!;
  if (firstKnown === undefined || body?.kind !== "tree-leaf" || token < 0 || children < 0) return undefined;
  if (reads !== 2 || !writes || given.length > 0) return undefined;
  if (head >= 0 && (cells[head]!.reads !== 1 || cells[head]!.inputs.length > 0)) return undefined;
  let made: readonly RunOutput[] = [];
  for (const { name } of outputs) made = lists.with(made, head < 0 ? node : head, name, name, false);
  return {
    kind: "tree",
    node,
    head: head < 0 ? undefined : head,
    token,
    children,
    firstKnown,
    symbols: body.embedding!.rows,
    outputs: made,
  };
}
