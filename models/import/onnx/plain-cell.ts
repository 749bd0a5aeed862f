import type { CellManifest } from "../../manifest.ts";
import type { WrittenTensor } from "../../write-safetensors.ts";
import type { Direction, Expression, Recurrence } from "./expression.ts";
import { transposeConstant } from "./fold.ts";
import type { CellOutput, CellPlan } from "./plan.ts";
import type { Constant } from "./tensor.ts";

type PlainManifest = Exclude<CellManifest, { kind: "onnx" }>;
type OutputName = "h" | "c" | "logits" | "token";

/** A cell in the form that kernels know best: weights in place of a graph. */
export interface PlainCell {
  readonly kind: "lstm" | "gru";
  readonly name: string;
  readonly hidden: number;
  /** `token` or `x`. */
  readonly input: string;
  /** As the outputs of the plan. */
  readonly outputs: readonly OutputName[];
  /** By the names that PyTorch gives them. */
  readonly tensors: ReadonlyMap<string, WrittenTensor>;
}

/** The plain form of a cell, where it is an LSTM or GRU as PyTorch defines it, with an embedding or a linear head or not. */
export function plainCell({ name, inputs, outputs }: CellPlan): PlainCell | undefined {
  const [input] = inputs;
  if (inputs.length !== 1 || !input) return undefined;
  const parts = outputs.map(partOf);
  if (!parts.every((part) => part !== undefined)) return undefined;
  const [first] = parts;
  const heads = parts.flatMap(({ head }) => (head ? [head] : []));
  const isOne =
    parts.every((part) => part.of === first!.of && part.direction === first!.direction) &&
    new Set(parts.map((part) => part.name)).size === parts.length &&
    heads.every(({ weights, bias }) => weights === heads[0]!.weights && bias === heads[0]!.bias);
  const of = first!.of;
  const direction = of.directions[first!.direction]!;
  if (!isOne || !isStandard(of, direction)) return undefined;
  const embedding = of.x === input.expression ? undefined : embeddingOf(of.x, input.expression);
  const isVector = of.x === input.expression && input.expression.type === "float32";
  if (!embedding && !isVector) return undefined;
  return {
    kind: of.kind === "LSTM" ? "lstm" : "gru",
    name,
    hidden: of.hidden,
    input: embedding ? "token" : "x",
    outputs: parts.map((part) => part.name),
    tensors: new Map([
      ...(embedding ? [["embedding.weight", matrixOf(embedding)] as const] : []),
      ...weightsOf(of, direction),
      ...(heads[0] ? headOf(heads[0]) : []),
    ]),
  };
}

/** The cell's entry in `model.json`, its tensors named with a prefix in a file. */
export function plainManifest({ name, kind, outputs }: PlainCell, file: string): PlainManifest {
  return { name, kind, weights: { file, prefix: `${name}.` }, outputs: [...outputs] };
}

interface Head {
  /** `[hidden, width]`. */
  readonly weights: Constant;
  readonly bias: Constant | undefined;
}

interface Part {
  readonly name: OutputName;
  readonly of: Recurrence;
  readonly direction: number;
  readonly head?: Head;
}

function partOf({ expression, direction = 0 }: CellOutput): Part | undefined {
  const value = bare(expression);
  if (value.kind === "state") return { name: value.which, of: value.of, direction };
  if (value.kind !== "node") return undefined;
  if (value.op === "ArgMax") {
    const logits = linear(bare(value.inputs[0]!));
    const isOverAll =
      value.inputs[0]!.dims.length === value.attributes.axis && value.attributes.select_last_index !== 1;
    return logits && isOverAll ? { ...logits, name: "token" } : undefined;
  }
  return linear(value);
}

/** `h W + b`. */
function linear(value: Expression): Part | undefined {
  if (value.kind !== "node") return undefined;
  if (value.op === "Add") {
    const [a, b] = value.inputs;
    const [product, bias] = a!.kind === "constant" ? [b!, a] : [a!, b!];
    const part = bias?.kind === "constant" ? linear(bare(product)) : undefined;
    if (!part?.head || part.head.bias || bias?.kind !== "constant") return undefined;
    const width = part.head.weights.dims[1]!;
    if (bias.constant.data.length !== width) return undefined;
    return { ...part, head: { ...part.head, bias: bias.constant } };
  }
  const [left, right] = value.inputs;
  if (value.op !== "MatMul" || right?.kind !== "constant") return undefined;
  const state = bare(left!);
  if (state.kind !== "state" || state.which !== "h" || state.of.directions.length !== 1) return undefined;
  return { name: "logits", of: state.of, direction: 0, head: { weights: right.constant, bias: undefined } };
}

/** Without collecting and without axes of length 1. */
function bare(expression: Expression): Expression {
  if (expression.kind === "collect") return bare(expression.of);
  if (expression.kind === "node" && expression.op === "Reshape") {
    const [of] = expression.inputs;
    const own = (dims: readonly number[]) => dims.filter((dim) => dim !== 1).join(" ");
    if (own(of!.dims) === own(expression.dims)) return bare(of!);
  }
  return expression;
}

function embeddingOf(x: Expression, token: Expression): Constant | undefined {
  if (x.kind !== "node" || x.op !== "Gather" || x.inputs[1] !== token) return undefined;
  const [table] = x.inputs;
  const isTable = table?.kind === "constant" && table.dims.length === 2 && table.type === "float32";
  return isTable && token.dims.length === 0 ? table.constant : undefined;
}

/** Whether a recurrence is what PyTorch computes. */
function isStandard(
  { kind, clip, inputForget, linearBeforeReset }: Recurrence,
  direction: Direction,
): boolean {
  const { p, h0, c0, activations } = direction;
  if (clip !== undefined || inputForget || p || h0 || c0) return false;
  const names = activations.map(({ op }) => op).join(" ");
  if (kind === "LSTM") return names === "Sigmoid Tanh Tanh";
  return kind === "GRU" && linearBeforeReset && names === "Sigmoid Tanh";
}

/** Gates i, o, f, c become i, f, g, o; gates z, r, h become r, z, n. */
function weightsOf({ kind, hidden }: Recurrence, { w, r, wb, rb }: Direction): [string, WrittenTensor][] {
  const order = kind === "LSTM" ? [0, 2, 3, 1] : [1, 0, 2];
  const gates = (data: Float32Array) => {
    const block = data.length / order.length;
    const moved = new Float32Array(data.length);
    order.forEach((gate, i) => moved.set(data.subarray(gate * block, (gate + 1) * block), i * block));
    return moved;
  };
  const rows = order.length * hidden;
  return [
    ["weight_ih", { shape: [rows, w.length / rows], data: gates(w) }],
    ["weight_hh", { shape: [rows, hidden], data: gates(r) }],
    ["bias_ih", { shape: [rows], data: gates(wb) }],
    ["bias_hh", { shape: [rows], data: gates(rb) }],
  ];
}

function headOf({ weights, bias }: Head): [string, WrittenTensor][] {
  const tensors: [string, WrittenTensor][] = [["head.weight", matrixOf(transposeConstant(weights, [1, 0]))]];
  if (bias) tensors.push(["head.bias", { shape: [bias.data.length], data: bias.data as Float32Array }]);
  return tensors;
}

function matrixOf({ dims, data }: Constant): WrittenTensor {
  return { shape: dims, data: data as Float32Array };
}
