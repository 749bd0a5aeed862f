import { describe, expect, it } from "vitest";
import type { GraphKernel } from "../../kernels/graph-kernel.ts";
import type { ModelDefinition, WholeGraph } from "../../models/definition.ts";
import { policies } from "../../scheduler/policy.ts";
import type { CellSpec } from "../../src/core/cell.ts";
import { ManualClock } from "../../src/core/clock.ts";
import { faultCodes } from "../../src/core/faults.ts";
import { float32, int32, type Tensor } from "../../src/core/tensor.ts";
import { Engine } from "../../src/engine/engine.ts";
import { GraphLane } from "../../src/engine/graph-lane.ts";
import { command, event, writeOptions } from "../../src/engine/messages.ts";
import { PacketReader, PacketWriter } from "../../src/engine/packet.ts";

/** Doubles `x [-1, 2]` and sums it over all steps, padding included. Refuses values of 99. */
const cell: CellSpec = {
  name: "graph",
  inputs: [
    { name: "x", dtype: "float32", shape: [-1, 2] },
    { name: "columns", dtype: "int32", shape: [2, -1] },
    { name: "lengths", dtype: "int32", shape: [] },
    { name: "mask", dtype: "float32", shape: [-1] },
  ],
  reads: 0,
  writes: false,
  states: [],
  outputs: [
    { name: "doubled", dtype: "float32", shape: [-1, 2] },
    { name: "columns", dtype: "int32", shape: [2, -1] },
    { name: "half", dtype: "float32", shape: [-1] },
    { name: "sum", dtype: "float32", shape: [] },
  ],
  body: { kind: "none" },
};

class TestKernel implements GraphKernel {
  readonly cell = cell;
  readonly bytes = 0;
  readonly batches: { readonly shape: readonly number[]; readonly inputs: readonly (readonly number[])[] }[] =
    [];
  readonly #clock: ManualClock;

  constructor(clock: ManualClock) {
    this.#clock = clock;
  }

  run(inputs: readonly Tensor[]): readonly Tensor[] {
    const [x, columns] = inputs as [Tensor, Tensor];
    const [rows, steps] = x.shape as [number, number];
    this.batches.push({ shape: [rows, steps], inputs: inputs.map(({ data }) => [...data]) });
    this.#clock.advance(3);
    if (x.data.includes(99)) throw new Error("99 is not liked");
    const sums = Float32Array.from({ length: rows }, (_, row) =>
      [...x.data.subarray(row * steps * 2, (row + 1) * steps * 2)].reduce((a, b) => a + b, 0),
    );
    const half = Math.ceil(steps / 2);
    return [
      float32(
        [rows, steps, 2],
        (x.data as Float32Array).map((value) => 2 * value),
      ),
      int32([rows, 2, steps], columns.data as Int32Array),
      float32([rows, half], new Float32Array(rows * half).fill(7)),
      float32([rows], sums),
    ];
  }

  dispose(): void {}
}

interface Outcome {
  readonly outputs?: readonly { readonly shape: readonly number[]; readonly values: readonly number[] }[];
  readonly queueMs?: number;
  readonly computeMs?: number;
  readonly code?: string;
  readonly message?: string;
}

