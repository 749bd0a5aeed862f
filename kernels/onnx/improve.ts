import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import onnxProto from "onnx-proto";
import { Tensor } from "onnxruntime-node";
import type { CellSpec } from "../../src/core/cell.ts";
import { sizeOf } from "../../src/core/tensor.ts";
import type { CellGraph } from "./cell-graph.ts";
import { type Convolution, convolutionsOf, denseForm, makeDense, makeFrames } from "./dense-convolution.ts";
import { inlineBranches, type Probe } from "./inline-branches.ts";
import { loadSession, type Session, type Tensors, writeOptimized } from "./session.ts";

const { onnx } = onnxProto;
type Graph = onnxProto.onnx.IGraphProto & {
  node: onnxProto.onnx.INodeProto[];
  initializer: onnxProto.onnx.ITensorProto[];
};

/** A part of a given graph that was replaced by another that gives the same, quicker. */
export interface Rewrite {
  readonly node: string;
  readonly what: string;
  /** Time of the cell before over after, the geometric mean over 8 and 64 rows. */
  readonly gain: number;
}

/**
 * Rewrites a given step graph: ONNX Runtime runs a Conv image by image, so that rows of a batch gain little; over an input of
 * few fixed places the same is one matrix product for all rows (Silero VAD: four times the rows a second). What depends on
 * constants only, branches among it, is folded first. Each rewrite is compared with the untouched graph on random rows, and
 * dropped where its values differ by more than `TOLERANCE` or it is not quicker.
 */
export async function improveGraph(
  cell: CellSpec,
  graph: CellGraph,
  threads: number,
): Promise<{ readonly graph: CellGraph; readonly rewrites: readonly Rewrite[] }> {
  if (!mayGain(graph.onnx)) return { graph, rewrites: [] };
  const folded = await fold(graph.onnx);
  if (!folded) return { graph, rewrites: [] };
  const probe = new Prober(cell, graph, folded, threads);
  const rewrites: Rewrite[] = [];
  const untouched = await Trial.open(cell, graph, threads);
  let best = { ...graph, onnx: folded };
  let present = untouched;
  /** Takes a changed graph if it gives the same, quicker. */
  const consider = async (node: string, what: string, model: onnxProto.onnx.ModelProto) => {
    const candidate = { ...graph, onnx: onnx.ModelProto.encode(model).finish() };
    const trial = await Trial.open(cell, candidate, threads).catch(() => undefined);
    if (!trial) return;
    const gain = (await isSame(untouched, trial)) ? await gainOf(present, trial) : 0;
    if (gain < LEAST_GAIN) return trial.close();
    rewrites.push({ node, what, gain });
    if (present !== untouched) await present.close();
    best = candidate;
    present = trial;
  };
  const flat = onnx.ModelProto.decode(folded);
  const branches = await inlineBranches(flat.graph!, probe.conditions);
  if (branches > 0) await consider("If", `${branches} branches that are always taken`, flat);
  const convolutions = convolutionsOf(onnx.ModelProto.decode(best.onnx).graph as Graph);
  const shapes = await probe.shapes(best.onnx, convolutions);
  for (const { name } of convolutions) {
    const shape = shapes.get(name);
    if (!shape) continue;
    for (const form of ["frames", "matrix"]) {
      const model = onnx.ModelProto.decode(best.onnx);
      const conv = convolutionsOf(model.graph as Graph).find((one) => one.name === name);
      if (!conv) break;
      const over = `Conv over [${shape.join(", ")}] as`;
      if (form === "frames") {
        if (makeFrames(model.graph as Graph, conv, shape))
          await consider(name, `${over} the product of its windows`, model);
        continue;
      }
      const dense = denseForm(conv, shape, MOST_VALUES);
      if (!dense) continue;
      makeDense(model.graph as Graph, conv, dense);
      await consider(name, `${over} a matrix [${dense.rows}, ${dense.bias.length}]`, model);
    }
  }
  if (present !== untouched) await present.close();
  await untouched.close();
  return rewrites.length > 0 ? { graph: best, rewrites } : { graph, rewrites };
}

/** Relative to values above 1. */
const TOLERANCE = 1e-5;
const LEAST_GAIN = 1.03;
/** 64 MB. */
const MOST_VALUES = 2 ** 24;
const TIMED_ROWS = [8, 64];
const CHECKED_ROWS = 3;
const RUNS = 7;

function mayGain(bytes: Uint8Array): boolean {
  // Branches hold nodes too, and to look for names in all bytes costs less than to decode them.
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return text.includes("Conv") || text.includes("then_branch");
}

/** The graph as ONNX Runtime writes it after folding constants; undefined where it cannot, or there is nowhere to write. */
async function fold(bytes: Uint8Array): Promise<Uint8Array | undefined> {
  try {
    const folder = await mkdtemp(join(tmpdir(), "cellbatch-"));
    try {
      const file = join(folder, "folded.onnx");
      await writeOptimized(bytes, file);
      return await readFile(file);
    } finally {
      await rm(folder, { recursive: true });
    }
  } catch {
    return undefined;
  }
}

/** Runs changed forms of a cell's graph for values inside it. */
class Prober {
  readonly #cell: CellSpec;
  readonly #graph: CellGraph;
  readonly #header: onnxProto.onnx.ModelProto;
  readonly #threads: number;

