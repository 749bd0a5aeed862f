import type { Gate } from "../../models/pipeline.ts";
import { float32, type Tensor } from "../../src/core/tensor.ts";
import type { Runtime } from "../../src/runtime/types.ts";
import { stepsOf } from "./pipelines.ts";

/** Whether a gate is open at each step, from its definition: it was reached, and not left for longer than it holds. */
export function opened(values: readonly number[], { open, close, hold }: Gate): boolean[] {
  return values.map((_, at) => {
    for (let from = at; from >= 0; from--) {
      if (values[from]! < open) continue;
      let below = 0;
      let isLeft = false;
      for (const value of values.slice(from + 1, at + 1)) {
        below = value < close ? below + 1 : 0;
        isLeft ||= below > hold;
      }
      if (!isLeft) return true;
    }
    return false;
  });
}

/** Two models, of which the first opens the gate of the second, and what both take. */
export interface Gated {
  readonly models: readonly [string, string];
  /** Name of the first one's input; the second one's is `x`. */
  readonly input: string;
  readonly tensor: Tensor;
  readonly rule: Gate;
}

/** What a gated stage answers, from sessions of the two models by hand. */
export async function byHand(
  runtime: Runtime,
  { models, input, tensor, rule }: Gated,
): Promise<{ levels: number[]; given: (number[] | undefined)[] }> {
  const all = async (model: string, name: string, push: Tensor) => {
    const one = runtime.session(model);
    one.push({ [name]: push });
    await one.end();
    return (await stepsOf(one)).map(({ outputs }) => numbers(Object.values(outputs)[0]));
  };
  const levels = (await all(models[0], input, tensor)).map(([level]) => level!);
  const isOpen = opened(levels, rule);
  const size = tensor.shape[1]!;
  const pieces: number[][] = [];
  isOpen.forEach((open, at) => {
    if (!open) return;
    if (pieces.length === 0 || (rule.reset && !isOpen[at - 1])) pieces.push([]);
    pieces.at(-1)!.push(at);
  });
  const given: (number[] | undefined)[] = isOpen.map(() => undefined);
  for (const steps of pieces) {
    const data = new Float32Array(steps.length * size);
    steps.forEach((step, i) => data.set(tensor.data.subarray(step * size, (step + 1) * size), i * size));
    const answers = await all(models[1], "x", float32([steps.length, size], data));
    steps.forEach((step, i) => {
      given[step] = answers[i];
    });
  }
  return { levels, given };
}

export const numbers = (value: unknown) => [...((value as Tensor).data as Float32Array)];
