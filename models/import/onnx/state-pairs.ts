import { Fault } from "../../../src/core/faults.ts";
import type { Port } from "./file.ts";

/** A state's input and the output that becomes its next value. */
export interface StatePair {
  readonly input: string;
  readonly output: string;
}

/** How exporters name the next value of a state, most common first: what to replace in the input's name. */
const RULES: readonly (readonly [RegExp, string])[] = [
  [/past_key_values/, "present"],
  [/past/, "present"],
  [/Past/, "Present"],
  [/_in(?=_|\d|$)/, "_out"],
  [/In(?=_|\d|$)/, "Out"],
  [/^in_/, "out_"],
  [/input/, "output"],
  [/Input/, "Output"],
  [/prev(ious)?/, "next"],
  [/prev(ious)?/, "new"],
  [/prev(ious)?_?/, ""],
  [/prev(ious)?/, "cur"],
  [/old/, "new"],
  [/last/, "new"],
  [/cur(rent)?/, "next"],
  [/cur(rent)?/, "new"],
  [/init(ial)?_/, "final_"],
  [/init(ial)?_/, "next_"],
  [/init(ial)?_/, ""],
  [/init(ial)?_/, "last_"],
  [/init(ial)?_/, "new_"],
  [/0$/, "n"],
  [/0$/, "N"],
  [/0$/, "T"],
  [/0$/, "_n"],
  [/0$/, "1"],
  [/$/, "n"],
  [/$/, "N"],
  [/$/, "_n"],
  [/$/, "_next"],
  [/$/, "_out"],
  [/$/, "_new"],
  [/$/, "Out"],
  [/$/, "Next"],
  [/$/, "New"],
  [/$/, "_output"],
  [/$/, "_t"],
  [/$/, "1"],
  [/^/, "new_"],
  [/^/, "next_"],
  [/^/, "out_"],
  [/^/, "output_"],
  [/^/, "updated_"],
  [/^/, "present_"],
  [/^/, "final_"],
  [/^([A-Za-z]+?)_?(\d+)$/, "$1n$2"],
  [/^([A-Za-z]+?)_?(\d+)$/, "$1n_$2"],
  [/^([A-Za-z]+?)_?(\d+)$/, "$1_out_$2"],
  [/^([A-Za-z]+?)_?(\d+)$/, "$1_next_$2"],
];

/** Names of what is fed in at every step, which may come out again under a like name and the same shape. */
const FED =
  /^(in_?)?(x|y|inputs?|audio|speech|wave(form)?|samples?|frames?|features?|feats?|tokens?|(input_?)?ids?|data)(_?in|_?\d+)?$/i;

/** Pairs inputs with outputs of the same type and shape by the usual names, never by position. */
export function findStatePairs(inputs: readonly Port[], outputs: readonly Port[]): StatePair[] {
  const byName = new Map(outputs.map((port) => [port.name, port]));
  const taken = new Map<string, string>();
  const pairs: StatePair[] = [];
  for (const input of inputs) {
    if (FED.test(input.name)) continue;
    const output = RULES.map(([from, to]) => input.name.replace(from, to)).find((name) => {
      const port = byName.get(name);
      return name !== input.name && port && fits(input, port);
    });
    if (output === undefined) continue;
    const other = taken.get(output);
    if (other !== undefined) {
      throw new Fault(
        "INVALID_REQUEST",
        `both '${other}' and '${input.name}' seem to become '${output}': name the pairs in \`states\``,
      );
    }
    taken.set(output, input.name);
    pairs.push({ input: input.name, output });
  }
  return pairs;
}

/** Whether an output can be the next value of an input: same type, and no axis of another length. */
export function fits(input: Port, output: Port): boolean {
  if (input.type !== output.type) return false;
  const [a, b] = [input.shape, output.shape];
  if (!a || !b) return true;
  if (a.length === 0 || a.length !== b.length) return false;
  return a.every((size, i) => typeof size !== "number" || typeof b[i] !== "number" || size === b[i]);
}

/** Pairs that were given, checked. */
export function checkStatePairs(
  pairs: readonly StatePair[],
  inputs: readonly Port[],
  outputs: readonly Port[],
): readonly StatePair[] {
  for (const { input, output } of pairs) {
    const from = inputs.find(({ name }) => name === input);
    const to = outputs.find(({ name }) => name === output);
    if (!from || !to) {
      const [what, name, ports] = from
        ? (["output", output, outputs] as const)
        : (["input", input, inputs] as const);
      const names = ports.map((port) => `'${port.name}'`).join(", ");
      throw new Fault("INVALID_REQUEST", `the graph has no ${what} '${name}' for a state, it has ${names}`);
    }
    if (!fits(from, to)) {
      throw new Fault("INVALID_REQUEST", `state '${input}' cannot become '${output}': type or shape differ`);
    }
  }
  return pairs;
}
