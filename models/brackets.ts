import { Fault } from "../src/core/faults.ts";
import { int32, type Tensor, type TensorSpec } from "../src/core/tensor.ts";
import type { BracketsCodec, OpenCodec } from "./codec.ts";
import { openSymbols } from "./symbol-codec.ts";

/** Makes the codec of trees ready to use. */
export function openBrackets(codec: BracketsCodec): OpenCodec {
  const known = new Map(codec.symbols.map((symbol, token) => [symbol, token]));
  const tree = {
    tensor: codec.tree,
    encode: (text: string, spec: TensorSpec) => encodeTree({ ...codec, known }, text, spec),
  };
  return { ...openSymbols({ kind: "symbols", symbols: codec.symbols }), tree };
}

interface Brackets {
  readonly open: string;
  readonly close: string;
  /** Token of each symbol. */
  readonly known: ReadonlyMap<string, number>;
}

/**
 * The tokens of a tree in brackets, and its shape as the tensor that `spec` describes; see `Tree`.
 *
 * - `children [nodes, N]`: words are leaves, and a pair of brackets is a node over the items in it. Of more than N the first N
 *   become a node, which with the next ones becomes a node, and so on; where N is -1 any number does. One alone is no node.
 * - `parent [nodes]`: the first item in brackets is the word of the node, the others are its children.
 *
 * Throws INVALID_INPUT that names the place in the text.
 */
function encodeTree(
  codec: Brackets,
  text: string,
  spec: TensorSpec,
): { readonly tokens: Int32Array; readonly tree: Tensor } {
  const width = spec.shape[1];
  const shape = width === undefined ? new Headed() : new Joined(width < 0 ? Number.POSITIVE_INFINITY : width);
  const tokens = readWords(codec, text, shape);
  return { tokens: Int32Array.from(tokens), tree: shape.tensor(tokens.length) };
}

/** What becomes of brackets while a text is read; a number is a word's or what `close` gave. */
interface Shape {
  close(items: readonly number[], at: number): number;
  tensor(words: number): Tensor;
}

/** Words are leaves. A node is `~` its number until the number of leaves is known. */
class Joined implements Shape {
  readonly #most: number;
  readonly #nodes: (readonly number[])[] = [];

  constructor(most: number) {
    this.#most = Math.max(2, most);
  }

  close(items: readonly number[]): number {
    let node = items[0]!;
    for (let next = 1; next < items.length; next += this.#most - 1) {
      node = ~(this.#nodes.push([node, ...items.slice(next, next + this.#most - 1)]) - 1);
    }
    return node;
  }

  tensor(words: number): Tensor {
    const nodes = this.#nodes;
    const width = Number.isFinite(this.#most)
      ? this.#most
      : nodes.reduce((most, { length }) => Math.max(most, length), 1);
    const children = new Int32Array(nodes.length * width).fill(ABSENT);
    nodes.forEach((items, node) => {
      children.set(
        items.map((item) => (item < 0 ? words + ~item : item)),
        node * width,
      );
    });
    return int32([nodes.length, width], children);
  }
}

/** Every word is a node. A node that has children is `~` the number of its word, which tells it from a word. */
class Headed implements Shape {
  readonly #parents: number[] = [];

  close([head, ...items]: readonly number[], at: number): number {
    if (head! < 0) {
      throw new Fault(
        "INVALID_INPUT",
        `the brackets at ${at} begin with brackets, not with the word of a node`,
      );
    }
    for (const item of items) this.#parents[item < 0 ? ~item : item] = head!;
    return ~head!;
  }

  tensor(words: number): Tensor {
    return int32(
      [words],
      Int32Array.from({ length: words }, (_, word) => this.#parents[word] ?? ABSENT),
    );
  }
}

/** Reads the words of a text, each a token, and closes brackets as they end. The text holds one item. */
function readWords({ open, close, known }: Brackets, text: string, shape: Shape): number[] {
  const tokens: number[] = [];
  const groups: { readonly at: number; readonly items: number[] }[] = [{ at: 0, items: [] }];
  const refuse = (what: string) => new Fault("INVALID_INPUT", what);
  const word = (symbol: string, at: number) => {
    const token = known.get(symbol);
    if (token === undefined)
      throw refuse(`${JSON.stringify(symbol)} at ${at} is not among the model's symbols`);
    groups.at(-1)!.items.push(tokens.push(token) - 1);
  };
  for (const { part, at } of partsOf(text, open, close)) {
    if (part.startsWith(open)) {
      groups.push({ at, items: [] });
      if (known.has(part)) word(part, at);
      else {
        if (known.has(open)) word(open, at);
        if (part.length > 1) word(part.slice(1), at + 1);
      }
    } else if (part === close) {
      if (groups.length === 1) throw refuse(`'${close}' at ${at} closes nothing`);
      if (known.has(close)) word(close, at);
      const group = groups.pop()!;
      if (group.items.length === 0) throw refuse(`the brackets at ${group.at} are empty`);
      groups.at(-1)!.items.push(shape.close(group.items, group.at));
    } else word(part, at);
  }
  if (groups.length > 1) throw refuse(`'${open}' at ${groups.at(-1)!.at} is not closed`);
  const [{ items }] = groups as [(typeof groups)[0]];
  if (items.length === 1) return tokens;
  throw refuse(`the text holds ${items.length} trees, expected one, in '${open}' and '${close}'`);
}

/** Words, closing brackets, and opening brackets with the word that stands at them, each with its place. */
function* partsOf(text: string, open: string, close: string): Generator<{ part: string; at: number }> {
  let at = 0;
  while (at < text.length) {
    const first = text[at]!;
    let end = at + 1;
    if (first !== close && !/\s/.test(first)) {
      while (end < text.length && text[end] !== open && text[end] !== close && !/\s/.test(text[end]!)) end++;
    }
    if (!/\s/.test(first)) yield { part: text.slice(at, end), at };
    at = end;
  }
}

const ABSENT = -1;
