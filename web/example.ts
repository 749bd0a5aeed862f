import type { TensorData, Values } from "../src/client/values.ts";
import type { WireModel, WireValueSpec } from "../src/server/watch-protocol.ts";

/** Steps of an example whose inputs may have any number of them. */
const STEPS = 4;

/** Inputs to begin with, as JSON: the model's own example, or numbers of the right shape. */
export function exampleJson({ inputs, example, streaming }: WireModel): string {
  const values = inputs.map(
    (spec) => [spec.name, example?.[spec.name] ?? exampleOf(spec, streaming)] as const,
  );
  return `{\n${values.map(([name, value]) => `  ${JSON.stringify(name)}: ${JSON.stringify(value)}`).join(",\n")}\n}`;
}

function exampleOf({ type, shape }: WireValueSpec, streaming: boolean): unknown {
  if (type === "text") return "";
  const dims = (streaming ? shape.slice(1) : shape).map((dim) => (dim === -1 ? STEPS : dim));
  let i = 0;
  const fill = ([dim, ...rest]: readonly number[]): unknown =>
    dim === undefined ? numberAt(i++) : Array.from({ length: dim }, () => fill(rest));
  const numberAt = (at: number) => (type === "int32" ? at % 2 : Math.round(Math.sin(at) * 100) / 100);
  return fill(dims);
}

/** Inputs for the client from JSON: text, or nested arrays of numbers. Throws with a sentence that names the input. */
export function inputsOf(json: string, { name: model, inputs }: WireModel): Values {
  let given: unknown;
  try {
    given = JSON.parse(json);
  } catch (error) {
    throw new Error(`This is no JSON: ${(error as Error).message}`);
  }
  if (typeof given !== "object" || given === null || Array.isArray(given)) {
    throw new Error(`Inputs are an object by name, such as {"${inputs[0]?.name}": …}`);
  }
  const values: Record<string, Values[string]> = {};
  for (const [name, value] of Object.entries(given)) {
    const spec = inputs.find((one) => one.name === name);
    if (!spec) {
      const known = inputs.map((one) => `'${one.name}'`).join(", ");
      throw new Error(`Model '${model}' has no input '${name}'; it takes ${known}`);
    }
    values[name] = spec.type === "text" ? textOf(name, value) : tensorOf(name, spec.type, value);
  }
  return values;
}

function textOf(name: string, value: unknown): string {
  if (typeof value === "string") return value;
  throw new Error(`Input '${name}' is text, expected a string in quotes`);
}

function tensorOf(
  name: string,
  type: "float32" | "int32",
  value: unknown,
): { shape: number[]; data: TensorData } {
  const shape: number[] = [];
  for (let at = value; Array.isArray(at); at = at[0]) shape.push(at.length);
  const numbers: number[] = [];
  const collect = (one: unknown, depth: number): void => {
    if (depth === shape.length) {
      if (typeof one !== "number")
        throw new Error(`Input '${name}' holds ${JSON.stringify(one)}, expected a number`);
      numbers.push(one);
    } else if (!Array.isArray(one) || one.length !== shape[depth]) {
      throw new Error(
        `Input '${name}' is not rectangular: every list on one level must be as long as the first`,
      );
    } else for (const inner of one) collect(inner, depth + 1);
  };
  collect(value, 0);
  return { shape, data: type === "int32" ? Int32Array.from(numbers) : Float32Array.from(numbers) };
}
