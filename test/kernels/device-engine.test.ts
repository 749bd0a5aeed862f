import fc from "fast-check";
import { describe, expect, it, onTestFinished } from "vitest";
import type { CommandWriter } from "../../kernels/native/commands.ts";
import { DeviceEngine, type DeviceEngineOptions } from "../../kernels/native/device-engine.ts";
import { createNativeKernel } from "../../kernels/native/kernel.ts";
import { type DeviceChoice, loadEmulated, loadNative, nativeStatus } from "../../kernels/native/load.ts";
import { contractCells } from "../contracts/kernel.ts";
import { gruCell, noise } from "../fixtures/models.ts";
import { type Command, EngineOracle } from "./device-engine-oracle.ts";

const HIDDEN = 6;
const TOKENS = 12;
const SLOTS = 10;
const cells = [...contractCells.slice(0, 6), gruCell("gru", HIDDEN, 4)];
const [FIRST, SECOND, LEAF, NODE, HEAD, VECTORS, GRU] = [0, 1, 2, 3, 4, 5, 6] as const;
const GPUS = (["emulated", "cuda"] as const).flatMap((device) =>
  (["fp32", "tf32", "bf16"] as const).map((numbers): DeviceChoice => ({ device, numbers })),
);
const { reason: cuda, message, vectorBits } = nativeStatus();

const devices: readonly DeviceChoice[] = [
  { device: "reference" },
  ...([256, 512] as const).flatMap((bits): DeviceChoice[] =>
    bits <= vectorBits ? [{ device: "cpu", vectorBits: bits }] : [],
  ),
  ...GPUS.filter(({ device }) => (device === "cuda" ? cuda === "ok" : loadEmulated())),
];

describe.skipIf(!loadNative())(`a device engine (${message})`, () => {
  it.each(devices)(
    "on $device $vectorBits $numbers does what the oracle does, bit for bit",
    async (choice) => {
      const kernel = await createNativeKernel({ ...choice, maxBatch: 1 })(cells);
      onTestFinished(() => kernel.dispose());
      await fc.assert(
        fc.asyncProperty(
          settings,
          fc.array(submissions, { minLength: 1, maxLength: 12 }),
          async (setting, plan) => {
            const oracle = new EngineOracle(kernel, setting.rows, setting.treeSlots);
            const engine = open({ ...choice, ...setting });
            try {
              await replay(engine, oracle, setting, plan);
            } finally {
              engine.close();
            }
          },
        ),
        { numRuns: choice.device === "emulated" ? 20 : 150 },
      );
    },
  );

  it("refuses commands that are none, by the value, and goes on", async () => {
    const engine = open({ device: "reference", rows: 2, treeSlots: 3 });
    onTestFinished(() => engine.close());
    const inputs = Int32Array.of(1);
    const refusals: readonly [write: (commands: CommandWriter) => void, words: RegExp][] = [
      [(to) => to.admit(SLOTS, { cell: FIRST, steps: 1, inputs }), /slot 10 is not 0 to 9/],
      [(to) => to.admit(0, { cell: LEAF, steps: 1, inputs }), /cell 2 is none that runs in a chain/],
      [(to) => to.admit(0, { cell: 7, steps: 1, inputs }), /cell 7 is not 0 to 6/],
      [(to) => to.admit(0, { cell: FIRST, steps: 1, inputs: Int32Array.of(5) }), /token 5 is not 0 to 4/],
      [(to) => to.admit(0, { cell: FIRST, steps: 2, inputs }), /ADMIT of 13 words should have 14/],
      [(to) => to.admit(0, { cell: FIRST, steps: 0, inputs: Int32Array.of() }), /steps 0 is not 1 to/],
      [(to) => to.admit(3, { cell: FIRST, steps: 1, inputs, follows: 3 }), /slot 3 cannot follow itself/],
      [
        (to) => to.admit(0, { cell: FIRST, steps: 1, inputs, generate: { most: 2 } }),
        /does not read and give/,
      ],
      [
        (to) => to.admit(0, { cell: SECOND, steps: 1, inputs, generate: { most: 13 } }),
        /tokens 13 is not 1 to 12/,
      ],
      [(to) => to.limitSteps(0, 0), /steps 0 is not 1 to/],
      [(to) => to.tree(0, treeWith([0, 0])), /part 0 of a tree has two parents/],
      [(to) => to.tree(0, treeWith([0, 2])), /child 2 is not 0 to 1/],
    ];
    for (const [write, words] of refusals) {
      write(engine.commands);
      expect(() => engine.submit(1)).toThrow(words);
    }
    engine.commands.admit(0, { cell: FIRST, steps: 1, inputs });
    engine.submit(1);
    await engine.drain();
    expect(engine.poll(() => {})).toBe(1);
  });

  it("fails in words when a slot is admitted whose request has not ended", async () => {
    const engine = open({ device: "reference", rows: 2, treeSlots: 0 });
    onTestFinished(() => engine.close());
    for (let i = 0; i < 2; i++)
      engine.commands.admit(4, { cell: FIRST, steps: 3, inputs: Int32Array.of(1, 2, 3) });
    engine.submit(1);
    await expect(engine.drain()).rejects.toThrow("slot 4 was admitted again before its request had ended");
    expect(() => engine.submit(1)).toThrow("the device failed");
  });

  it("hands out each slot once until it is released", () => {
    const engine = open({ device: "reference", rows: 2, treeSlots: 0 });
    onTestFinished(() => engine.close());
    const taken = Array.from({ length: SLOTS }, () => engine.take());
    expect(new Set(taken)).toEqual(new Set(Array.from({ length: SLOTS }, (_, slot) => slot)));
    expect(engine.take()).toBeUndefined();
    engine.release(6);
    expect(engine.take()).toBe(6);
  });

  it("ends what waits when it is closed in the middle of its steps", async () => {
    const engine = open({ device: "reference", rows: 2, treeSlots: 0 });
    engine.commands.admit(0, { cell: FIRST, steps: 5000, inputs: new Int32Array(5000) });
    for (let i = 0; i < 10; i++) engine.submit(500);
    const drained = engine.drain();
    engine.close();
    await expect(drained).rejects.toThrow("the device engine was closed");
    expect(() => engine.submit(1)).toThrow("the device engine was closed");
    expect(engine.outputs).toHaveLength(SLOTS * engine.width);
  });
});