  constructor(cell: CellSpec, graph: CellGraph, onnxBytes: Uint8Array, threads: number) {
    this.#cell = cell;
    this.#graph = graph;
    this.#header = onnx.ModelProto.decode(onnxBytes);
    this.#threads = threads;
  }

  readonly conditions: Probe = async (graph, values) => {
    const model = { ...this.#header, graph };
    const seen = await this.#run(onnx.ModelProto.encode(model).finish(), values, [1, 2, 3]);
    return values.map((name) => seen.map((outputs) => outputs[name]!.data[0] === 1));
  };

  /** By name: the shape of one row of what goes into each convolution, where it has a row per row of the task. */
  async shapes(
    bytes: Uint8Array,
    convolutions: readonly Convolution[],
  ): Promise<Map<string, readonly number[]>> {
    const names = [...new Set(convolutions.map(({ input }) => input))];
    const seen = await this.#run(bytes, names, [2, 3]);
    const shapes = new Map<string, readonly number[]>();
    if (seen.length === 0) return shapes;
    for (const { name, input } of convolutions) {
      const [two, three] = seen.map((outputs) => outputs[input]!.dims);
      const isPerRow = two![0] === 2 && three![0] === 3 && String(two!.slice(1)) === String(three!.slice(1));
      if (isPerRow) shapes.set(name, two!.slice(1));
    }
    return shapes;
  }

  /** By number of rows; none where the graph does not run. */
  async #run(bytes: Uint8Array, values: readonly string[], rows: readonly number[]): Promise<Tensors[]> {
    const model = onnx.ModelProto.decode(bytes);
    // Copies, for an input of the graph is no output of a node.
    const renamed = values.map((name) => `probe/${name}`);
    values.forEach((name, i) => {
      model.graph!.node!.push({ opType: "Identity", input: [name], output: [renamed[i]!] });
      model.graph!.output!.push({ name: renamed[i]! });
    });
    try {
      const session = await loadSession(onnx.ModelProto.encode(model).finish(), { threads: this.#threads });
      const seen: Tensors[] = [];
      for (const count of rows) {
        const outputs = await session.infer(noise(this.#cell, this.#graph, count), renamed);
        seen.push(Object.fromEntries(values.map((name, i) => [name, outputs[renamed[i]!]!])));
      }
      await session.dispose();
      return seen;
    } catch {
      return [];
    }
  }
}

/** A graph with inputs of noise, the same for every graph of a cell. */
class Trial {
  readonly #session: Session;
  readonly #names: readonly string[];
  readonly #feeds: ReadonlyMap<number, Tensors>;

  private constructor(session: Session, names: readonly string[], feeds: ReadonlyMap<number, Tensors>) {
    this.#session = session;
    this.#names = names;
    this.#feeds = feeds;
  }

  static async open(cell: CellSpec, graph: CellGraph, threads: number): Promise<Trial> {
    const names = [...new Set([...graph.outputs, ...graph.writes].map(({ name }) => name))];
    const feeds = new Map([...TIMED_ROWS, CHECKED_ROWS].map((rows) => [rows, noise(cell, graph, rows)]));
    return new Trial(await loadSession(graph.onnx, { threads }), names, feeds);
  }

  outputs(rows: number): Tensors | Promise<Tensors> {
    return this.#session.infer(this.#feeds.get(rows)!, this.#names);
  }

  close(): void | Promise<void> {
    return this.#session.dispose();
  }
}

async function isSame(expected: Trial, actual: Trial): Promise<boolean> {
  const [wanted, given] = [await expected.outputs(CHECKED_ROWS), await actual.outputs(CHECKED_ROWS)];
  return Object.entries(wanted).every(([name, { data, dims }]) => {
    const other = given[name]!;
    if (String(other.dims) !== String(dims)) return false;
    const [a, b] = [data as Float32Array, other.data as Float32Array];
    return a.every((value, i) => Math.abs(value - b[i]!) <= TOLERANCE * Math.max(1, Math.abs(value)));
  });
}

/** Runs both in turn, so that what disturbs the machine disturbs both. */
async function gainOf(before: Trial, after: Trial): Promise<number> {
  let product = 1;
  for (const rows of TIMED_ROWS) {
    const least = [Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY];
    for (let run = 0; run < RUNS; run++) {
      for (const [which, trial] of [before, after].entries()) {
        const start = performance.now();
        await trial.outputs(rows);
        least[which] = Math.min(least[which]!, performance.now() - start);
      }
    }
    product *= least[0]! / least[1]!;
  }
  return product ** (1 / TIMED_ROWS.length);
}

function noise(cell: CellSpec, graph: CellGraph, rows: number): Tensors {
  const feeds: Tensors = {};
  const add = (name: string, dims: readonly number[], dtype: "float32" | "int32") => {
    const length = sizeOf(dims);
    feeds[name] =
      dtype === "int32"
        ? new Tensor("int32", new Int32Array(length), dims)
        : new Tensor(
            "float32",
            Float32Array.from({ length }, (_, i) => Math.sin(i * 12.9898)),
            dims,
          );
  };
  graph.inputs.forEach(({ name, dims }, i) => add(name, dims(rows, 1), cell.inputs[i]!.dtype));
  for (const ports of graph.reads) for (const { name, dims } of ports) add(name, dims(rows, 1), "float32");
  return feeds;
}
