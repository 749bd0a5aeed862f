import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import type { GraphKernel } from "../../kernels/graph-kernel.ts";
import { SimulatedKernel } from "../../kernels/simulated/simulated.ts";
import type { ModelDefinition } from "../../models/definition.ts";
import { CostCurve } from "../../scheduler/cost-curve.ts";
import { type PolicyName, policies } from "../../scheduler/policy.ts";
import { ManualClock } from "../../src/core/clock.ts";
import { float32, type Tensor } from "../../src/core/tensor.ts";
import { DecisionLog } from "../../src/engine/decision-log.ts";
import { Engine } from "../../src/engine/engine.ts";
import { GraphLane } from "../../src/engine/graph-lane.ts";
import { command, writeOptions } from "../../src/engine/messages.ts";
import { loadModel } from "../../src/engine/model.ts";
import { PacketWriter } from "../../src/engine/packet.ts";
import { RecordingFile } from "../../src/engine/recording-file.ts";
import { chainModel, listenerModel, treeModel, writerModel } from "../fixtures/models.ts";

/** What a caller does, `waitMs` after what was done before. */
export interface Act {
  readonly kind: "submit" | "cancel" | "pause" | "resume" | "push" | "end" | "fork" | "suspend" | "buffers";
  readonly model: number;
  /** Which request, from the latest back. */
  readonly back: number;
  readonly steps: number;
  readonly priority: number;
  readonly timeoutMs: number;
  readonly stream: boolean;
  readonly waitMs: number;
}

/** In the order of the numbers by which requests name them. */
const MODELS = [
  chainModel(),
  treeModel("with a head"),
  writerModel(9),
  listenerModel(),
  chainModel("all"),
  generating("stopping", {}),
  generating("searching", { beam: { width: 3, lengthPenalty: 0.6, nBest: 1 } }),
];
const SESSIONS = MODELS.findIndex(({ program }) => program.kind === "session");
const GRAPH = MODELS.length;

/** Writes until it draws one of its symbols. */
function generating(name: string, search: object): ModelDefinition {
  const model = writerModel(12);
  const program = { ...model.program, stop: 3, ...search } as ModelDefinition["program"];
  return { ...model, name, program };
}

export const anyAct: fc.Arbitrary<Act> = fc.record({
  kind: fc.constantFrom(
    ...(["submit", "submit", "submit", "submit", "push", "push"] as const),
    ...(["cancel", "pause", "resume", "end", "fork", "suspend", "buffers"] as const),
  ),
  model: fc.nat(GRAPH),
  back: fc.nat(4),
  steps: fc.integer({ min: 1, max: 12 }),
  priority: fc.constantFrom(1, 5, 5, 5, 9),
  timeoutMs: fc.constantFrom(Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY, 9),
  stream: fc.constantFrom(false, false, true),
  waitMs: fc.constantFrom(0, 0, 0, 1, 3, 20),
});

export interface RanBatch {
  readonly model: string;
  readonly cell: number;
  readonly rows: number;
  readonly steps: number;
}

export interface Recorded {
  readonly text: string;
  /** What kernels were asked for, in order. */
  readonly batches: readonly RanBatch[];
}

/** What a task takes, in milliseconds: whole thousandths. */
export const taskMs = (_: number, rows: number, steps: number) => steps * (1 + rows / 8);

class ToldKernel extends SimulatedKernel {
  constructor(
    { name, cells }: ModelDefinition,
    clock: ManualClock,
    tell: (batch: RanBatch) => void,
    isFailing: () => boolean,
  ) {
    super(cells, { maxBatch: 64, time: { clock, milliseconds: taskMs } });
    const run = this.run.bind(this);
    this.run = (task) => {
      if (isFailing()) throw new Error("a kernel that fails now and then");
      run(task);
      tell({ model: name, cell: task.cell, rows: task.rows, steps: task.steps });
    };
  }
}

const graph: ModelDefinition = {
  name: "graph",
  version: "1",
  description: "a model for tests",
  cells: [
    {
      name: "whole",
      inputs: [{ name: "x", dtype: "float32", shape: [-1, 2] }],
      reads: 0,
      writes: false,
      states: [],
      outputs: [{ name: "sum", dtype: "float32", shape: [] }],
      body: { kind: "none" },
    },
  ],
  program: {
    kind: "graph",
    cell: "whole",
    pad: {},
    order: "oldest",
    eager: false,
    buffers: [
      { upTo: 5, maxBatch: 3, timeoutMs: 4 },
      { maxBatch: 4, timeoutMs: 9 },
    ],
  },
  inputs: [{ name: "x", dtype: "float32", shape: [-1, 2] }],
  outputs: [{ name: "sum", dtype: "float32", shape: [] }],
};

class ToldGraph implements GraphKernel {
  readonly cell = graph.cells[0]!;
  readonly bytes = 0;
  readonly #clock: ManualClock;
  readonly #tell: (batch: RanBatch) => void;

  constructor(clock: ManualClock, tell: (batch: RanBatch) => void) {
    this.#clock = clock;
    this.#tell = tell;
  }

  run([x]: readonly Tensor[]): readonly Tensor[] {
    const [rows, steps] = x!.shape as [number, number];
    this.#clock.advance((rows * steps) / 8);
    this.#tell({ model: "graph", cell: 0, rows, steps: 1 });
    return [float32([rows], new Float32Array(rows))];
  }

  dispose(): void {}
}

export interface Wishes {
  readonly policy?: PolicyName;
  readonly maxBatch?: number;
  /** Calls of kernels that fail, from 0. */
  readonly failing?: readonly number[];
}