interface Setting {
  readonly rows: number;
  readonly treeSlots: number;
  /** Steps of a submission at most, and submissions in flight. */
  readonly k: number;
  readonly depth: number;
}

const settings = fc.record({
  rows: fc.integer({ min: 1, max: 5 }),
  treeSlots: fc.integer({ min: 4, max: 9 }),
  k: fc.integer({ min: 1, max: 9 }),
  depth: fc.integer({ min: 0, max: 3 }),
});

const slot = fc.nat(SLOTS - 1);
const values = (seed: number, count: number) => noise(count, seed);
const generate = fc.record(
  {
    most: fc.integer({ min: 1, max: TOKENS }),
    stop: fc.integer({ min: 0, max: 2 }),
    sampling: fc.record({
      temperature: fc.constantFrom(0.5, 1, 4),
      topK: fc.integer({ min: 0, max: 4 }),
      topP: fc.constantFrom(1, 0.75),
    }),
    seed: fc.integer(),
  },
  { requiredKeys: ["most"] },
);
const chain = fc
  .record({
    cell: fc.constantFrom(FIRST, SECOND, VECTORS, GRU),
    steps: fc.integer({ min: 1, max: 8 }),
    seed: fc.nat(1000),
    generate: fc.option(generate, { nil: undefined }),
    begins: fc.constantFrom("zero", "zero", "state", "follows" as const),
    follows: slot,
  })
  .map(({ cell, steps, seed, generate, begins, follows }) => ({
    cell,
    steps,
    inputs:
      cell === FIRST || cell === SECOND
        ? Int32Array.from({ length: steps }, (_, i) => (seed * 7 + i * 3) % 5)
        : values(seed, 4 * steps),
    ...(cell === SECOND && generate && { generate }),
    ...(begins === "state" && { state: values(seed + 1, 2 * HIDDEN) }),
    ...(begins === "follows" && { follows }),
  }));
const tree = fc
  .record({ leaves: fc.integer({ min: 1, max: 4 }), seed: fc.nat(1000), hasHead: fc.boolean() })
  .map(({ leaves, seed, hasHead }) => ({
    ...{ leafCell: LEAF, nodeCell: NODE, leaves, inputs: values(seed, 4 * leaves) },
    ...(hasHead && { headCell: HEAD }),
    children: treeOf(leaves, seed),
  }));
/** Of an admission, `slot` is where the search for a free one begins. */
const command: fc.Arbitrary<Command> = fc.oneof(
  { weight: 5, arbitrary: fc.record({ op: fc.constant("admit" as const), slot, chain }) },
  { weight: 2, arbitrary: fc.record({ op: fc.constant("tree" as const), slot, tree }) },
  { weight: 1, arbitrary: fc.record({ op: fc.constant("cancel" as const), slot }) },
  {
    weight: 1,
    arbitrary: fc.record({ op: fc.constant("limit" as const), slot, steps: fc.integer({ min: 1, max: 9 }) }),
  },
);
const submissions = fc.record({
  commands: fc.array(command, { maxLength: 7 }),
  steps: fc.integer({ min: 0, max: 14 }),
});

