import type { CellBody, CellSpec } from "../../src/core/cell.ts";
import { sizeOf, type TensorSpec } from "../../src/core/tensor.ts";
import { inputTableWith } from "../input-table.ts";
import { type Pause, stateLayout } from "../kernel.ts";
import { attentionGraph } from "./attention-graph.ts";
import type { CellGraph } from "./cell-graph.ts";
import { headGraph, lstmOperatorGraph, recurrentGraph } from "./graphs.ts";
import { treeGraph } from "./tree-graphs.ts";

/** What bounds the graphs that are made of a cell. */
export interface FormLimits {
  /** Most rows times steps of one task; 1 or more. Costs that many rows of every state, input and output, twice. @default 256 */
  readonly maxBatch: number;
  /** Numbers of steps that one call may take, ascending from 1; the LSTM operator also takes more. @default [1, 2, 4, 8] */
  readonly stepSizes: readonly number[];
  /**
   * Bytes that the pre-multiplied input table of one cell may take; a cell whose table is larger looks its embedding up
   * and multiplies at every step, 1.6 to 5 times slower. @default 256 MiB
   */
  readonly tableBytes: number;
  /** Bytes that copies of a cell's weights for several steps per call may take. @default 256 MiB */
  readonly stepBytes: number;
}

export const FORM_LIMITS: FormLimits = {
  maxBatch: 256,
  stepSizes: [1, 2, 4, 8],
  tableBytes: 256 * 2 ** 20,
  stepBytes: 256 * 2 ** 20,
};

/** A graph that runs a cell. */
export interface Form {
  /** Steps of one call; 0 where the graph takes any number, of which `sizes` are used. */
  readonly steps: number;
  readonly sizes?: readonly number[];
  readonly graph: CellGraph;
}

/** The graphs of a cell, each made when it is asked for. `given` is that of a cell with an ONNX graph. */
export async function* formsOf(
  cell: CellSpec,
  given: CellGraph | undefined,
  limits: FormLimits,
  pause: Pause,
): AsyncGenerator<Form> {
  const { body } = cell;
  if (given) {
    // Without states a step is a row like any other.
    yield cell.states.length > 0
      ? { steps: 1, graph: given }
      : { steps: 0, sizes: anySize(limits), graph: given };
    return;
  }
  if (body.kind !== "lstm" && body.kind !== "gru" && body.kind !== "lstm-attention") {
    const table = hasTreeTable(cell, limits) ? await inputTableWith(cell, pause) : undefined;
    yield { steps: 1, graph: body.kind === "linear" ? headGraph(cell) : treeGraph(cell, table) };
    return;
  }
  const plan = recurrentPlan(cell, limits);
  if (body.kind === "lstm-attention") {
    const withTable = plan !== "operator" && plan.withTable;
    yield {
      steps: 1,
      graph: attentionGraph(cell, withTable ? await inputTableWith(cell, pause) : undefined),
    };
    return;
  }
  if (plan === "operator") {
    yield { steps: 0, sizes: anySize(limits), graph: lstmOperatorGraph(cell) };
    return;
  }
  const table = plan.withTable ? await inputTableWith(cell, pause) : undefined;
  for (const steps of plan.steps) {
    await pause();
    yield { steps, graph: recurrentGraph(cell, steps, table) };
  }
}

/** About how many bytes a kernel will hold for these cells: weights in all forms, buffers, and rows for `slots` slots. */
export function bytesOfCells(
  cells: readonly CellSpec[],
  slots: number,
  limits: FormLimits = FORM_LIMITS,
): number {
  const { maxBatch } = limits;
  let bytes = 0;
  for (const cell of cells) {
    bytes += bytesOfForms(cell, limits);
    const states = cell.states.reduce((sum, { shape }) => sum + 4 * sizeOf(shape), 0);
    const values = (specs: readonly TensorSpec[]) =>
      specs.reduce((sum, { shape }) => sum + 4 * sizeOf(shape), 0);
    const gathered = cell.reads === 1 && cell.writes ? 0 : cell.reads;
    const banks = cell.writes ? 2 : 0;
    bytes += maxBatch * (values(cell.inputs) + values(cell.outputs) + states * (gathered + banks));
  }
  return stateLayout(cells).reduce((sum, { size }) => sum + slots * (4 * size + PLACE_BYTES), bytes);
}

