import fc from "fast-check";
import onnxProto from "onnx-proto";
import { expect, it } from "vitest";
import type { ImportedModel } from "../../../models/import/imported.ts";
import { importOnnxBytes } from "../../../models/import/onnx/import-onnx.ts";
import { Fault } from "../../../src/core/faults.ts";
import { bytesOf, type Case, cases, difference, lengthsOf, rowOf, runWhole } from "./cases.ts";
import { Evaluator } from "./evaluate.ts";

const { onnx } = onnxProto;
const { AttributeType } = onnx.AttributeProto;

const RUNS = 250;

/** A node of one input that is put in front of another node; most mix axes, some in ways that a cell must not. */
type Insertion = readonly [op: string, attributes: Readonly<Record<string, number | readonly number[]>>];
const insertions = fc.oneof(
  fc.constantFrom<Insertion>(["Relu", {}], ["Add", {}], ["Add", {}]),
  fc
    .tuple(
      fc.constantFrom("Softmax", "Concat", "ReduceMean", "ReduceMax", "ReduceSum", "ArgMax"),
      fc.integer({ min: -3, max: 3 }),
    )
    .map(
      ([op, axis]): Insertion => [
        op,
        op === "ReduceMean" || op === "ReduceMax" ? { axes: [axis] } : { axis },
      ],
    ),
  fc
    .constantFrom([1, 0, 2], [0, 2, 1], [2, 1, 0], [0, 2, 1, 3], [0, 1, 3, 2], [1, 0])
    .map((perm): Insertion => ["Transpose", { perm }]),
);

interface Change {
  readonly what: "insert" | "input" | "reverse" | "constant";
  readonly node: number;
  readonly name: string;
  readonly insertion: Insertion;
  readonly values: readonly number[];
}

/** Cases in which no two axes of an input are of one length: else a transposed graph may run with its rows elsewhere. */
const usable = cases.filter(
  ({ layout, inputs, states }) =>
    layout === 0 &&
    !inputs.lengths &&
    !states &&
    !inputs.h0 &&
    Object.values(inputs).every(({ shape }) => new Set(shape).size === shape.length),
);

const rewired = fc.constantFrom(...usable).chain((one) => {
  const { graph } = onnx.ModelProto.decode(bytesOf(one));
  const names = [...graph!.node!.flatMap(({ output }) => output!), ...graph!.input!.map(({ name }) => name!)];
  const change: fc.Arbitrary<Change> = fc.record({
    what: fc.constantFrom("insert", "insert", "input", "reverse", "constant"),
    node: fc.nat(graph!.node!.length - 1),
    name: fc.constantFrom(...names.filter((name) => name !== "")),
    insertion: insertions,
    values: fc.array(fc.integer({ min: -2, max: 3 }), { minLength: 1, maxLength: 3 }),
  });
  return fc.tuple(fc.constant(one), fc.array(change, { minLength: 1, maxLength: 3 }));
});

