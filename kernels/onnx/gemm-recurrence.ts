import type onnxProto from "onnx-proto";
import { type Graph, GraphPatch } from "./graph-patch.ts";
import { type Recurrence, summed } from "./recurrence-node.ts";

/** Puts a matrix product for each gate in the place of a node LSTM or GRU; the same only where its input is one step. */
export function makeGemms(graph: Graph, node: onnxProto.onnx.INodeProto, of: Recurrence): void {
  const patch = new GraphPatch(graph, node);
  const { size, input } = of;
  const flat = (value: string, width: number) => patch.node("Reshape", [value, patch.integers([-1, width])]);
  const part = (values: Float32Array, gate: number, width: number) =>
    values.subarray(gate * size * width, (gate + 1) * size * width);
  /** The product with one gate's weights, plus a vector or what is known already. */
  const product = (value: string, weights: Float32Array, gate: number, width: number, added: string) =>
    patch.node("Gemm", [value, patch.weights([size, width], part(weights, gate, width)), added], {
      transB: 1,
    });
  const vector = (values: Float32Array, gate: number) => patch.weights([size], part(values, gate, 1));
  const x = flat(of.x, input);
  const h = flat(of.h, size);
  const both = summed(of.inputBias, of.stateBias);
  const gateOf = (gate: number) => {
    const given = product(x, of.inputWeights, gate, input, vector(both, gate));
    return product(h, of.stateWeights, gate, size, given);
  };
  const sigmoid = (gate: number) => patch.node("Sigmoid", [gateOf(gate)]);

  const lstm = (c: string) => {
    const [i, o, f] = [sigmoid(0), sigmoid(1), sigmoid(2)];
    const kept = patch.node("Mul", [f, flat(c, size)]);
    const next = patch.node("Add", [kept, patch.node("Mul", [i, patch.node("Tanh", [gateOf(3)])])]);
    return { h: patch.node("Mul", [o, patch.node("Tanh", [next])]), c: next };
  };
  const gru = () => {
    const [z, r] = [sigmoid(0), sigmoid(1)];
    const bias = vector(of.resetsProduct ? of.inputBias : both, 2);
    const given = product(x, of.inputWeights, 2, input, bias);
    const candidate = of.resetsProduct
      ? patch.node("Add", [
          given,
          patch.node("Mul", [r, product(h, of.stateWeights, 2, size, vector(of.stateBias, 2))]),
        ])
      : product(patch.node("Mul", [r, h]), of.stateWeights, 2, size, given);
    const n = patch.node("Tanh", [candidate]);
    return { h: patch.node("Add", [n, patch.node("Mul", [z, patch.node("Sub", [h, n])])]), c: undefined };
  };
  const next = of.c === undefined ? gru() : lstm(of.c);
  const [all, lastH, lastC] = node.output!;
  const give = (value: string | undefined, name: string | undefined, dims: readonly number[]) => {
    if (value !== undefined && name) patch.node("Reshape", [value, patch.integers(dims)], {}, name);
  };
  give(next.h, all, [1, 1, -1, size]);
  give(next.h, lastH, [1, -1, size]);
  give(next.c, lastC, [1, -1, size]);
  patch.apply();
}