/** An engine that serves one graph, with a clock that moves by hand. */
function serve(settings: Partial<WholeGraph> = {}) {
  const clock = new ManualClock();
  const kernel = new TestKernel(clock);
  const program: WholeGraph = {
    kind: "graph",
    cell: "graph",
    lengths: "lengths",
    mask: "mask",
    pad: { x: -1 },
    order: "oldest",
    eager: false,
    buffers: [{ maxBatch: 4, timeoutMs: 10 }],
    ...settings,
  };
  const definition: ModelDefinition = {
    name: "whole",
    version: "1",
    description: "",
    cells: [cell],
    program,
    inputs: cell.inputs.slice(0, 2),
    outputs: cell.outputs,
  };
  const lane = new GraphLane(definition, kernel);
  const engine = new Engine({ models: [lane], policy: policies.cellular, clock });
  const outcomes = new Map<number, Outcome>();
  const submit = (
    id: number,
    steps: number,
    wishes: { timeoutMs?: number; priority?: number; value?: number } = {},
  ) => {
    const { timeoutMs = Number.POSITIVE_INFINITY, priority = 5, value = id } = wishes;
    const writer = new PacketWriter();
    writer.int(command.SUBMIT);
    writer.int(id);
    writer.int(0);
    writeOptions(writer, {
      priority,
      timeoutMs,
      maxSteps: 1,
      temperature: 0,
      topK: 0,
      topP: 1,
      seed: 0,
      beamWidth: 0,
      stream: false,
    });
    writer.int(2);
    writer.int(0);
    writer.tensor([steps, 2], new Float32Array(2 * steps).fill(value));
    writer.int(1);
    writer.tensor(
      [2, steps],
      Int32Array.from({ length: 2 * steps }, (_, i) => i),
    );
    engine.receive(writer.take());
  };
  const tell = (kind: number, id: number) => {
    const writer = new PacketWriter();
    writer.int(kind);
    writer.int(id);
    engine.receive(writer.take());
  };
  const hear = () => {
    const reader = new PacketReader(engine.outbox.take());
    while (!reader.isDone) {
      const kind = reader.int();
      const id = reader.int();
      expect(outcomes.has(id), `request ${id} ended twice`).toBe(false);
      if (kind === event.FAILED)
        outcomes.set(id, { code: faultCodes[reader.int()]!, message: reader.text() });
      else {
        expect([kind, reader.int()]).toEqual([event.DONE, 1]);
        const times = { queueMs: reader.double(), computeMs: reader.double() };
        const outputs = Array.from({ length: reader.int() }, () => {
          reader.int();
          const { shape, data } = reader.tensor();
          return { shape, values: [...data] };
        });
        outcomes.set(id, { ...times, outputs });
      }
    }
    return outcomes;
  };
  return { clock, kernel, engine, submit, tell, hear };
}

it("runs a graph once over one step of zeros before the first request, whether it likes them or not", async () => {
  const kernel = new TestKernel(new ManualClock());
  const definition: ModelDefinition = {
    name: "whole",
    version: "1",
    description: "",
    cells: [cell],
    program: {
      kind: "graph",
      cell: "graph",
      lengths: "lengths",
      mask: "mask",
      pad: {},
      order: "oldest",
      eager: false,
      buffers: [{ maxBatch: 4, timeoutMs: 10 }],
    },
    inputs: cell.inputs.slice(0, 2),
    outputs: cell.outputs,
  };
  await new GraphLane(definition, kernel).warmUp();
  expect(kernel.batches).toEqual([{ shape: [1, 1], inputs: [[0, 0], [0, 0], [1], [1]] }]);
  kernel.run = () => {
    throw new Error("zeros are not liked");
  };
  await new GraphLane(definition, kernel).warmUp();
});

