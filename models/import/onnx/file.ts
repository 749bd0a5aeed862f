import onnxProto from "onnx-proto";
import { Attributes } from "./attributes.ts";
import { refuse } from "./faults.ts";
import { checkTensor } from "./tensor.ts";

const { onnx } = onnxProto;
export type Graph = onnxProto.onnx.IGraphProto;
export type Node = onnxProto.onnx.INodeProto;
export type TensorProto = onnxProto.onnx.ITensorProto;

/** A tensor that goes into or out of a graph. */
export interface Port {
  readonly name: string;
  /** `TensorProto.DataType`. */
  readonly type: number;
  /** A size, or a name where it may have any length, "" where that has none; undefined where nothing is said. */
  readonly shape: readonly (number | string)[] | undefined;
}

export interface FileNode {
  /** Its own name, else that of its first output. */
  readonly name: string;
  readonly op: string;
  /** "" for the operators of ONNX itself. */
  readonly domain: string;
  /** "" for one that is left out. */
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly attributes: Attributes;
}

/** An ONNX file whose structure was checked: every name that is used is given once, before it is used. */
export interface OnnxFile {
  readonly model: onnxProto.onnx.IModelProto;
  /** Version of the operator set of ONNX itself. */
  readonly opset: number;
  /** In an order in which they can run. */
  readonly nodes: readonly FileNode[];
  readonly constants: ReadonlyMap<string, TensorProto>;
  /** Without those that have a constant. */
  readonly inputs: readonly Port[];
  readonly outputs: readonly Port[];
}

/** Decodes the bytes of an ONNX file. Throws INVALID_REQUEST where they are none. */
export function decodeModel(bytes: Uint8Array): onnxProto.onnx.IModelProto {
  let model: onnxProto.onnx.IModelProto;
  try {
    model = onnx.ModelProto.decode(bytes);
  } catch (error) {
    throw refuse(`it cannot be decoded (${(error as Error).message})`);
  }
  if (!model.graph?.node?.length) throw refuse("it has no graph with nodes");
  return model;
}

/** Checks a decoded file whose external values were read. Throws INVALID_REQUEST that names what is wrong. */
export function checkModel(model: onnxProto.onnx.IModelProto): OnnxFile {
  const graph = model.graph!;
  const opset = (model.opsetImport ?? []).find(({ domain }) => isStandard(domain))?.version;
  if (opset === undefined || opset === null) throw refuse("it names no version of the ONNX operators");
  for (const tensor of tensorsOf(model)) checkTensor(tensor);
  if (graph.sparseInitializer?.length) throw refuse("it has sparse constants, which are not read");
  const constants = new Map((graph.initializer ?? []).map((tensor) => [tensor.name ?? "", tensor]));
  const inputs = (graph.input ?? []).map(portOf).filter(({ name }) => !constants.has(name));
  const nodes = inOrder(graph, [...constants.keys(), ...inputs.map(({ name }) => name)]);
  const given = new Set([
    ...constants.keys(),
    ...inputs.map(({ name }) => name),
    ...nodes.flatMap((node) => node.outputs),
  ]);
  const outputs = (graph.output ?? []).map(portOf);
  if (outputs.length === 0) throw refuse("its graph has no outputs");
  for (const { name } of outputs) {
    if (!given.has(name)) throw refuse(`nothing gives its output '${name}'`);
  }
  return { model, opset: Number(opset), nodes, constants, inputs, outputs };
}

/** All tensors of a model, also those in attributes and in the graphs of nodes. */
export function tensorsOf(model: onnxProto.onnx.IModelProto): TensorProto[] {
  const tensors: TensorProto[] = [];
  const addSparse = ({ values, indices }: onnxProto.onnx.ISparseTensorProto) => {
    if (values) tensors.push(values);
    if (indices) tensors.push(indices);
  };
  const addNode = (node: Node, waiting: Graph[]) => {
    for (const attribute of node.attribute ?? []) {
      if (attribute.t) tensors.push(attribute.t);
      if (attribute.sparseTensor) addSparse(attribute.sparseTensor);
      tensors.push(...(attribute.tensors ?? []));
      (attribute.sparseTensors ?? []).forEach(addSparse);
      waiting.push(...graphsOf(attribute));
    }
  };
  const waiting: Graph[] = model.graph ? [model.graph] : [];
  for (const { node } of model.functions ?? []) for (const one of node ?? []) addNode(one, waiting);
  for (let graph = waiting.pop(); graph; graph = waiting.pop()) {
    tensors.push(...(graph.initializer ?? []));
    (graph.sparseInitializer ?? []).forEach(addSparse);
    for (const node of graph.node ?? []) addNode(node, waiting);
  }
  return tensors;
}

