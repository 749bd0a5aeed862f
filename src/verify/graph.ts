import { OnnxGraphKernel } from "../../kernels/onnx/onnx-graph.ts";
import type { ModelDefinition, WholeGraph } from "../../models/definition.ts";
import { sizeOf, type Tensor } from "../core/tensor.ts";
import { GraphLane, type GraphRequest } from "../engine/graph-lane.ts";
import type { EngineOptions } from "../engine/messages.ts";
import { type Finding, Worst } from "./cells.ts";

const ROWS = 16;
const LONGEST = 24;
/** Sums over padded rows may be taken in another order. */
export const GRAPH_TOLERANCE = 1e-5;

/**
 * Runs a graph on random requests, each alone, then with others of its length, then padded beside longer ones, and compares.
 * `random` gives numbers from 0 to 1; tokens are 0 or 1, which every vocabulary has.
 */
export async function checkGraph(definition: ModelDefinition, random: () => number): Promise<Finding[]> {
  const program = definition.program as WholeGraph;
  const cell = definition.cells.find(({ name }) => name === program.cell)!;
  const kernel = await OnnxGraphKernel.load(cell, { threads: 1 });
  const lane = new GraphLane(definition, kernel);
  try {
    const requests = Array.from({ length: ROWS }, (_, id) => {
      const steps = 1 + Math.floor(random() * LONGEST);
      const request = lane.admit(id, OPTIONS, randomInputs(definition, steps, random), 0);
      lane.remove(request);
      return request;
    });
    const run = async (batch: readonly GraphRequest[]) =>
      lane
        .cut(batch, await lane.run(batch))
        .map(
          (outputs) => new Map(outputs.map(({ values }, i) => [definition.outputs[i]!.name, values.slice()])),
        );
    const alone: Awaited<ReturnType<typeof run>> = [];
    for (const request of requests) alone.push((await run([request]))[0]!);
    const compare = async (check: Finding["check"], batches: readonly (readonly GraphRequest[])[]) => {
      const worst = new Worst();
      for (const batch of batches) {
        (await run(batch)).forEach((outcome, row) =>
          worst.compare(
            alone[batch[row]!.id]!,
            outcome,
            `request ${batch[row]!.id} of ${batch[row]!.steps} steps`,
          ),
        );
      }
      const { difference, where } = worst;
      return { cell: cell.name, check, difference, ...(where ? { where } : {}) };
    };
    const copies = requests.map((request) => [request, request, request]);
    return [await compare("in batches", copies), await compare("padded beside longer ones", [requests])];
  } finally {
    await lane.dispose();
  }
}

function randomInputs({ inputs }: ModelDefinition, steps: number, random: () => number): Tensor[] {
  return inputs.map(({ dtype, shape }) => {
    const full = shape.map((dim) => (dim === -1 ? steps : dim));
    const length = sizeOf(full);
    return dtype === "int32"
      ? { dtype, shape: full, data: Int32Array.from({ length }, () => Math.round(random())) }
      : { dtype, shape: full, data: Float32Array.from({ length }, () => 2 * random() - 1) };
  });
}

const OPTIONS: EngineOptions = {
  priority: 5,
  timeoutMs: Number.POSITIVE_INFINITY,
  maxSteps: 1,
  temperature: 0,
  topK: 0,
  topP: 1,
  seed: 0,
  beamWidth: 0,
  stream: false,
};
