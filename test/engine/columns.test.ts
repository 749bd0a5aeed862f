import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { Kernel, KernelTask } from "../../kernels/kernel.ts";
import { SimulatedKernel } from "../../kernels/simulated/simulated.ts";
import type { ModelDefinition } from "../../models/definition.ts";
import { policies } from "../../scheduler/policy.ts";
import { ManualClock } from "../../src/core/clock.ts";
import { Engine } from "../../src/engine/engine.ts";
import { command, writeOptions } from "../../src/engine/messages.ts";
import { loadModel } from "../../src/engine/model.ts";
import { PacketWriter } from "../../src/engine/packet.ts";
import { lstmCell, treeModel } from "../fixtures/models.ts";

const ABOUT = { version: "1", description: "a model for tests" };
/** As many as `treeModel` has. */
const SYMBOLS = 9;

const tokenChain: ModelDefinition = {
  ...ABOUT,
  name: "tokens",
  cells: [lstmCell("cell", { hidden: 3, input: 2, symbols: SYMBOLS })],
  program: { kind: "chain", cell: "cell", collect: "last" },
  inputs: [{ name: "token", dtype: "int32", shape: [-1] }],
  outputs: [{ name: "h", dtype: "float32", shape: [3] }],
};

const vectorChain: ModelDefinition = {
  ...ABOUT,
  name: "vectors",
  cells: [lstmCell("cell", { hidden: 3, input: 2 })],
  program: { kind: "chain", cell: "cell", collect: "last" },
  inputs: [{ name: "x", dtype: "float32", shape: [-1, 2] }],
  outputs: [{ name: "h", dtype: "float32", shape: [3] }],
};

/** What a caller does, at its place among the tasks. */
interface Act {
  readonly kind: "submit" | "cancel" | "pause" | "resume";
  /** Which request, from the latest back. */
  readonly back: number;
  readonly steps: number;
  readonly token: number;
  readonly priority: number;
  readonly timeoutMs: number;
  readonly stream: boolean;
  /** Tasks that run before the next one. */
  readonly tasks: number;
}

const act: fc.Arbitrary<Act> = fc.record({
  kind: fc.constantFrom("submit", "submit", "submit", "submit", "cancel", "pause", "resume"),
  back: fc.nat(5),
  steps: fc.integer({ min: 0, max: 40 }),
  // Now and then no token at all.
  token: fc.integer({ min: 0, max: SYMBOLS }),
  priority: fc.constantFrom(1, 5, 5, 5, 9),
  timeoutMs: fc.constantFrom(Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY, 7),
  stream: fc.constantFrom(false, false, false, true),
  tasks: fc.nat(4),
});

/** A kernel that fails a task now and then, whatever the engine. */
class FailingKernel extends SimulatedKernel {
  readonly #failing: ReadonlySet<number>;
  #runs = 0;

  constructor(model: ModelDefinition, clock: ManualClock, failing: ReadonlySet<number>) {
    const milliseconds = (_: number, rows: number, steps: number) => steps + rows / 8;
    super(model.cells, { maxBatch: 64, time: { clock, milliseconds } });
    this.#failing = failing;
  }

