import { Matrix, solve } from "ml-matrix";
import type { Kernel } from "../../kernels/kernel.ts";
import { OnnxGraphKernel } from "../../kernels/onnx/onnx-graph.ts";
import type { ModelDefinition } from "../../models/definition.ts";
import { ProfileTable } from "../../planner/profile.ts";
import { CostCurve } from "../../scheduler/cost-curve.ts";
import { policies } from "../../scheduler/policy.ts";
import { wallClock } from "../core/clock.ts";
import type { Profile, ProfileOverheads } from "../core/profile.ts";
import { Engine } from "../engine/engine.ts";
import { GraphLane } from "../engine/graph-lane.ts";
import { kernelsFor } from "../engine/kernels.ts";
import { command, writeOptions } from "../engine/messages.ts";
import { loadModel } from "../engine/model.ts";
import { PacketWriter } from "../engine/packet.ts";
import { storedProfiles } from "../engine/stored-profile.ts";
import type { SizedRequest, SizedRequests } from "./sized-requests.ts";

/** What was done in one go: the engine's time without that of its kernels, and what it was spent on. */
export interface EngineSample {
  readonly us: number;
  /** Of the kernel's calls; what else there was is known no better than these. */
  readonly kernelUs: number;
  readonly requests: number;
  readonly tasks: number;
  /** Rows of tasks times their steps, or times the size that a whole graph is padded to. */
  readonly rows: number;
}

/**
 * Measures what an engine does besides calling its kernel, on the calling thread: requests that come together, few and many, short and
 * long. The time of a call is taken from the profile, so that what joining and leaving rows cost in the kernel counts too.
 */
export async function measureEngine(
  definition: ModelDefinition,
  profile: Profile,
  threads: number,
  { request, sizes, round: told }: SizedRequests,
): Promise<Pick<ProfileOverheads, "requestUs" | "taskUs" | "rowUs">> {
  const { engine, kernelUs } = await engineOf(definition, profile, threads);
  const goes = TOGETHER.flatMap((together) =>
    sizes.map((size) => ({ together, size, rounds: [] as EngineSample[] })),
  );
  try {
    let id = 0;
    const until = performance.now() + ENOUGH_MS;
    for (
      let round = 0;
      round < ENGINE_ROUNDS && (round < FEWEST_ROUNDS || performance.now() < until);
      round++
    ) {
      // One after the other in every round, so that what disturbs the machine for a while does not disturb one of them alone.
      for (const { together, size, rounds } of goes) {
        const packet = packetOf(
          definition,
          Array.from({ length: together }, () => request(id, size)),
          id,
        );
        id += together;
        const [calls, tasks, cells] = [kernelUs(), engine.tasks, engine.cells];
        const from = performance.now();
        engine.receive(packet);
        for (;;) {
          const stepped = engine.step();
          if (!(typeof stepped === "boolean" ? stepped : await stepped)) break;
          if (!engine.outbox.isEmpty) engine.outbox.take();
        }
        const allUs = (performance.now() - from) * 1000;
        const callsUs = kernelUs() - calls;
        rounds.push({
          us: allUs - callsUs,
          kernelUs: callsUs,
          requests: together,
          tasks: engine.tasks - tasks,
          rows: (engine.cells - cells) * (definition.program.kind === "graph" ? size : 1),
        });
        await new Promise((resolve) => setImmediate(resolve));
      }
      told();
    }
  } finally {
    await engine.dispose();
  }
  return fitEngine(
    goes.map(({ rounds }) => {
      // The first rounds are not compiled yet.
      const warm = rounds.slice(rounds.length / 3).sort((a, b) => a.us - b.us);
      return warm[Math.floor(warm.length / 2)]!;
    }),
  );
}

/**
 * Costs of a request, a task and a row that explain the samples best, each sample as a share of its whole time; none is
 * negative.
 */