function treeWith(children: readonly number[]) {
  const inputs = values(1, 8);
  return { leafCell: LEAF, nodeCell: NODE, leaves: 2, inputs, children: Int32Array.from(children) };
}

/** Joins two parts at a time until one is left. */
function treeOf(leaves: number, seed: number): Int32Array {
  const open = Array.from({ length: leaves }, (_, leaf) => leaf);
  const children: number[] = [];
  for (let part = leaves; open.length > 1; part++) {
    for (const draw of [seed, seed >> 3]) children.push(...open.splice(draw % open.length, 1));
    open.push(part);
  }
  return Int32Array.from(children);
}

function open(setting: DeviceChoice & Pick<Setting, "rows" | "treeSlots">): DeviceEngine {
  const options: DeviceEngineOptions = { ...setting, slots: SLOTS, tokens: TOKENS };
  return DeviceEngine.open(cells, options);
}

interface Submission {
  readonly commands: readonly Command[];
  readonly steps: number;
}

/** Gives both the same commands and steps, and compares every ending with its outputs. */
async function replay(
  engine: DeviceEngine,
  oracle: EngineOracle,
  { k, depth }: Setting,
  plan: readonly Submission[],
): Promise<void> {
  const free = new Set(Array.from({ length: SLOTS }, (_, slot) => slot));
  /** What was submitted: when it is done, and how many requests have ended then. */
  const turns: { readonly done: Promise<void>; readonly endings: number }[] = [];
  let [admitted, compared, released] = [0, 0, 0];
  const compare = () =>
    engine.poll((...entry) => {
      const expected = oracle.endings[compared++]!;
      expect(entry).toEqual(expected.entry);
      const [slot, , tokens] = entry;
      const at = slot * engine.mostTokens;
      expect([...engine.tokens.subarray(at, at + tokens)]).toEqual(expected.tokens);
      if (expected.state) expect(outputs(engine, slot, 0, 2 * HIDDEN)).toEqual([...expected.state]);
      if (expected.logits) expect(outputs(engine, slot, 2 * HIDDEN, 3)).toEqual([...expected.logits]);
    });
  const submit = async ({ commands, steps }: Submission) => {
    const past = turns[turns.length - 1 - depth];
    await past?.done;
    compare();
    for (; released < (past?.endings ?? 0); released++) free.add(oracle.endings[released]!.entry[0]!);
    for (const given of commands) {
      const slot = placeOf(given, free);
      if (slot === undefined) continue;
      const command = { ...given, slot };
      if (isAdmission(command)) admitted++;
      free.delete(slot);
      write(engine.commands, command);
      oracle.apply(command);
    }
    let left = steps;
    for (; left > k; left -= k) engine.submit(k);
    const done = new Promise<void>((resolve) => engine.submit(left, resolve));
    for (let i = 0; i < steps; i++) oracle.step();
    turns.push({ done, endings: oracle.endings.length });
  };
  for (const submission of plan) await submit(submission);
  while (oracle.open > 0) await submit({ commands: [], steps: 20 });
  await engine.drain();
  compare();
  expect(oracle.endings).toHaveLength(admitted);
  expect(compared).toBe(admitted);
  expect(engine.counter("rows")).toBe(oracle.rowsRun);
  expect(engine.counter("steps")).toBe(oracle.steps);
  expect(engine.counter("waiting")).toBe(0);
}

function isAdmission({ op }: Command): boolean {
  return op === "admit" || op === "tree";
}

/** The slot of a command: an admission takes the next free one, and none where that would follow itself. */
function placeOf(command: Command, free: ReadonlySet<number>): number | undefined {
  if (!isAdmission(command)) return command.slot;
  const slot = [...free].sort((a, b) => a - b).find((one) => one >= command.slot) ?? [...free][0];
  return command.op === "admit" && command.chain.follows === slot ? undefined : slot;
}

function write(commands: CommandWriter, command: Command): void {
  if (command.op === "admit") commands.admit(command.slot, command.chain);
  else if (command.op === "tree") commands.tree(command.slot, command.tree);
  else if (command.op === "cancel") commands.cancel(command.slot);
  else commands.limitSteps(command.slot, command.steps);
}

function outputs(engine: DeviceEngine, slot: number, from: number, count: number): number[] {
  const at = slot * engine.width + from;
  return [...engine.outputs.subarray(at, at + count)];
}
