import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import onnxProto from "onnx-proto";
import type { CellSpec } from "../../src/core/cell.ts";
import { programBits, programSession, type RowProgram } from "../native/program.ts";
import type { CellGraph } from "./cell-graph.ts";
import { type Convolution, convolutionsOf, denseForm, makeDense, makeFrames } from "./dense-convolution.ts";
import { inlineBranches, type Probe } from "./inline-branches.ts";
import { rowProgram } from "./row-program.ts";
import { loadSession, type Session, type Tensors, writeOptimized } from "./session.ts";
import { gainOf, isSame, noise, Trial } from "./trial.ts";

const { onnx } = onnxProto;
type Graph = onnxProto.onnx.IGraphProto & {
  node: onnxProto.onnx.INodeProto[];
  initializer: onnxProto.onnx.ITensorProto[];
};

/** A part of a given graph that was replaced by another that gives the same, quicker. */
export interface Rewrite {
  readonly node: string;
  readonly what: string;
  /** Time of the cell before over after, the geometric mean over 1, 64 and 256 rows. */
  readonly gain: number;
}

export interface ImproveOptions {
  /** Of one call; programs run on one. */
  readonly threads: number;
  /** Of the vectors of programs: 256 or 512, and 0 where there are to be none. @default the widest that there are */
  readonly vectorBits?: number;
}

/** What a given step graph became. */
export interface Improved {
  readonly graph: CellGraph;
  /** Takes the graph's place where it is there. */
  readonly program?: RowProgram;
  readonly rewrites: readonly Rewrite[];
}

/**
 * Rewrites a given step graph. Where the native addon is there and knows all its operators, it becomes a program for that. Else:
 * ONNX Runtime runs a Conv image by image, so that rows of a batch gain little; over an input of few fixed places the same is one
 * matrix product for all rows (Silero VAD: three times the rows a second, as a program six times). What depends on constants only,
 * branches among it, is folded first. Each rewrite is compared with the untouched graph on noise, and dropped where its
 * values differ or it is not quicker.
 */
export async function improveGraph(
  cell: CellSpec,
  graph: CellGraph,
  { threads, vectorBits = programBits() }: ImproveOptions,
): Promise<Improved> {
  const unchanged = { graph, rewrites: [] };
  if (!mayGain(graph.onnx)) return unchanged;
  const folded = await fold(graph.onnx);
  if (!folded) return unchanged;
  const probe = new Prober(cell, graph, folded, threads);
  const rewrites: Rewrite[] = [];
  const untouched = new Trial(cell, graph, await loadSession(graph.onnx, { threads }));
  let present = untouched;
  /** Takes another form if it gives the same, quicker. */
  const consider = async (node: string, what: string, open: () => Promise<Session> | Session) => {
    const trial = await Promise.resolve()
      .then(open)
      .then((session) => new Trial(cell, graph, session))
      .catch(() => undefined);
    if (!trial) return false;
    const gain = (await isSame(untouched, trial)) ? await gainOf(present, trial) : 0;
    if (gain < LEAST_GAIN) {
      await trial.close();
      return false;
    }
    rewrites.push({ node, what, gain });
    if (present !== untouched) await present.close();
    present = trial;
    return true;
  };
  const end = async (improved: Improved) => {
    if (present !== untouched) await present.close();
    await untouched.close();
    return improved;
  };

  const flat = onnx.ModelProto.decode(folded);
  const branches = await inlineBranches(flat.graph!, probe.conditions);
  const program = threads === 1 && vectorBits > 0 ? rowProgram(flat, cell, graph) : undefined;
  if (program && typeof program !== "string") {
    const what = `the whole step as ${program.operations.length} operations of the native kernel`;
    if (await consider("", what, () => programSession(program, vectorBits)))
      return end({ graph, program, rewrites });
  }
  let best = folded;
  const considerGraph = async (node: string, what: string, model: onnxProto.onnx.ModelProto) => {
    const bytes = onnx.ModelProto.encode(model).finish();
    if (await consider(node, what, () => loadSession(bytes, { threads }))) best = bytes;
  };
  if (branches > 0) await considerGraph("If", `${branches} branches that are always taken`, flat);
  const convolutions = convolutionsOf(onnx.ModelProto.decode(best).graph as Graph);
  const shapes = await probe.shapes(best, convolutions);
  for (const { name } of convolutions) {
    const shape = shapes.get(name);
    if (!shape) continue;
    for (const form of ["frames", "matrix"]) {
      const model = onnx.ModelProto.decode(best);
      const conv = convolutionsOf(model.graph as Graph).find((one) => one.name === name);
      if (!conv) break;
      const over = `Conv over [${shape.join(", ")}] as`;
      if (form === "frames") {
        if (makeFrames(model.graph as Graph, conv, shape))
          await considerGraph(name, `${over} the product of its windows`, model);
        continue;
      }
      const dense = denseForm(conv, shape, MOST_VALUES);
      if (!dense) continue;
      makeDense(model.graph as Graph, conv, dense);
      await considerGraph(name, `${over} a matrix [${dense.rows}, ${dense.bias.length}]`, model);
    }
  }
  return end(rewrites.length > 0 ? { graph: { ...graph, onnx: best }, rewrites } : unchanged);
}

const LEAST_GAIN = 1.03;
/** 64 MB. */
const MOST_VALUES = 2 ** 24;

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
