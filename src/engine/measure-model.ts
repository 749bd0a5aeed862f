import { OnnxGraphKernel } from "../../kernels/onnx/onnx-graph.ts";
import type { ModelDefinition, WholeGraph } from "../../models/definition.ts";
import { cellsDigest } from "../../models/digest.ts";
import type { Profile, ProfiledCell } from "../core/profile.ts";
import { withSlots } from "./cell-runs.ts";
import { GraphLane } from "./graph-lane.ts";
import { kernelsFor } from "./kernels.ts";
import { thisMachine } from "./machine.ts";
import {
  graphSizes,
  longestOf,
  measureCell,
  measureGraph,
  pointsOfCell,
  pointsOfGraph,
} from "./measure-cells.ts";

export interface MeasureModelOptions {
  /** Threads of ONNX Runtime; each number is measured by itself. */
  readonly threads: readonly number[];
  /** Most rows (times steps) of one call; 1 or more, and no more than the kernel takes. */
  readonly maxRows: number;
  /** Steps of the padded batches of a whole graph. @default doubling up to the last bound of its buffers, or 256 */
  readonly sizes?: readonly number[];
  /** Milliseconds that each number of rows is measured for. */
  readonly pointMs: number;
  /** A cell is about to be measured, in so many points; each calls `point` once. */
  readonly began: (cell: string, threads: number, points: number) => void;
  readonly point: () => void;
}

/** Measures what every cell of a model costs on this machine, while nothing else should run on it. */
export async function measureModel(
  definition: ModelDefinition,
  options: MeasureModelOptions,
): Promise<Profile> {
  const { name, version, program } = definition;
  const byThreads: ProfiledCell[][] = [];
  for (const threads of options.threads) {
    byThreads.push(
      program.kind === "graph"
        ? [await graphCell(definition, program, threads, options)]
        : await cellularCells(definition, threads, options),
    );
  }
  return {
    format: 1,
    kind: "cellbatch.profile",
    model: { name, version, digest: cellsDigest(definition) },
    machine: thisMachine(),
    measuredAt: new Date().toISOString(),
    cells: byThreads[0]!.map((cell, i) => ({
      ...cell,
      settings: byThreads.flatMap((cells) => cells[i]!.settings),
    })),
  };
}

async function cellularCells(
  { cells }: ModelDefinition,
  threads: number,
  options: MeasureModelOptions,
): Promise<ProfiledCell[]> {
  const { pointMs, began, point } = options;
  const load = await kernelsFor({ device: "cpu", session: { threads } });
  const kernel = await load(cells);
  const maxRows = Math.min(options.maxRows, kernel.maxBatch);
  try {
    return await withSlots(kernel, async () => {
      const measured: ProfiledCell[] = [];
      for (const [i, { name }] of cells.entries()) {
        began(name, threads, pointsOfCell(kernel, i, maxRows));
        const settings = await measureCell(kernel, i, threads, { maxRows, pointMs, progress: point });
        measured.push({ cell: name, lane: "cellular", settings });
      }
      return measured;
    });
  } finally {
    await kernel.dispose();
  }
}

async function graphCell(
  definition: ModelDefinition,
  program: WholeGraph,
  threads: number,
  options: MeasureModelOptions,
): Promise<ProfiledCell> {
  const { maxRows, pointMs, began, point } = options;
  const sizes = options.sizes ?? graphSizes(longestOf(program));
  const spec = definition.cells.find(({ name }) => name === program.cell)!;
  const lane = new GraphLane(definition, await OnnxGraphKernel.load(spec, { threads }));
  try {
    began(spec.name, threads, pointsOfGraph(sizes, maxRows));
    const settings = await measureGraph(lane, sizes, threads, { maxRows, pointMs, progress: point });
    return { cell: spec.name, lane: "graph", settings };
  } finally {
    await lane.dispose();
  }
}
