import type { CellSpec, Matrix } from "../../src/core/cell.ts";
import { type CellGraph, dense, finish, headOutputs, plain, rowsOf, weightsOf } from "./cell-graph.ts";
import { stateProduct } from "./gate-products.ts";
import { FLOAT, GraphBuilder, INT32 } from "./graph.ts";
import { gateInputs, lstmStep } from "./graphs.ts";

/**
 * Builds one step of an LSTM that attends (Luong et al. 2015, the general score): its next `h` asks, each place of the memory
 * is weighed by its product with that, and `tanh(W [context; h])` goes to the head. `table` as in `recurrentGraph`.
 */
export function attentionGraph(cell: CellSpec, table?: Matrix): CellGraph {
  const { body } = cell;
  if (body.kind !== "lstm-attention") throw new Error(`cell '${cell.name}' does not attend`);
  const { weights, attention, embedding, head, quantize } = body;
  const { hidden } = weights;
  const { query, combine, combineBias, memorySteps } = attention;
  const b = new GraphBuilder();
  const state = cell.states.map(({ name }) => b.input(`state/${name}`, FLOAT, ["rows", hidden]));
  const token = b.input("in/token", INT32, ["rows"]);
  const memory = b.input("in/memory", FLOAT, ["rows", memorySteps, query.rows]);
  const mask = b.input("in/mask", FLOAT, ["rows", memorySteps]);

  const inputs = gateInputs(b, "lstm", weights, {
    given: token,
    embedding,
    ...(table ? { table } : {}),
    ...(quantize ? { quantize } : {}),
  });
  const product = stateProduct(
    b,
    inputs.map((_, gate) => rowsOf(weights.stateWeights, gate, inputs.length)),
    quantize,
  );
  const next = lstmStep(b, product)(inputs, state);
  const h = next[0]!;

  const asked = b.node("Gemm", [h, weightsOf(b, query)], { transB: 1 });
  const column = b.node("Unsqueeze", [asked, b.integers([2])]);
  const scores = b.node("Squeeze", [b.node("MatMul", [memory, column]), b.integers([2])]);
  const one = b.weights([1], Float32Array.of(1));
  const away = b.node("Mul", [b.node("Sub", [mask, one]), b.weights([1], Float32Array.of(FAR))]);
  const shares = b.node("Softmax", [b.node("Add", [scores, away])], { axis: 1 });
  const row = b.node("Unsqueeze", [shares, b.integers([1])]);
  const context = b.node("Squeeze", [b.node("MatMul", [row, memory]), b.integers([1])]);
  const both = b.node("Concat", [context, h], { axis: 1 });
  const attended = b.node("Tanh", [dense(b, both, combine, combineBias)]);

  const ports = [
    plain("in/token"),
    plain("in/memory", memorySteps, query.rows),
    plain("in/mask", memorySteps),
  ];
  return finish(b, cell, ports, next, { h, c: next[1]!, ...headOutputs(b, attended, head, cell) });
}

/** Puts a place without a step so far below the others that its share is 0. */
const FAR = 1e9;