describe("a graph's requests", () => {
  it("go over to other buffers with the time that they have waited, and none is lost", () => {
    const { clock, kernel, engine, submit, hear } = serve();
    submit(1, 2);
    clock.advance(4);
    submit(2, 3);
    submit(3, 1);
    const writer = new PacketWriter();
    for (const value of [command.BUFFERS, 0, 0, 0, 2, 1, 8]) writer.int(value);
    writer.double(30);
    for (const value of [-1, 2]) writer.int(value);
    writer.double(6);
    engine.receive(writer.take());
    expect(engine.step()).toBe(true);
    expect(kernel.batches.map(({ shape }) => shape)).toEqual([[2, 3]]);
    expect(engine.step()).toBe(false);
    expect(engine.nextWakeMs).toBe(34);
    clock.set(34);
    expect(engine.step()).toBe(true);
    expect([...hear().keys()].sort()).toEqual([1, 2, 3]);
  });

  it("wait for each other, are padded to the longest and get their own part of the outputs", () => {
    const { clock, kernel, engine, submit, hear } = serve();
    submit(1, 2);
    submit(2, 3);
    expect(engine.step()).toBe(false);
    expect(engine.nextWakeMs).toBe(clock.now() + 10);
    clock.advance(10);
    expect(engine.step()).toBe(true);
    expect(kernel.batches).toEqual([
      {
        shape: [2, 3],
        inputs: [
          [1, 1, 1, 1, -1, -1, 2, 2, 2, 2, 2, 2],
          [0, 1, 0, 2, 3, 0, 0, 1, 2, 3, 4, 5],
          [2, 3],
          [1, 1, 0, 1, 1, 1],
        ],
      },
    ]);
    const [first, second] = [hear().get(1)!, hear().get(2)!];
    expect(first.outputs).toEqual([
      { shape: [2, 2], values: [2, 2, 2, 2] },
      { shape: [2, 2], values: [0, 1, 2, 3] },
      { shape: [2], values: [7, 7] },
      { shape: [], values: [2] },
    ]);
    expect(second.outputs![1]).toEqual({ shape: [2, 3], values: [0, 1, 2, 3, 4, 5] });
    expect([first.queueMs, first.computeMs]).toEqual([10, 3]);
    expect(engine.active).toBe(0);
  });

  it("keep the same share of an output with fewer steps than the batch", () => {
    const { kernel, engine, submit, hear } = serve({ buffers: [{ maxBatch: 2, timeoutMs: 0 }] });
    submit(1, 3);
    submit(2, 8);
    engine.step();
    expect(kernel.batches).toHaveLength(1);
    expect(hear().get(1)!.outputs![2]!.shape).toEqual([2]);
    expect(hear().get(2)!.outputs![2]!.shape).toEqual([4]);
  });

  it("run with others of their length only, where there are buffers for lengths", () => {
    const buffers = [
      { upTo: 4, maxBatch: 8, timeoutMs: 5 },
      { maxBatch: 8, timeoutMs: 5 },
    ];
    const { clock, kernel, engine, submit } = serve({ buffers });
    for (const [id, steps] of [2, 9, 4, 5].entries()) submit(id, steps);
    clock.advance(5);
    expect([engine.step(), engine.step(), engine.step()]).toEqual([true, true, false]);
    expect(kernel.batches.map(({ shape }) => shape)).toEqual([
      [2, 4],
      [2, 9],
    ]);
  });

  it("do not wait for an idle engine where the lane is eager", () => {
    const { kernel, engine, submit } = serve({ eager: true });
    submit(1, 2);
    expect(engine.step()).toBe(true);
    expect(kernel.batches).toHaveLength(1);
  });

  it("go in the order of their classes", () => {
    const { kernel, engine, submit } = serve({ buffers: [{ maxBatch: 2, timeoutMs: 0 }] });
    submit(1, 1);
    submit(2, 1);
    submit(3, 1, { priority: 1 });
    engine.step();
    expect(kernel.batches[0]!.inputs[0]).toEqual([3, 3, 1, 1]);
  });

  it("leave when they are cancelled or late", () => {
    const { clock, kernel, engine, submit, tell, hear } = serve();
    submit(1, 2);
    submit(2, 2, { timeoutMs: 4 });
    tell(command.CANCEL, 1);
    tell(command.PAUSE, 2);
    clock.advance(4);
    expect(engine.nextWakeMs).toBeLessThanOrEqual(clock.now());
    expect(engine.step()).toBe(false);
    expect(hear().get(1)!.code).toBe("CANCELLED");
    expect(hear().get(2)!.code).toBe("DEADLINE_EXCEEDED");
    expect(kernel.batches).toEqual([]);
    expect(engine.nextWakeMs).toBe(Number.POSITIVE_INFINITY);
  });

  it("end alone where one of a batch is at fault", async () => {
    const { engine, submit, hear } = serve({ buffers: [{ maxBatch: 3, timeoutMs: 0 }] });
    submit(1, 2);
    submit(2, 2, { value: 99 });
    submit(3, 2);
    expect(await engine.step()).toBe(true);
    expect(hear().get(2)).toEqual({
      code: "INTERNAL",
      message: "the graph of model 'whole' failed: 99 is not liked",
    });
    expect([hear().get(1)!.outputs![0]!.values, hear().get(3)!.outputs![3]!.values]).toEqual([
      [2, 2, 2, 2],
      [12],
    ]);
  });

  it("are refused where inputs have no steps or differ", () => {
    const { engine, submit, hear } = serve();
    submit(1, 0);
    expect(hear().get(1)).toEqual({
      code: "INVALID_INPUT",
      message: "input 'x' of model 'whole' has no steps",
    });
    expect(engine.active).toBe(0);
  });
});
