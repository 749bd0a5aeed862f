import type { Axis, FixedLengths, Label } from "./axes.ts";
import { constantOf, input } from "./expression.ts";
import type { OnnxFile, Port } from "./file.ts";
import { filled } from "./fold.ts";
import { isRecurrent } from "./recurrence.ts";
import { elementType } from "./tensor.ts";
import { traced, type Value } from "./values.ts";

/** What a graph's inputs may be taken for. */
export interface Labelling {
  readonly inputs: ReadonlyMap<string, Value>;
  readonly fixed: FixedLengths;
}

/** What an input is for, as far as its use tells. */
export type Role = "values" | "state" | "lengths";

/** Nodes that hand a value on, in part or in another order. */
const HANDS_ON = new Set([
  "Identity",
  "Cast",
  "Slice",
  "Split",
  "Gather",
  "Squeeze",
  "Unsqueeze",
  "Transpose",
  "Reshape",
]);

/** Inputs that become the initial state or the lengths of recurrent nodes. */
export function roleOf(file: OnnxFile, name: string): Role {
  const reached = new Set([name]);
  for (const { op, inputs, outputs } of file.nodes) {
    if (isRecurrent(op)) {
      if (reached.has(inputs[4] ?? "")) return "lengths";
      if (reached.has(inputs[5] ?? "") || reached.has(inputs[6] ?? "")) return "state";
    }
    if (HANDS_ON.has(op) && reached.has(inputs[0] ?? "")) for (const output of outputs) reached.add(output);
  }
  return "values";
}

/** Ways to label the axes of inputs, the likeliest first. */
export function* labellings(ports: readonly (Port & { readonly role: Role })[]): Generator<Labelling> {
  const choices = ports.map((port) => choicesOf(port));
  const kept = withinBounds(choices);
  const combinations = kept.reduce<{ readonly score: number; readonly parts: readonly Choice[] }[]>(
    (all, list) =>
      all.flatMap(({ score, parts }) =>
        list.map((one) => ({ score: score + one.score, parts: [...parts, one] })),
      ),
    [{ score: 0, parts: [] }],
  );
  combinations.sort((a, b) => b.score - a.score);
  for (const { parts } of combinations) {
    const fixed: Partial<Record<Label, number>> = {};
    let agrees = true;
    for (const { lengths } of parts) {
      for (const [label, length] of Object.entries(lengths) as [Label, number][]) {
        agrees &&= (fixed[label] ?? length) === length;
        fixed[label] = length;
      }
    }
    if (!agrees) continue;
    if (fixed.time !== undefined && fixed.batch !== undefined) {
      fixed["time-batch"] = fixed.time * fixed.batch;
      fixed["batch-time"] = fixed.time * fixed.batch;
    }
    yield { inputs: new Map(parts.map(({ name, value }) => [name, value])), fixed };
  }
}

interface Choice {
  readonly name: string;
  readonly value: Value;
  readonly lengths: FixedLengths;
  readonly score: number;
}

const MAX_COMBINATIONS = 400;

/** The likeliest choices of each input, so that all combinations can be tried. */
function withinBounds(choices: readonly (readonly Choice[])[]): readonly (readonly Choice[])[] {
  let kept = choices.map((list) => list.toSorted((a, b) => b.score - a.score));
  const count = () => kept.reduce((product, list) => product * list.length, 1);
  while (count() > MAX_COMBINATIONS && kept.some(({ length }) => length > 1)) {
    const longest = Math.max(...kept.map(({ length }) => length));
    kept = kept.map((list) => (list.length === longest ? list.slice(0, -1) : list));
  }
  return kept;
}

function choicesOf(port: Port & { readonly role: Role }): Choice[] {
  const { name, role } = port;
  if (role === "lengths") return [{ name, value: { kind: "lengths" }, lengths: {}, score: 0 }];
  const shape = port.shape ?? [];
  const type = elementType(port.type)!;
  const choices: Choice[] = [];
  const rank = shape.length;
  for (let time = role === "state" ? -1 : 0; time < (role === "state" ? 0 : rank); time++) {
    for (let batch = -1; batch < rank; batch++) {
      if (batch === time && batch >= 0) continue;
      const axes = shape.map((size, i): Axis | undefined => {
        if (i === time) return "time";
        if (i === batch) return "batch";
        return typeof size === "number" ? size : undefined;
      });
      if (!axes.every((axis) => axis !== undefined)) continue;
      const own = axes.filter((axis) => typeof axis === "number");
      const expression = role === "state" ? constantOf(filled("float32", own, 0)) : input(name, type, own);
      const lengths: Partial<Record<Label, number>> = {};
      const [steps, rows] = [shape[time], shape[batch]];
      if (typeof steps === "number") lengths.time = steps;
      if (typeof rows === "number") lengths.batch = rows;
      choices.push({ name, value: traced(axes, expression), lengths, score: scoreOf(shape, time, batch) });
    }
  }
  return choices;
}

function scoreOf(shape: readonly (number | string)[], time: number, batch: number): number {
  const named = (axis: number, pattern: RegExp) => {
    const size = shape[axis];
    if (size === undefined) return 0;
    if (typeof size === "number") return 0;
    return pattern.test(size) ? 4 : isBatchName(size) || TIME.test(size) ? -2 : 2;
  };
  const timeScore = time < 0 ? 0 : named(time, TIME);
  const batchScore = batch < 0 ? -3 : named(batch, BATCH);
  return timeScore + batchScore;
}

const BATCH = /^(n|b|bs|batch|batch_?size|none|unk.*|num_?(batch|seq).*|.*batch.*)$/i;
const TIME = /^(t|s|l|seq|seq_?len(gth)?|time.*|steps?|length|frames?|.*seq.*|.*time.*)$/i;

/** Whether a symbolic length is called as batches are. */
export function isBatchName(name: string): boolean {
  return name !== "" && BATCH.test(name);
}
