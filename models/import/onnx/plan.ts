import type { Collect } from "../../definition.ts";
import type { Collecting, Expression, Recurrence } from "./expression.ts";
import { Uncuttable } from "./faults.ts";

/** A named value that goes into or out of a cell. */
export interface Named {
  readonly name: string;
  readonly expression: Expression;
}

/** What a cell gives; of a recurrence that runs in layers of its own, one direction. */
export interface CellOutput extends Named {
  readonly direction?: number;
}

export interface CellPlan {
  readonly name: string;
  readonly inputs: readonly Named[];
  readonly outputs: readonly CellOutput[];
}

export interface LayerPlan {
  readonly forward?: CellPlan;
  readonly backward?: CellPlan;
}

/** How a traced graph becomes cells: one cell over all steps, or layers of them. */
export type Plan =
  | { readonly kind: "chain"; readonly cell: CellPlan; readonly collect: "last" | "all" }
  | {
      readonly kind: "layers";
      readonly layers: readonly LayerPlan[];
      readonly collect: Collect | Readonly<Record<string, Collect>>;
      readonly head?: CellPlan;
    };

/** A value of the last layer, and what is answered of it. */
interface Answer extends Named {
  readonly how: Collecting | "all";
}

/** A value without axes that only set the directions of a recurrence apart; they then come one after the other. */
export function withoutDirections(expression: Expression): Expression {
  if (expression.kind !== "node" || expression.op !== "Reshape") return expression;
  const of = expression.inputs[0]!;
  const value = of.kind === "collect" ? of.of : of;
  return value.kind === "state" ? of : expression;
}

/** Divides what the outputs need into cells. Throws `Uncuttable` where no order of layers gives them. */
export function planCells(outputs: readonly Named[]): Plan {
  const levels = levelsOf(outputs.map(({ expression }) => expression));
  const { answers, head } = answersOf(outputs);
  const top = Math.max(0, ...answers.map(({ expression }) => levels.of(expression)));
  const hows = new Set(answers.map(({ how }) => (how === "all" ? "all" : "last")));
  if (
    top === 0 &&
    hows.size === 1 &&
    answers.every(({ how }) => how === "all" || how === "final" || how === "end")
  ) {
    return { kind: "chain", cell: cellOf("step", outputs, from(levels, 0)), collect: [...hows][0]! };
  }
  const isDirect = top > 0 && answers.every((answer) => comesFrom(answer, levels, top));
  const layers: LayerPlan[] = [];
  let needs: readonly Named[] = answers;
  if (!isDirect) {
    for (const answer of answers) checkStep(answer, levels);
    const forward = cellOf(`layer${top}`, answers, from(levels, top));
    layers.push({ forward });
    needs = forward.inputs;
  }
  for (let level = top; level >= 1; level--) {
    const layer = layerOf(level, needs, levels);
    layers.push(layer);
    needs = [...(layer.forward?.inputs ?? []), ...(layer.backward?.inputs ?? [])];
    needs = needs.filter(({ name }, i) => needs.findIndex((other) => other.name === name) === i);
  }
  const collects = answers.map(({ name, how }) => [name, collectOf(how)] as const);
  const kinds = new Set(collects.map(([, how]) => how));
  const collect = kinds.size === 1 ? collects[0]![1] : Object.fromEntries(collects);
  return { kind: "layers", layers: layers.reverse(), collect, ...(head ? { head } : {}) };
}

/** Values that lead to an expression. */
function inputsOf(expression: Expression): readonly Expression[] {
  switch (expression.kind) {
    case "node":
      return expression.inputs;
    case "state":
      return [expression.of.x];
    case "collect":
      return [expression.of];
    default:
      return [];
  }
}

/** Expressions from the inputs on, each after those it is made of; `isLeaf` says where to stop. */
export function inOrder(
  roots: readonly Expression[],
  isLeaf: (expression: Expression) => boolean,
): Expression[] {
  const order: Expression[] = [];
  const seen = new Set<Expression>();
  const stack = roots.map((expression) => ({ expression, isEntered: false })).reverse();
  for (let top = stack.pop(); top; top = stack.pop()) {
    const { expression, isEntered } = top;
    if (isEntered) {
      order.push(expression);
      continue;
    }
    if (seen.has(expression)) continue;
    seen.add(expression);
    stack.push({ expression, isEntered: true });
    if (isLeaf(expression)) continue;
    for (const input of inputsOf(expression)) stack.push({ expression: input, isEntered: false });
  }
  return order;
}

/** Whether a recurrence needs all steps before it gives the first. */
function waitsForAll({ directions }: Recurrence): boolean {
  return directions.some(({ reverse }) => reverse);
}

interface Levels {
  /** After which layer a value can be computed; 0 from the request's inputs. */
  of(expression: Expression): number;
  /** Whether a value is an output of the layer of its level. */
  isGiven(expression: Expression): boolean;
}

