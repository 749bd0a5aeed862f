import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import onnxProto from "onnx-proto";
import type { CellSpec } from "../../src/core/cell.ts";
import { programBits, programSession, type RowProgram } from "../native/program.ts";
import type { CellGraph } from "./cell-graph.ts";
import { Choice, type Rewrite } from "./choice.ts";
import { convolutionsOf, denseForm, makeDense, makeFrames } from "./dense-convolution.ts";
import { makeGemms } from "./gemm-recurrence.ts";
import type { Graph } from "./graph-patch.ts";
import { inlineBranches } from "./inline-branches.ts";
import { Prober } from "./probe.ts";
import { type Recurrence, recurrenceOf } from "./recurrence-node.ts";
import { rowProgram } from "./row-program.ts";
import { loadSession, writeOptimized } from "./session.ts";
import { constantsOf } from "./tensors.ts";
import { makeTable, symbolsOf, tokenProducts } from "./token-tables.ts";

const { onnx } = onnxProto;

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
  /** What stands in the way of a program, where one could run. */
  readonly hindrance?: string;
  readonly rewrites: readonly Rewrite[];
}

/**
 * Rewrites a given step graph. What depends on constants only, branches among it, is folded first. Where the native addon is there and
 * knows all operators, the step becomes a program for that. Else ONNX Runtime runs it, with other operators where those are quicker: it
 * takes a Conv image by image, so that rows of a batch gain little, and over an input of few fixed places the same is one matrix
 * product for all rows (Silero VAD: three times the rows a second, as a program six times); an LSTM or GRU may be quicker as a product
 * for each gate, and what a matrix makes of an embedding is known beforehand. Each rewrite is compared with the untouched graph on
 * noise and all kinds of tokens, and dropped where its values differ or it is not quicker.
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
  const flat = onnx.ModelProto.decode(folded);
  const branches = await inlineBranches(flat.graph!, probe.conditions);
  const symbols = symbolsOf(flat.graph as Graph);
  const choice = new Choice(cell, graph, await loadSession(graph.onnx, { threads }), symbols);
  try {
    const program = threads === 1 && vectorBits > 0 ? rowProgram(flat, cell, graph) : undefined;
    const hindrance = typeof program === "string" ? { hindrance: program } : {};
    if (program && typeof program !== "string") {
      const what = `the whole step as ${program.operations.length} operations of the native kernel`;
      const isTaken = await choice.consider("", what, () => programSession(program, vectorBits));
      if (isTaken) return { graph, program, rewrites: choice.rewrites };
    }
    const best = new BestGraph(folded, choice, threads);
    if (branches > 0)
      await best.consider("If", `${branches} branches that are always taken`, ({ graph: changed }) => {
        changed!.node = flat.graph!.node!;
        changed!.initializer = flat.graph!.initializer!;
      });
    await unpackRecurrences(best);
    await multiplyEmbeddings(best);
    await flattenConvolutions(best, probe);
    if (choice.rewrites.length === 0) return { ...unchanged, ...hindrance };
    return { graph: { ...graph, onnx: best.bytes }, ...hindrance, rewrites: choice.rewrites };
  } finally {
    await choice.close();
  }
}

/** The graph as far as it was improved. */
class BestGraph {
  bytes: Uint8Array;
  readonly #choice: Choice;
  readonly #threads: number;

  constructor(bytes: Uint8Array, choice: Choice, threads: number) {
    this.bytes = bytes;
    this.#choice = choice;
    this.#threads = threads;
  }

  get graph(): Graph {
    return onnx.ModelProto.decode(this.bytes).graph as Graph;
  }

  /** Keeps what `change` makes of it if that is the same and quicker. */
  async consider(node: string, what: string, change: (model: onnxProto.onnx.ModelProto) => void) {
    const model = onnx.ModelProto.decode(this.bytes);
    change(model);
    const bytes = onnx.ModelProto.encode(model).finish();
    const open = () => loadSession(bytes, { threads: this.#threads });
    const isTaken = await this.#choice.consider(node, what, open);
    if (isTaken) this.bytes = bytes;
    return isTaken;
  }
}

async function unpackRecurrences(best: BestGraph): Promise<void> {
  for (const { name, of } of recurrencesOf(best.graph)) {
    const unpack = (graph: Graph) => {
      const found = recurrencesOf(graph).find((one) => one.name === name)!;
      makeGemms(graph, found.node, found.of);
      return tokenProducts(graph, MOST_VALUES);
    };
    const what = `${of.kind} of ${of.size} units as a product for each gate`;
    // The products may be slower and their tables quicker.
    const isTaken =
      unpack(best.graph).length > 0 &&
      (await best.consider(name, `${what}, looked up for tokens`, ({ graph }) => {
        for (const one of unpack(graph as Graph)) makeTable(graph as Graph, one);
      }));
    if (!isTaken) await best.consider(name, what, ({ graph }) => void unpack(graph as Graph));
  }
}

async function multiplyEmbeddings(best: BestGraph): Promise<void> {
  for (const { name, symbols, width } of tokenProducts(best.graph, MOST_VALUES)) {
    await best.consider(
      name,
      `products of ${symbols} tokens as a table [${symbols}, ${width}]`,
      ({ graph }) => {
        const found = tokenProducts(graph as Graph, MOST_VALUES).find((one) => one.name === name)!;
        makeTable(graph as Graph, found);
      },
    );
  }
}

async function flattenConvolutions(best: BestGraph, probe: Prober): Promise<void> {
  const convolutions = convolutionsOf(best.graph);
  if (convolutions.length === 0) return;
  const shapes = await probe.shapes(best.bytes, convolutions);
  for (const { name } of convolutions) {
    const shape = shapes.get(name);
    if (!shape) continue;
    const over = `Conv over [${shape.join(", ")}] as`;
    const find = (graph: Graph) => convolutionsOf(graph).find((one) => one.name === name);
    const first = find(best.graph)!;
    if (makeFrames(best.graph, first, shape))
      await best.consider(name, `${over} the product of its windows`, ({ graph }) => {
        makeFrames(graph as Graph, find(graph as Graph)!, shape);
      });
    const conv = find(best.graph);
    const dense = conv && denseForm(conv, shape, MOST_VALUES);
    if (!dense) continue;
    await best.consider(name, `${over} a matrix [${dense.rows}, ${dense.bias.length}]`, ({ graph }) => {
      makeDense(graph as Graph, find(graph as Graph)!, dense);
    });
  }
}

function recurrencesOf(graph: Graph): { name: string; node: onnxProto.onnx.INodeProto; of: Recurrence }[] {
  const constants = constantsOf(graph);
  return graph.node.flatMap((node) => {
    const of = recurrenceOf(node, (name) => (name ? constants.get(name) : undefined));
    return of ? [{ name: node.name || node.output!.find((output) => output !== "")!, node, of }] : [];
  });
}

/** 64 MB. */
const MOST_VALUES = 2 ** 24;
/** Operators by which a graph may gain. */
const GAINFUL = ["Conv", "then_branch", "LSTM", "GRU", "Gemm", "MatMul"];

function mayGain(bytes: Uint8Array): boolean {
  // Branches hold nodes too, and to look for names in all bytes costs less than to decode them.
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return GAINFUL.some((name) => text.includes(name));
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