function rewire(one: Case, changes: readonly Change[]): Case {
  const { graph, ...model } = onnx.ModelProto.decode(bytesOf(one));
  const nodes = graph!.node!;
  changes.forEach(({ what, node: index, name, insertion, values }, i) => {
    const node = nodes[index]!;
    const attributes = node.attribute!;
    if (what === "input" && node.input!.length > 0)
      node.input![values[0]! < 0 ? 0 : values[0]! % node.input!.length] = name;
    if (
      what === "reverse" &&
      node.opType!.length < 5 &&
      attributes.every((attribute) => attribute.name !== "direction")
    ) {
      attributes.push({
        name: "direction",
        type: AttributeType.STRING,
        s: new TextEncoder().encode("reverse"),
      });
    }
    if (what === "constant") {
      const shapes = graph!.initializer!.filter(
        ({ dataType }) => dataType === onnx.TensorProto.DataType.INT64,
      );
      const shape = shapes[index % Math.max(1, shapes.length)];
      const length = (shape?.rawData?.length ?? 0) / 8;
      const changed = BigInt64Array.from({ length }, (_, at) => BigInt(values[at % values.length]!));
      if (shape && length > 0) shape.rawData = new Uint8Array(changed.buffer);
    }
    if (what !== "insert" || !node.input![0]) return;
    const [op, given] = insertion;
    const inputs = [
      node.input![0],
      ...(op === "Add" || op === "Concat" ? [values[0]! > 0 ? node.input![0] : name] : []),
    ];
    const attribute = Object.entries(given).map(([key, value]) =>
      typeof value === "number"
        ? { name: key, type: AttributeType.INT, i: value }
        : { name: key, type: AttributeType.INTS, ints: [...value] },
    );
    nodes.splice(index, 0, { opType: op, input: inputs, output: [`inserted${i}`], attribute });
    node.input![0] = `inserted${i}`;
  });
  const bytes = onnx.ModelProto.encode({ ...model, graph: graph! }).finish();
  return { ...one, model: Buffer.from(bytes).toString("base64") };
}

/** Values of all rows, sorted: a rewired graph may have its axes in another order. */
function sorted(values: Iterable<number>): number[] {
  return [...values].sort((a, b) => a - b);
}

/** How far cells are from the whole graph, where steps and rows of the inputs may have changed places. */
async function distance(
  one: Case,
  imported: ImportedModel,
  whole: Awaited<ReturnType<typeof runWhole>>,
): Promise<number> {
  const renamed = new Map(
    imported.notes.flatMap((note) => {
      const [, from, to] = /put '(.*)' is called '(.*)'/.exec(note) ?? [];
      return from === undefined ? [] : [[from, to!] as const];
    }),
  );
  const evaluator = await Evaluator.open(imported);
  try {
    let least = Number.POSITIVE_INFINITY;
    for (const swap of [
      { T: "T", B: "B" },
      { T: "B", B: "T" },
    ] as const) {
      const entries = Object.entries(one.inputs).map(
        ([name, stored]) =>
          [
            renamed.get(name) ?? name,
            { ...stored, axes: stored.axes.replace(/[TB]/g, (axis) => swap[axis as "T"]) },
          ] as const,
      );
      const inputs = Object.fromEntries(entries);
      const requests = lengthsOf({ ...one, inputs }).map((steps, row) =>
        Object.fromEntries(
          evaluator.model.inputs.map(({ name }) => [name, rowOf(inputs[name]!, row, steps)]),
        ),
      );
      const results = await evaluator.run(requests);
      const off = Object.entries(whole).map(([name, { data }]) => {
        const mine = results.flatMap((result) => result[renamed.get(name) ?? name]!.flat());
        return difference([sorted(mine)], [sorted(data)]);
      });
      least = Math.min(least, Math.max(...off));
    }
    return least;
  } finally {
    await evaluator.close();
  }
}

it("a graph that was rewired at random and can still be cut gives what the whole graph gives", async () => {
  let compared = 0;
  await fc.assert(
    fc.asyncProperty(rewired, async ([original, changes]) => {
      const one = rewire(original, changes);
      let imported: ImportedModel;
      try {
        imported = importOnnxBytes(bytesOf(one), {
          name: "rewired",
          form: "sequence",
          outputs: Object.keys(one.outputs),
        });
      } catch (error) {
        expect(error).toBeInstanceOf(Fault);
        return;
      }
      if (imported.lane === "graph") return;
      // What ONNX Runtime refuses, such as a product of shapes that do not fit, has nothing to be compared with.
      const whole = await runWhole(one).catch(() => undefined);
      if (!whole) return;
      compared++;
      expect(await distance(one, imported, whole)).toBeLessThan(1e-4);
    }),
    { numRuns: RUNS },
  );
  expect(compared).toBeGreaterThan(RUNS / 10);
}, 60_000);