export function fitEngine(
  samples: readonly EngineSample[],
): Pick<ProfileOverheads, "requestUs" | "taskUs" | "rowUs"> {
  const weights = samples.map(({ us, kernelUs }) => 1 / Math.max(1, us + kernelUs));
  const right = Matrix.columnVector(samples.map(({ us }, i) => us * weights[i]!));
  let used: readonly (keyof typeof NAMES)[] = ["requests", "tasks", "rows"];
  for (;;) {
    const left = new Matrix(samples.map((sample, i) => used.map((name) => sample[name] * weights[i]!)));
    const found = solve(left, right, true).to1DArray();
    const least = found.indexOf(Math.min(...found));
    if (found[least]! >= 0 || used.length === 1) {
      const costs = { requestUs: 0, taskUs: 0, rowUs: 0 };
      used.forEach((name, i) => {
        costs[NAMES[name]] = Math.max(0, found[i]!);
      });
      return costs;
    }
    used = used.filter((_, i) => i !== least);
  }
}

const NAMES = { requests: "requestUs", tasks: "taskUs", rows: "rowUs" } as const;

interface MeasuredEngine {
  readonly engine: Engine;
  /** What calls of its kernel have taken, in microseconds. */
  readonly kernelUs: () => number;
}

async function engineOf(
  definition: ModelDefinition,
  profile: Profile,
  threads: number,
): Promise<MeasuredEngine> {
  let us = 0;
  const settings = { policy: policies.cellular, clock: wallClock };
  const { program } = definition;
  if (program.kind === "graph") {
    const spec = definition.cells.find(({ name }) => name === program.cell)!;
    const lane = new GraphLane(definition, await OnnxGraphKernel.load(spec, { threads }));
    const run = lane.run.bind(lane);
    const table = new ProfileTable(profile, { threads });
    lane.run = (batch) => {
      us += table.us(batch.length, Math.max(...batch.map(({ steps }) => steps)));
      return run(batch);
    };
    lane.setBuffers([{ maxBatch: lane.maxBatch, timeoutMs: 0 }], true);
    return { engine: new Engine({ models: [lane], ...settings }), kernelUs: () => us };
  }
  const load = await kernelsFor({ device: "cpu", session: { threads } });
  const kernel: Kernel = await load(definition.cells);
  const curves = kernel.cells.map(({ name }) => {
    const cell = profile.cells.find((one) => one.cell === name)!;
    const settings = cell.settings.filter((one) => one.threads === threads);
    return new Map(
      settings.map(({ stepsPerCall, points }) => [
        stepsPerCall,
        new CostCurve(points.map((point) => [point.rows, point.us])),
      ]),
    );
  });
  const run = kernel.run.bind(kernel);
  kernel.run = (task) => {
    const curve = curves[task.cell]!.get(task.steps)!;
    us += curve.ms(Math.min(task.rows, curve.maxRows));
    return run(task);
  };
  const model = await loadModel(definition, kernel, { profiles: storedProfiles(profile, kernel, threads) });
  return { engine: new Engine({ models: [model], ...settings }), kernelUs: () => us };
}

function packetOf(
  { inputs }: ModelDefinition,
  requests: readonly SizedRequest[],
  firstId: number,
): ArrayBuffer {
  const writer = new PacketWriter();
  for (const [i, { inputs: tensors, maxSteps }] of requests.entries()) {
    writer.int(command.SUBMIT);
    writer.int(firstId + i);
    writer.int(0);
    writeOptions(writer, { ...WISHES, maxSteps });
    writer.int(inputs.length);
    for (const [input, { name }] of inputs.entries()) {
      const { shape, data } = tensors[name]!;
      writer.int(input);
      writer.tensor(shape, data);
    }
  }
  return writer.take();
}

const TOGETHER = [1, 4, 16, 48];
export const ENGINE_ROUNDS = 24;
/** Of models whose calls are long; these hide what else there is, and what interrupts. */
const FEWEST_ROUNDS = 6;
const ENOUGH_MS = 5000;
const WISHES = {
  priority: 5,
  timeoutMs: Number.POSITIVE_INFINITY,
  temperature: 0,
  topK: 0,
  topP: 1,
  seed: 0,
  stream: false,
  beamWidth: 0,
};
