import onnxProto from "onnx-proto";

const { onnx } = onnxProto;
type Node = onnxProto.onnx.INodeProto;
type Graph = onnxProto.onnx.IGraphProto;

/** What a graph gives for some of its values, for 1, 2 and 3 rows. */
export type Probe = (graph: Graph, values: readonly string[]) => Promise<readonly (readonly boolean[])[]>;

/**
 * Puts the branch that is always taken in the place of each `If` whose condition follows from shapes alone (exporters write such
 * for a rank or a length of 1 that the file leaves open) and is the same for any number of rows. Answers how many there were.
 */
export async function inlineBranches(graph: Graph, probe: Probe): Promise<number> {
  let count = 0;
  for (;;) {
    const fromShapes = valuesFromShapes(graph);
    const open = (graph.node ?? []).filter(
      ({ opType, input }) => opType === "If" && fromShapes.has(input![0]!),
    );
    if (open.length === 0) return count;
    const conditions = [...new Set(open.map(({ input }) => input![0]!))];
    const seen = await probe(graph, conditions);
    const before = count;
    open.forEach((node) => {
      const [first, ...others] = seen[conditions.indexOf(node.input![0]!)]!;
      if (first === undefined || others.some((other) => other !== first)) return;
      inline(graph, node, first ? "then_branch" : "else_branch");
      count++;
    });
    if (count === before) return count;
  }
}

/** Values that nothing but constants and shapes go into. */
function valuesFromShapes({ node, initializer }: Graph): ReadonlySet<string> {
  const known = new Set((initializer ?? []).map(({ name }) => name!));
  for (const { opType, input, output } of node ?? []) {
    if (opType === "If" || opType === "Loop" || opType === "Scan") continue;
    const isKnown =
      opType === "Shape" || opType === "Size" || input!.every((name) => name === "" || known.has(name));
    if (isKnown) for (const name of output!) known.add(name);
  }
  return known;
}

function inline(graph: Graph, node: Node, branch: string): void {
  const body = node.attribute!.find(({ name }) => name === branch)!.g!;
  const renamed = new Map(body.output!.map(({ name }, i) => [name!, node.output![i]!]));
  // A branch may give away a value of the graph around it, which keeps its name.
  const own = new Set([
    ...(body.node ?? []).flatMap(({ output }) => output!),
    ...(body.initializer ?? []).map(({ name }) => name!),
  ]);
  const nodes = (body.node ?? []).map((one) => rename(one, renamed));
  for (const [from, to] of renamed) {
    if (!own.has(from)) nodes.push({ opType: "Identity", input: [from], output: [to] });
  }
  graph.initializer = [
    ...(graph.initializer ?? []),
    ...(body.initializer ?? []).map((tensor) => ({
      ...tensor,
      name: renamed.get(tensor.name!) ?? tensor.name!,
    })),
  ];
  graph.node!.splice(graph.node!.indexOf(node), 1, ...nodes);
}

function rename(node: Node, names: ReadonlyMap<string, string>): Node {
  const swap = (list: string[]) => list.map((name) => names.get(name) ?? name);
  const attribute = (node.attribute ?? []).map((one) =>
    one.g ? { ...one, g: { ...one.g, node: (one.g.node ?? []).map((inner) => rename(inner, names)) } } : one,
  );
  return onnx.NodeProto.create({ ...node, input: swap(node.input!), output: swap(node.output!), attribute });
}