  override run(task: KernelTask): void {
    if (this.#failing.has(this.#runs++)) throw new Error(`run ${this.#runs} failed`);
    super.run(task);
  }
}

/** Every packet that an engine answers to these acts; `asObjects` where no request may be a row of numbers. */
async function answers(
  model: ModelDefinition,
  acts: readonly Act[],
  failing: readonly number[],
  asObjects: "as objects" | "as numbers",
): Promise<readonly number[][]> {
  const clock = new ManualClock();
  // Loading runs cells as well, which is no matter of the acts.
  let kernel: Kernel = new FailingKernel(model, clock, new Set());
  const profiles = model.cells.map(() => ({ knee: 5, stepMs: 1, maxStepRows: 2 }));
  const loaded = await loadModel(model, kernel, { maxBatch: 5, profiles });
  kernel = new FailingKernel(model, clock, new Set(failing));
  kernel.reserve(loaded.reserved);
  const served = asObjects === "as objects" ? { ...loaded, kernel, plan: undefined } : { ...loaded, kernel };
  const engine = new Engine({ models: [served], policy: policies.cellular, clock });
  const packets: number[][] = [];
  const step = () => {
    const ran = engine.step();
    packets.push([...new Int32Array(engine.outbox.take())], [engine.active]);
    return ran;
  };
  let submitted = 0;
  for (const { kind, back, tasks, ...wishes } of acts) {
    const writer = new PacketWriter();
    if (kind === "submit") submit(writer, model, submitted++, wishes);
    else {
      writer.int(command[kind === "cancel" ? "CANCEL" : kind === "pause" ? "PAUSE" : "RESUME"]);
      writer.int(Math.max(0, submitted - 1 - back));
    }
    engine.receive(writer.take());
    for (let task = 0; task < tasks; task++) step();
  }
  for (let id = 0; id < submitted; id++) {
    const writer = new PacketWriter();
    writer.int(command.RESUME);
    writer.int(id);
    engine.receive(writer.take());
  }
  while (step());
  expect(engine.active).toBe(0);
  // All that is left is the zero slot and those before it.
  expect(served.slots - served.freeSlots.length).toBe(served.zeroSlot + 1);
  return packets;
}

function submit(
  writer: PacketWriter,
  model: ModelDefinition,
  id: number,
  { steps, token, ...wishes }: Omit<Act, "kind" | "back" | "tasks">,
): void {
  const rest = { maxSteps: 9, temperature: 0, topK: 0, topP: 1, seed: 0, beamWidth: 0 };
  writer.int(command.SUBMIT);
  writer.int(id);
  writer.int(0);
  writeOptions(writer, { ...rest, ...wishes });
  writer.int(model.inputs.length);
  writer.int(0);
  if (model.program.kind === "tree") {
    writer.tensor(
      [steps],
      Int32Array.from({ length: steps }, (_, i) => (token + i * id) % SYMBOLS),
    );
    writer.int(1);
    const children = someTree(steps, token);
    // Token 1 stands for a child that comes twice, token 2 for one that is not there.
    if (token === 1 && steps > 2) children[1] = children[0]!;
    if (token === 2 && steps > 1) children[0] = -1;
    writer.tensor([Math.max(0, steps - 1), 2], children);
  } else if (model.inputs[0]!.dtype === "int32")
    writer.tensor(
      [steps],
      Int32Array.from({ length: steps }, (_, i) => (i === 0 ? token : (token + i * id) % SYMBOLS)),
    );
  else
    writer.tensor(
      [steps, 2],
      Float32Array.from({ length: 2 * steps }, (_, i) => token + i + id),
    );
}

/** The children of the nodes of a binary tree with so many leaves, another one for every seed. */
function someTree(leaves: number, seed: number): Int32Array {
  const open = Array.from({ length: leaves }, (_, leaf) => leaf);
  const children: number[] = [];
  for (let node = leaves; open.length > 1; node++) {
    const at = (seed * 7 + node) % (open.length - 1);
    children.push(...open.splice(at, 2, node));
  }
  return Int32Array.from(children);
}

describe("requests that are rows of numbers", () => {
  for (const model of [tokenChain, vectorChain, treeModel("with a head"), treeModel("without a head")]) {
    it(`are answered as objects are, word for word, whatever happens to them (${model.name})`, async () => {
      await fc.assert(
        fc.asyncProperty(
          fc.array(act, { minLength: 1, maxLength: 30 }),
          fc.uniqueArray(fc.nat(40), { maxLength: 3 }),
          async (acts, failing) => {
            const expected = await answers(model, acts, failing, "as objects");
            expect(await answers(model, acts, failing, "as numbers")).toEqual(expected);
          },
        ),
      );
    });
  }
});