/** All nodes of a graph, also those in the graphs of nodes. */
export function nodesOf(graph: Graph): Node[] {
  const nodes: Node[] = [];
  const waiting = [graph];
  for (let one = waiting.pop(); one; one = waiting.pop()) {
    for (const node of one.node ?? []) {
      nodes.push(node);
      for (const attribute of node.attribute ?? []) waiting.push(...graphsOf(attribute));
    }
  }
  return nodes;
}

export function isStandard(domain: string | null | undefined): boolean {
  return !domain || domain === "ai.onnx";
}

function graphsOf({ g, graphs }: onnxProto.onnx.IAttributeProto): Graph[] {
  return [...(g ? [g] : []), ...(graphs ?? [])];
}

function portOf({ name, type }: onnxProto.onnx.IValueInfoProto): Port {
  const tensor = type?.tensorType;
  const shape = tensor?.shape?.dim?.map(({ dimValue, dimParam }) => {
    const size = Number(dimValue ?? 0);
    if (size < 0 || size > MAX_SIZE) throw refuse(`'${name}' has an axis of ${size}`);
    return size > 0 ? size : (dimParam ?? "");
  });
  if (!tensor) throw refuse(`'${name}' is no tensor`);
  return { name: name ?? "", type: tensor.elemType ?? 0, shape };
}

const MAX_SIZE = 2 ** 31;

/** Nodes after those whose outputs they take; ONNX files have them so already, but not all writers keep the rule. */
function inOrder(graph: Graph, given: readonly string[]): FileNode[] {
  const nodes = graph.node ?? [];
  const producer = new Map<string, number>(given.map((name) => [name, -1]));
  nodes.forEach((node, i) => {
    for (const name of node.output ?? []) {
      if (name === "") continue;
      if (producer.has(name)) throw refuse(`'${name}' is given twice, the second time by ${say(node)}`);
      producer.set(name, i);
    }
  });
  const waitsFor = new Int32Array(nodes.length);
  const waiters: number[][] = nodes.map(() => []);
  nodes.forEach((node, i) => {
    for (const name of takes(node)) {
      const from = producer.get(name);
      if (from === undefined) throw refuse(`${say(node)} takes '${name}', which nothing gives`);
      if (from < 0) continue;
      waiters[from]!.push(i);
      waitsFor[i]!++;
    }
  });
  const order: number[] = [];
  nodes.forEach((_, i) => {
    if (waitsFor[i] === 0) order.push(i);
  });
  for (let at = 0; at < order.length; at++) {
    for (const waiter of waiters[order[at]!]!) if (--waitsFor[waiter]! === 0) order.push(waiter);
  }
  if (order.length < nodes.length) {
    const stuck = nodes.find((_, i) => waitsFor[i]! > 0)!;
    throw refuse(`${say(stuck)} waits for itself: its inputs come from a cycle of nodes`);
  }
  return (isAscending(order) ? nodes : order.map((i) => nodes[i]!)).map(fileNode);
}

/** Names that a node takes from the graph it stands in, also inside its own graphs. */
function takes(node: Node): Set<string> {
  const taken = new Set((node.input ?? []).filter((name) => name !== ""));
  const inner = (node.attribute ?? []).flatMap(graphsOf);
  if (inner.length === 0) return taken;
  const own = new Set<string>();
  const used = new Set<string>();
  for (let graph = inner.pop(); graph; graph = inner.pop()) {
    for (const { name } of [...(graph.input ?? []), ...(graph.initializer ?? [])]) own.add(name ?? "");
    for (const { name } of graph.output ?? []) used.add(name ?? "");
    for (const one of graph.node ?? []) {
      for (const name of one.output ?? []) own.add(name);
      for (const name of one.input ?? []) used.add(name);
      inner.push(...(one.attribute ?? []).flatMap(graphsOf));
    }
  }
  for (const name of used) if (name !== "" && !own.has(name)) taken.add(name);
  return taken;
}

function fileNode(node: Node): FileNode {
  return {
    name: nameOf(node),
    op: node.opType ?? "",
    domain: isStandard(node.domain) ? "" : node.domain!,
    inputs: node.input ?? [],
    outputs: node.output ?? [],
    attributes: new Attributes(node.attribute ?? []),
  };
}

function isAscending(order: readonly number[]): boolean {
  return order.every((node, i) => node === i);
}

function nameOf(node: Node): string {
  return node.name || (node.output ?? []).find((name) => name !== "") || "";
}

function say(node: Node): string {
  return `node '${nameOf(node)}' (${node.opType ?? ""})`;
}