function bytesOfForms(cell: CellSpec, limits: FormLimits): number {
  const { body } = cell;
  const bytes = (...arrays: { readonly length: number }[]) =>
    arrays.reduce((sum, { length }) => sum + 4 * length, 0);
  if (body.kind === "graph") return body.graph.onnx.byteLength;
  if (body.kind === "none") return 0;
  if (body.kind === "linear") return bytes(body.head.weights.data, body.head.bias);
  if (isTree(body)) {
    const ofInput = body.kind === "tree-leaf" ? body.weights : body.inputWeights;
    const ofChildren = body.kind === "tree-leaf" ? 0 : bytes(body.weights.data);
    if (hasTreeTable(cell, limits)) return ofChildren + 4 * body.embedding!.rows * body.bias.length;
    return ofChildren + bytes(body.bias, ofInput?.data ?? [], body.embedding?.data ?? []);
  }
  const { inputWeights, stateWeights } = body.weights;
  const plan = recurrentPlan(cell, limits);
  const attention =
    body.kind === "lstm-attention" ? bytes(body.attention.query.data, body.attention.combine.data) : 0;
  const head = body.head ? bytes(body.head.weights.data, body.head.bias) : 0;
  const state = head + attention + bytes(stateWeights.data);
  if (plan === "operator") return state + bytes(inputWeights.data);
  const input = plan.withTable
    ? 4 * body.embedding!.rows * inputWeights.rows
    : bytes(inputWeights.data, body.embedding?.data ?? []);
  return plan.steps.length * (state + input);
}

type TreeBody = Extract<CellBody, { kind: "tree-leaf" | "tree-node" | "tree-child" | "tree-sum" }>;

function isTree(body: CellBody): body is TreeBody {
  return body.kind.startsWith("tree-");
}

/** Whether a cell of a tree takes tokens and the table of what they add to its gates fits. */
function hasTreeTable({ body }: CellSpec, { tableBytes }: FormLimits): boolean {
  if (!("embedding" in body && body.embedding && "bias" in body)) return false;
  return 4 * body.embedding.rows * body.bias.length <= tableBytes;
}

/** Of each slot, where its row is. */
const PLACE_BYTES = 6;

/** How a recurrent cell is run: by the LSTM operator, or by a graph for each number of steps, with a table of what tokens add. */
function recurrentPlan(
  { body, outputs }: CellSpec,
  { maxBatch, tableBytes, stepBytes, stepSizes }: FormLimits,
): "operator" | { readonly withTable: boolean; readonly steps: readonly number[] } {
  if (body.kind !== "lstm" && body.kind !== "gru" && body.kind !== "lstm-attention")
    throw new Error(`a cell of kind '${body.kind}' is not recurrent`);
  const isSingle = outputs.some(({ name }) => name === "c");
  // The operator has no quantised form that keeps rows apart.
  if (body.kind === "lstm" && !body.embedding && !body.quantize && !isSingle) return "operator";
  const { stateWeights, inputWeights } = body.weights;
  const rows = body.embedding?.rows ?? 0;
  const withTable = rows > 0 && 4 * rows * inputWeights.rows <= tableBytes;
  const bytes =
    4 * (stateWeights.data.length + (withTable ? rows * inputWeights.rows : inputWeights.data.length));
  const copies = !isSingle && body.kind !== "lstm-attention" && bytes * (stepSizes.length - 1) <= stepBytes;
  return { withTable, steps: stepSizes.filter((steps) => steps === 1 || (copies && steps <= maxBatch)) };
}

/** They cost no graph of their own where a graph takes any number. */
const OPERATOR_STEP_SIZES = [3, 6, 12, 16, 24, 32];

function anySize({ stepSizes, maxBatch }: FormLimits): number[] {
  return [...new Set([...stepSizes, ...OPERATOR_STEP_SIZES])]
    .filter((steps) => steps <= maxBatch)
    .sort((a, b) => a - b);
}
