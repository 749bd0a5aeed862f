import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { openBrackets } from "../../models/brackets.ts";
import type { BracketsCodec as Brackets } from "../../models/codec.ts";
import { Fault } from "../../src/core/faults.ts";
import type { TensorSpec } from "../../src/core/tensor.ts";

const digits = [..."0123456789"];
const round: Brackets = {
  kind: "brackets",
  symbols: [..."abcdefg"],
  tree: "children",
  open: "(",
  close: ")",
};
const listops: Brackets = { ...round, symbols: [...digits, "[MAX", "[MIN", "]"], open: "[", close: "]" };
const children = (width: number): TensorSpec => ({ name: "children", dtype: "int32", shape: [-1, width] });
const parent: TensorSpec = { name: "parent", dtype: "int32", shape: [-1] };

/** Tokens, and the rows of the shape; of `parent` one row. */
function read(codec: Brackets, text: string, spec: TensorSpec) {
  const { tokens, tree } = openBrackets(codec).tree!.encode(text, spec);
  const width = tree.shape[1] ?? tree.data.length;
  const rows = Array.from({ length: tree.data.length / width }, (_, row) => [
    ...tree.data.slice(row * width, (row + 1) * width),
  ]);
  return { tokens: [...tokens], rows };
}

describe("a tree in brackets", () => {
  it("of more than two items is joined from the left, brackets that are symbols being leaves", () => {
    const { tokens, rows } = read(listops, "[MAX 2 9 [MIN 4 7 ] 0 ]", children(2));
    expect(tokens.map((token) => listops.symbols[token])).toEqual("[MAX 2 9 [MIN 4 7 ] 0 ]".split(" "));
    // [MIN joins 4, 7 and its bracket; [MAX joins 2, 9, that, 0 and its own.
    expect(rows).toEqual([
      [3, 4],
      [9, 5],
      [10, 6],
      [0, 1],
      [12, 2],
      [13, 11],
      [14, 7],
      [15, 8],
    ]);
  });

  it("needs no spaces around brackets", () => {
    const spaced = read(listops, "[MAX 2 9 [MIN 4 7 ] 0 ]", children(2));
    expect(read(listops, " [MAX 2 9[MIN 4 7]0]\n", children(2))).toEqual(spaced);
  });

  it("fills nodes of three from the left, and says where a child is absent", () => {
    expect(read(round, "(a b c d e)", children(3)).rows).toEqual([
      [0, 1, 2],
      [5, 3, 4],
    ]);
    expect(read(round, "(a b c (d e))", children(3)).rows).toEqual([
      [3, 4, -1],
      [0, 1, 2],
      [6, 5, -1],
    ]);
  });

  it("gives nodes any number of children where the shape has any width", () => {
    expect(read(round, "(a (b c d e) f)", children(-1)).rows).toEqual([
      [1, 2, 3, 4],
      [0, 6, 5, -1],
    ]);
  });

  it("takes brackets around one item for the item", () => {
    expect(read(round, "(((a)) ((b)))", children(2)).rows).toEqual([[0, 1]]);
    expect(read(round, "a", children(2))).toEqual({ tokens: [0], rows: [] });
  });

  it("begins with the word of its node where nodes have parents", () => {
    expect(read(round, "(a (b c) d (e (f g)))", parent)).toEqual({
      tokens: [0, 1, 2, 3, 4, 5, 6],
      rows: [[-1, 0, 1, 0, 0, 4, 5]],
    });
    expect(read(round, "g", parent)).toEqual({ tokens: [6], rows: [[-1]] });
  });

  it("says of every binary tree what was written", () => {
    interface Pair {
      readonly left: Pair | undefined;
      readonly right: Pair | undefined;
    }
    const { tree } = fc.letrec<{ tree: Pair | undefined }>((tie) => ({
      tree: fc.option(fc.record({ left: tie("tree"), right: tie("tree") }), {
        nil: undefined,
        depthSize: "large",
      }),
    }));
    const textOf = (one: Pair | undefined): string =>
      one ? `(${textOf(one.left)} ${textOf(one.right)})` : "a";
    fc.assert(
      fc.property(tree, (one) => {
        const { tokens, rows } = read(round, textOf(one), children(2));
        const written: string[] = tokens.map(() => "a");
        for (const [left, right] of rows) written.push(`(${written[left!]} ${written[right!]})`);
        expect(written.at(-1)).toBe(textOf(one));
      }),
    );
  });

  it("may be as deep as it likes", () => {
    const deep = 20_000;
    expect(read(round, `${"(".repeat(deep)}a${")".repeat(deep)}`, children(2)).rows).toEqual([]);
    expect(read(round, `${"(a ".repeat(deep)}b${")".repeat(deep)}`, children(2)).rows).toHaveLength(deep);
  });

  it.each([
    ["an unknown word", "(a x)", /"x" at 3 is not among the model's symbols/],
    ["a bracket that is not closed", "(a (b c)", /'\(' at 0 is not closed/],
    ["a bracket that closes nothing", "(a b)) c", /'\)' at 5 closes nothing/],
    ["empty brackets", "(a ())", /the brackets at 3 are empty/],
    ["two trees", "(a b) c", /holds 2 trees, expected one/],
    ["nothing", " ", /holds 0 trees, expected one/],
  ])("with %s is refused", (_, text, why) => {
    for (const spec of [children(2), children(-1), parent])
      expect(() => read(round, text, spec)).toThrow(why);
  });

  it("whose node has no word is refused where nodes have words", () => {
    expect(() => read(round, "((a b) c)", parent)).toThrow(/the brackets at 0 begin with brackets/);
  });

  it("that is noise never gives anything but a fault or a tree", () => {
    const noise = fc.string({ unit: fc.constantFrom(..."ab(( )) []9é\u{1F600}\n"), maxLength: 30 });
    fc.assert(
      fc.property(noise, fc.constantFrom(children(2), children(3), children(-1), parent), (text, spec) => {
        try {
          const { tokens, tree } = openBrackets(round).tree!.encode(text, spec);
          expect(tokens.length).toBeGreaterThan(0);
          expect([...tree.data].every((one) => one >= -1 && one < 2 * tokens.length)).toBe(true);
        } catch (error) {
          expect(error).toBeInstanceOf(Fault);
          expect((error as Fault).code).toBe("INVALID_INPUT");
        }
      }),
      { numRuns: 500 },
    );
  });
});
