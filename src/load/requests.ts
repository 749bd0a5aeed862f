import { Random } from "../core/random.ts";
import { sizeOf, type Tensor } from "../core/tensor.ts";

/** An input that requests are made for. */
export interface InputShape {
  readonly name: string;
  readonly type: "text" | "float32" | "int32";
  /** -1 where the steps of a request go, or where children of a tree's inner nodes do. */
  readonly shape: readonly number[];
  /** Of text: what it is put together from. */
  readonly symbols?: readonly string[];
  /** Whether symbols stand apart from each other. */
  readonly isSpaced?: boolean;
  /** Of integers: how many kinds there are. @default 1, all of them 0 */
  readonly kinds?: number;
  /** Whether it holds the children of the inner nodes of a binary tree, whose leaves are the steps. */
  readonly isTree?: boolean;
}

export type Inputs = Readonly<Record<string, string | Tensor>>;

/** The inputs of request `number` with `length` steps; the same for the same number and length. */
export type Requests = (number: number, length: number) => Inputs;

/**
 * Makes requests: numbers are noise, tokens and text are drawn from what there is, or `texts` are taken one after the other,
 * whatever their length. Nothing of any size is made while requests are sent.
 */
export function requestsFor(inputs: readonly InputShape[], texts?: readonly string[]): Requests {
  const makers = inputs.map((input) => [input.name, makerOf(input, texts)] as const);
  return (number, length) =>
    Object.fromEntries(makers.map(([name, make]) => [name, make(number, length)] as const));
}

type Maker = (number: number, length: number) => string | Tensor;

function makerOf(input: InputShape, texts: readonly string[] | undefined): Maker {
  if (input.type === "text")
    return texts?.length ? (number) => texts[number % texts.length]! : textMaker(input);
  if (input.isTree) return treeMaker();
  const { type: dtype, shape, kinds = 1 } = input;
  const axis = shape.indexOf(-1);
  const others = shape.map((size) => (size === -1 ? 1 : size));
  const random = new Random(1);
  const step = sizeOf(others);
  const draw = dtype === "int32" ? () => random.integer(0, kinds - 1) : () => random.uniform() * 2 - 1;
  let pool = new (dtype === "int32" ? Int32Array : Float32Array)(0);
  const values = (number: number, length: number) => {
    const from = (number % OFFSETS) * step;
    const most = (length + OFFSETS) * step;
    if (pool.length < most) pool = new (dtype === "int32" ? Int32Array : Float32Array)(2 * most).map(draw);
    return pool.subarray(from, from + length * step);
  };
  return (number, length) => {
    const steps = axis < 0 ? 1 : length;
    const own = shape.map((size) => (size === -1 ? steps : size));
    return { dtype, shape: own, data: values(number, steps) } as Tensor;
  };
}

/** Requests begin at as many places of what was drawn. */
const OFFSETS = 251;

function textMaker({ symbols = LETTERS, isSpaced = false }: InputShape): Maker {
  const random = new Random(1);
  const drawn: string[] = [];
  return (number, length) => {
    const from = number % OFFSETS;
    while (drawn.length < from + length) drawn.push(symbols[random.integer(0, symbols.length - 1)]!);
    return drawn.slice(from, from + length).join(isSpaced ? " " : "");
  };
}

const LETTERS = [..."abcdefghijklmnopqrstuvwxyz"];

/** Random binary trees, each split equally likely. A tree has two leaves at least. */
function treeMaker(): Maker {
  return (number, length) => {
    const children = childrenOf(length, new Random(1 + (number % OFFSETS)));
    return { dtype: "int32", shape: [children.length / 2, 2], data: children };
  };
}

/** Two children per inner node, which stand before it; numbers below `leaves` are leaves. */
export function childrenOf(leaves: number, random: Random): Int32Array {
  const children = new Int32Array(2 * (leaves - 1));
  let leaf = 0;
  let node = 0;
  const grow = (size: number): number => {
    if (size === 1) return leaf++;
    const left = random.integer(1, size - 1);
    const pair = [grow(left), grow(size - left)];
    children.set(pair, 2 * node);
    return leaves + node++;
  };
  grow(leaves);
  return children;
}