/** The recording of one engine that runs all kinds of models in virtual time, and is told these things. */
export async function recorded(acts: readonly Act[], wishes: Wishes = {}): Promise<Recorded> {
  const { policy = "cellular", maxBatch = 5, failing = [] } = wishes;
  const clock = new ManualClock();
  const folder = mkdtempSync(join(tmpdir(), "cellbatch-replay-"));
  try {
    const path = join(folder, "recording");
    const failed = (error: Error) => {
      throw error;
    };
    const log = new DecisionLog(new RecordingFile({ path, life: 0, failed }), clock, {
      policy,
      epochMs: 1e12,
    });
    const batches: RanBatch[] = [];
    let calls = 0;
    let isRunning = false;
    const tell = (batch: RanBatch) => isRunning && batches.push(batch);
    const isFailing = () => isRunning && failing.includes(calls++);
    const models = [];
    for (const definition of MODELS) {
      const kernel = new ToldKernel(definition, clock, tell, isFailing);
      const curve = new CostCurve([1, 2, 4, 8].map((rows) => [rows, taskMs(0, rows, 1)] as const));
      const profiles = definition.cells.map(() => ({ knee: maxBatch, stepMs: 1, maxStepRows: 2, curve }));
      models.push(await loadModel(definition, kernel, { maxBatch, profiles }));
    }
    const lane = new GraphLane(graph, new ToldGraph(clock, tell));
    const engine = new Engine({ models: [...models, lane], policy: policies[policy], clock, log });
    isRunning = true;
    drive(engine, clock, acts);
    await engine.remove(0);
    await engine.dispose();
    const session = { engines: 1, policy };
    const text = `cellbatch-recording 1\nsession ${JSON.stringify(session)}\n${readFileSync(path, "utf8")}`;
    return { text, batches };
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** Steps the engine as its thread does, and gives it each command between the two steps where it comes. */
function drive(engine: Engine, clock: ManualClock, acts: readonly Act[]): void {
  const runUntil = (untilMs: number) => {
    while (clock.now() < untilMs) {
      if (engine.step()) continue;
      const wakeMs = Math.min(untilMs, engine.nextWakeMs);
      clock.set(wakeMs);
    }
  };
  let submitted = 0;
  let atMs = clock.now();
  const sessions: number[] = [];
  for (const act of acts) {
    atMs += act.waitMs;
    runUntil(atMs);
    submitted = obey(engine, act, submitted, sessions);
  }
  const last = new PacketWriter();
  for (let id = 0; id < submitted; id++) {
    last.int(command.RESUME);
    last.int(id);
    if (!sessions.includes(id)) continue;
    last.int(command.CANCEL);
    last.int(id);
  }
  engine.receive(last.take());
  while (engine.active > 0) runUntil(clock.now() + 1);
  engine.outbox.take();
}

/** Answers how many requests there are now. */
function obey(engine: Engine, act: Act, submitted: number, sessions: number[]): number {
  const { kind, model, back, steps, ...wishes } = act;
  const options = {
    maxSteps: 9,
    temperature: 50,
    topK: 0,
    topP: 1,
    seed: submitted,
    beamWidth: 0,
    ...wishes,
  };
  const writer = new PacketWriter();
  let next = submitted;
  const session = sessions[sessions.length - 1 - back];
  if (kind === "submit") {
    writer.int(model === SESSIONS ? command.OPEN : command.SUBMIT);
    writer.int(next);
    writer.int(model);
    writeOptions(writer, options);
    if (model === SESSIONS) {
      sessions.push(next);
      writer.int(0);
    } else writeInputs(writer, model, steps);
    next++;
  } else if (kind === "buffers") {
    writer.int(command.BUFFERS);
    writer.int(0);
    writer.int(GRAPH);
    writer.int(steps % 2);
    writer.int(1);
    writer.int(-1);
    writer.int(1 + (steps % 4));
    writer.double(steps);
  } else if (kind === "cancel" || kind === "pause" || kind === "resume") {
    writer.int(command[kind === "cancel" ? "CANCEL" : kind === "pause" ? "PAUSE" : "RESUME"]);
    writer.int(Math.max(0, submitted - 1 - back));
  } else if (session !== undefined) {
    writer.int(command[kind.toUpperCase() as "PUSH" | "END" | "FORK" | "SUSPEND"]);
    writer.int(session);
    if (kind === "push") writeInputs(writer, SESSIONS, steps);
    if (kind === "fork") {
      sessions.push(next);
      writer.int(next++);
      writeOptions(writer, options);
    }
  }
  if (!writer.isEmpty) engine.receive(writer.take());
  return next;
}

function writeInputs(writer: PacketWriter, model: number, steps: number): void {
  const { inputs, program } = model === GRAPH ? graph : MODELS[model]!;
  writer.int(inputs.length);
  writer.int(0);
  const { dtype, shape } = inputs[0]!;
  if (dtype === "int32")
    writer.tensor(
      [steps],
      Int32Array.from({ length: steps }, (_, i) => i % 8),
    );
  else writer.tensor([steps, shape[1]!], new Float32Array(steps * shape[1]!));
  if (program.kind !== "tree") return;
  writer.int(1);
  // Each node has the one before it and a leaf.
  const children = Array.from({ length: steps - 1 }, (_, i) => [i === 0 ? 0 : steps + i - 1, i + 1]).flat();
  writer.tensor([steps - 1, 2], Int32Array.from(children));
}
