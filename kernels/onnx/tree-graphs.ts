import type { CellBody, CellSpec, Matrix } from "../../src/core/cell.ts";
import {
  type CellGraph,
  columnsOf,
  finish,
  type Port,
  partOf,
  plain,
  rowsOf,
  weightsOf,
} from "./cell-graph.ts";
import { stateProduct } from "./gate-products.ts";
import { FLOAT, GraphBuilder, INT32 } from "./graph.ts";

type TreeBody = Extract<CellBody, { kind: "tree-leaf" | "tree-node" | "tree-child" | "tree-sum" }>;

/** A cell of a tree-LSTM; `table` is what `inputTable` gives, where it fits. Each gate has a product of its own. */
export function treeGraph(cell: CellSpec, table?: Matrix): CellGraph {
  const body = cell.body as TreeBody;
  const b = new GraphBuilder();
  const [state] = cell.states;
  const read = (name: string, slot: number) =>
    b.input(`state/${name}${cell.reads === 1 ? "" : `/${slot}`}`, FLOAT, ["rows", ...state!.shape]);
  const children = Array.from({ length: cell.reads }, (_, slot) => ({
    h: read("h", slot),
    c: read("c", slot),
  }));
  const { ports, given } = input(b, body, table);
  const sigmoid = (x: string) => b.node("Sigmoid", [x]);
  const tanh = (x: string) => b.node("Tanh", [x]);
  const times = (x: string, y: string) => b.node("Mul", [x, y]);
  const plus = (x: string, y: string) => b.node("Add", [x, y]);
  const end = (o: string, c: string) => {
    const h = times(sigmoid(o), tanh(c));
    return finish(b, cell, ports, [h, c], { h, c });
  };
  switch (body.kind) {
    case "tree-leaf": {
      const [i, o, u] = gates(b, body, 3, table, given);
      return end(o!, times(sigmoid(i!), tanh(u!)));
    }
    case "tree-node": {
      const all = children.map(({ h }) => h);
      const seen = all.length > 1 ? b.node("Concat", all, { axis: 1 }) : all[0];
      const [i, ...rest] = gates(b, body, 3 + all.length, table, given, seen);
      const [o, u] = rest.slice(all.length);
      const kept = children.map(({ c }, child) => times(sigmoid(rest[child]!), c)).reduce(plus);
      return end(o!, plus(times(sigmoid(i!), tanh(u!)), kept));
    }
    case "tree-child": {
      const [sum, child] = children;
      const [forget] = gates(b, body, 1, table, given, child!.h);
      const h = plus(sum!.h, child!.h);
      const c = plus(sum!.c, times(sigmoid(forget!), child!.c));
      return finish(b, cell, ports, [h, c], { h, c });
    }
    case "tree-sum": {
      const [sum] = children;
      const [i, o, u] = gates(b, body, 3, table, given, sum!.h);
      return end(o!, plus(times(sigmoid(i!), tanh(u!)), sum!.c));
    }
  }
}

interface Input {
  readonly ports: Port[];
  /** The vector, or the token where there is a table; absent where the cell has no input. */
  readonly given?: string;
}

function input(b: GraphBuilder, body: TreeBody, table: Matrix | undefined): Input {
  const { embedding } = body;
  if (embedding) {
    const token = b.input("in/token", INT32, ["rows"]);
    const given = table ? token : b.node("Gather", [weightsOf(b, embedding), token]);
    return { ports: [plain("in/token")], given };
  }
  const width = inputWeightsOf(body)?.columns;
  if (width === undefined) return { ports: [] };
  return { ports: [plain("in/x", width)], given: b.input("in/x", FLOAT, ["rows", width]) };
}

function inputWeightsOf(body: TreeBody): Matrix | undefined {
  return body.kind === "tree-leaf" ? body.weights : body.inputWeights;
}

/** Sums of `count` gates: from the input, where there is one, and from `seen`, the h of children. */
function gates(
  b: GraphBuilder,
  body: TreeBody,
  count: number,
  table: Matrix | undefined,
  given: string | undefined,
  seen?: string,
): string[] {
  const weights = inputWeightsOf(body);
  const added = Array.from({ length: count }, (_, gate) => {
    if (table) return b.node("Gather", [weightsOf(b, columnsOf(table, gate, count)), given!]);
    const bias = b.weights([body.bias.length / count], partOf(body.bias, gate, count));
    if (!weights) return bias;
    return b.node("Gemm", [given!, weightsOf(b, rowsOf(weights, gate, count)), bias], { transB: 1 });
  });
  if (seen === undefined) return added;
  const products = added.map((_, gate) => rowsOf(body.weights, gate, count));
  return stateProduct(b, products, "quantize" in body ? body.quantize : undefined)(seen, added);
}
