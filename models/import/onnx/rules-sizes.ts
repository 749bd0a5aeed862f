import { axisOf, isLabel, type Label, type Size } from "./axes.ts";
import { Uncuttable } from "./faults.ts";
import { type Call, type Rule, type Sizes, sizes, sizesAt, type Value } from "./values.ts";

/** Shapes, and arithmetic on them as exporters write it. */
export const shapeRule: Rule = (call) => {
  const value = call.inputs[0];
  if (value?.kind !== "tensor") throw new Uncuttable("asks for the shape of what is no tensor");
  const items = value.axes.map((axis): Size => (isLabel(axis) ? { label: axis, plus: 0 } : axis));
  const { attributes } = call.node;
  const bound = (at: number) => Math.min(items.length, Math.max(0, at < 0 ? at + items.length : at));
  return [sizes(items.slice(bound(attributes.int("start", 0)), bound(attributes.int("end", items.length))))];
};

/** Operators on sizes; used where an input is one and all others are known whole numbers of at most one axis. */
export const sizeRules: Readonly<Record<string, (call: Call, inputs: readonly Sizes[]) => Sizes>> = {
  Add: (_, [a, b]) => each(a!, b!, (x, y) => plus(x, y, 1)),
  Sub: (_, [a, b]) => each(a!, b!, (x, y) => plus(x, y, -1)),
  Mul: (_, [a, b]) => each(a!, b!, times),
  Div: (_, [a, b]) =>
    each(a!, b!, (x, y) => {
      if (y === 1) return x;
      if (typeof x === "number" && typeof y === "number" && y !== 0) return Math.trunc(x / y);
      throw new Uncuttable("divides a number of steps or rows");
    }),
  Equal: (_, [a, b]) => each(a!, b!, (x, y) => (isSame(x, y) ? 1 : 0)),
  Where: (_, [condition, a, b]) => {
    const count = Math.max(...[condition!, a!, b!].map(({ items }) => items.length));
    const isScalar = condition!.isScalar && a!.isScalar && b!.isScalar;
    return sizes(
      Array.from({ length: count }, (_, i) => (pick(condition!, i) === 0 ? pick(b!, i) : pick(a!, i))),
      isScalar,
    );
  },
  Cast: (_, [a]) => a!,
  Identity: (_, [a]) => a!,
  Concat: (_, parts) => sizes(parts.flatMap(({ items }) => items)),
  Unsqueeze: (_, [a]) => sizes(a!.items),
  Squeeze: (_, [a]) => sizes(a!.items, a!.items.length === 1),
  Reshape: (_, [a, shape]) => sizes(a!.items, shape!.items.length === 0),
  Gather: (_, [a, indices]) =>
    sizes(
      indices!.items.map((index) => a!.items[axisOf(Number(index), a!.items.length)]!),
      indices!.isScalar,
    ),
  Slice: (call, [a, ...bounds]) => {
    const { attributes } = call.node;
    const number = (index: number, name: string, absent: number) =>
      Number(bounds[index]?.items[0] ?? attributes.ints(name)?.[0] ?? absent);
    if (number(3, "steps", 1) !== 1) throw new Uncuttable("takes a shape in steps other than 1");
    return sizes(a!.items.slice(number(0, "starts", 0), number(1, "ends", a!.items.length)));
  },
};

/** The inputs as sizes, where one depends on the request and the others are known. */
export function asSizes(call: Call): Sizes[] | undefined {
  if (!call.inputs.some((value) => value?.kind === "sizes")) return undefined;
  const all = call.inputs.map((value, i): Sizes | undefined => {
    const items = sizesAt(call, i);
    return items && sizes(items, isScalar(value!));
  });
  return all.every((one) => one !== undefined) ? all : undefined;
}

function isScalar(value: Value): boolean {
  return value.kind === "sizes" ? value.isScalar : value.kind === "tensor" && value.axes.length === 0;
}

function each(a: Sizes, b: Sizes, of: (x: Size, y: Size) => Size): Sizes {
  const count = Math.max(a.items.length, b.items.length);
  return sizes(
    Array.from({ length: count }, (_, i) => of(pick(a, i), pick(b, i))),
    a.isScalar && b.isScalar,
  );
}

function pick({ items }: Sizes, i: number): Size {
  const item = items.length === 1 ? items[0] : items[i];
  if (item === undefined) throw new Uncuttable("combines shapes of different lengths");
  return item;
}

function plus(x: Size, y: Size, sign: 1 | -1): Size {
  if (typeof x === "number" && typeof y === "number") return x + sign * y;
  if (typeof x !== "number" && typeof y === "number") return { ...x, plus: x.plus + sign * y };
  if (typeof x === "number" && typeof y !== "number" && sign === 1) return { ...y, plus: y.plus + x };
  if (isSame(x, y) && sign === -1) return 0;
  throw new Uncuttable("adds numbers of steps and rows");
}

function times(x: Size, y: Size): Size {
  if (typeof x === "number" && typeof y === "number") return x * y;
  if (x === 1) return y;
  if (y === 1) return x;
  if (typeof x !== "number" && typeof y !== "number" && x.plus === 0 && y.plus === 0) {
    const label = `${x.label}-${y.label}`;
    if (label === "time-batch" || label === "batch-time") return { label: label as Label, plus: 0 };
  }
  throw new Uncuttable("multiplies a number of steps or rows");
}

function isSame(x: Size, y: Size): boolean {
  if (typeof x === "number" || typeof y === "number") return x === y;
  return x.label === y.label && x.plus === y.plus;
}