function levelsOf(roots: readonly Expression[]): Levels {
  const order = inOrder(roots, () => false);
  const prepared = new Set<Expression>();
  const levels = new Map<Expression, number>();
  const isGiven = (expression: Expression) =>
    prepared.has(expression) || (expression.kind === "state" && waitsForAll(expression.of));
  const measure = () => {
    for (const expression of order) {
      const below = Math.max(0, ...inputsOf(expression).map((input) => levels.get(input)!));
      levels.set(expression, isGiven(expression) ? below + 1 : below);
    }
  };
  const costly = (x: Expression, directions: number) =>
    !isGiven(x) &&
    inOrder([x], (one) => isGiven(one) || levels.get(one)! < levels.get(x)!).some(
      (one) =>
        !isGiven(one) &&
        levels.get(one) === levels.get(x) &&
        (one.kind === "state" ||
          (directions > 1 && one.kind === "node" && (one.op === "MatMul" || one.op === "Gemm"))),
    );
  measure();
  for (let before = -1; before !== prepared.size; ) {
    before = prepared.size;
    for (const one of order) {
      if (one.kind !== "state" || !waitsForAll(one.of)) continue;
      // What both directions need and what only runs forwards is computed in a layer before.
      if (costly(one.of.x, one.of.directions.length)) prepared.add(one.of.x);
    }
    measure();
  }
  return { of: (expression) => levels.get(expression)!, isGiven };
}

/** What is collected of the last layer, and what is computed from it afterwards. */
function answersOf(outputs: readonly Named[]): { readonly answers: Answer[]; readonly head?: CellPlan } {
  const answers: Answer[] = [];
  const headOutputs: Named[] = [];
  for (const { name, expression } of outputs) {
    if (expression.when === "constant")
      throw new Uncuttable(`output '${name}' does not depend on the inputs`);
    if (expression.when === "step") answers.push({ name, expression, how: "all" });
    else if (expression.kind === "collect")
      answers.push({ name, expression: expression.of, how: expression.how });
    else headOutputs.push({ name, expression });
  }
  if (headOutputs.length === 0) return { answers };
  const collected = inOrder(
    headOutputs.map(({ expression }) => expression),
    ({ kind }) => kind === "collect",
  );
  const inputs: Named[] = [];
  for (const expression of collected) {
    if (expression.kind !== "collect") continue;
    const name = `collected${inputs.length}`;
    inputs.push({ name, expression });
    answers.push({ name, expression: expression.of, how: expression.how });
  }
  return { answers, head: { name: "head", inputs, outputs: headOutputs } };
}

/** Whether a layer's own outputs hold an answer. */
function comesFrom({ expression, how }: Answer, levels: Levels, top: number): boolean {
  const isRecurrence = expression.kind === "state" && waitsForAll(expression.of);
  if (levels.of(expression) < top) return how !== "start" && !(how === "final" && isRecurrence);
  if (!isRecurrence) return levels.isGiven(expression) && how !== "start";
  const isReverseOnly = expression.of.directions.length === 1;
  return how === "start" ? isReverseOnly : how !== "end";
}

/** Throws unless a cell that runs forwards over the steps gives an answer. */
function checkStep({ name, expression, how }: Answer, levels: Levels): void {
  if (how === "start") throw new Uncuttable(`'${name}' takes the value of the first step`);
  const reversed = expression.kind === "state" && waitsForAll(expression.of) ? expression.of : undefined;
  if (how !== "final" || !reversed) return;
  const where = `node '${reversed.name}' (${reversed.kind})`;
  throw new Uncuttable(
    `'${name}' takes the last state of ${where}, but other outputs need layers after it (level ${levels.of(expression)})`,
  );
}

/** Where the cells of a layer take their inputs from. */
interface Source {
  readonly levels: Levels;
  /** The layer whose outputs they are; 0 for the request's inputs. */
  readonly level: number;
  /** Names of that layer's outputs, given as they are asked for. */
  readonly names: Map<Expression, string>;
}

function from(levels: Levels, level: number): Source {
  return { levels, level, names: new Map() };
}

/** A cell that computes values from a source. */
function cellOf(name: string, outputs: readonly CellOutput[], { levels, level, names }: Source): CellPlan {
  const isLeaf = (expression: Expression) =>
    expression.kind === "input" ||
    (expression.when !== "constant" &&
      level > 0 &&
      (levels.of(expression) < level || (levels.of(expression) === level && levels.isGiven(expression))));
  const roots = outputs.flatMap(({ expression, direction }) =>
    direction !== undefined && expression.kind === "state" ? [expression.of.x] : [expression],
  );
  const leaves = inOrder(roots, isLeaf).filter((expression) => isLeaf(expression));
  const nameOf = (expression: Expression) => {
    if (expression.kind === "input" && level === 0) return expression.name;
    const known = names.get(expression) ?? `layer${level - 1}_${names.size}`;
    names.set(expression, known);
    return known;
  };
  return { name, inputs: leaves.map((expression) => ({ name: nameOf(expression), expression })), outputs };
}

/** The layer whose outputs hold some values. */
function layerOf(level: number, needs: readonly Named[], levels: Levels): LayerPlan {
  const forward: CellOutput[] = [];
  const backward: CellOutput[] = [];
  for (const { name, expression } of needs) {
    if (levels.of(expression) < level || expression.kind !== "state" || !waitsForAll(expression.of)) {
      forward.push({ name, expression });
      continue;
    }
    expression.of.directions.forEach(({ reverse }, direction) => {
      (reverse ? backward : forward).push({ name, expression, direction });
    });
  }
  const source = from(levels, level - 1);
  const name = `layer${level - 1}`;
  return {
    ...(forward.length > 0 ? { forward: cellOf(`${name}_forward`, forward, source) } : {}),
    ...(backward.length > 0 ? { backward: cellOf(`${name}_backward`, backward, source) } : {}),
  };
}

function collectOf(how: Collecting | "all"): Collect {
  return how === "final" || how === "end" || how === "start" ? "last" : how;
}
