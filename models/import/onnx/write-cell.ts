import type { CellManifest } from "../../manifest.ts";
import type { Expression, Recurrence } from "./expression.ts";
import { dataTypes, GraphWriter } from "./graph-writer.ts";
import { type CellOutput, type CellPlan, inOrder } from "./plan.ts";
import type { ElementType } from "./tensor.ts";
import { writeStep } from "./write-recurrence.ts";

type OnnxCell = Extract<CellManifest, { kind: "onnx" }>;

/** Writes a cell as an ONNX step graph in the file `<name>.onnx`. */
export function writeCell(
  plan: CellPlan,
  opset: number,
): { readonly cell: OnnxCell; readonly onnx: Uint8Array } {
  const writer = new CellWriter(plan);
  const outputs = plan.outputs.map((output) => writer.output(output));
  const cell: OnnxCell = {
    name: plan.name,
    kind: "onnx",
    file: `${plan.name}.onnx`,
    inputs: plan.inputs.map(({ name, expression }) => tensorOf(name, expression)),
    outputs,
    states: writer.states,
    constants: {},
  };
  return { cell, onnx: writer.graph.encode(opset) };
}

class CellWriter {
  readonly graph = new GraphWriter();
  readonly states: OnnxCell["states"] = [];
  readonly #plan: CellPlan;
  readonly #leaves: ReadonlySet<Expression>;
  /** Names in the graph of what was written. */
  readonly #written = new Map<Expression, string>();
  /** Inputs as they come: of int32 where the graph computes with int64 or truth values. */
  readonly #uncast = new Map<Expression, string>();
  readonly #stepped = new Map<Recurrence, { readonly h: string; readonly c?: string }>();
  /** Whether each row is past its first step. */
  #begun: string | undefined;

  constructor(plan: CellPlan) {
    this.#plan = plan;
    this.#leaves = new Set(plan.inputs.map(({ expression }) => expression));
    for (const { name, expression } of plan.inputs) {
      const type = outerType(expression.type);
      const given = this.graph.input(name, type, expression.dims);
      this.#uncast.set(expression, given);
      if (type === expression.type) this.#written.set(expression, given);
    }
  }

  output({ name, expression, direction }: CellOutput): OnnxCell["outputs"][number] {
    if (direction !== undefined && expression.kind === "state") {
      const { of, which } = expression;
      const value = this.#step(of, direction)[which]!;
      this.graph.output(name, value, "float32", [of.hidden]);
      return { name, dtype: "float32", shape: [of.hidden] };
    }
    const value = this.#write(expression);
    const type = outerType(expression.type);
    const outer = type === expression.type ? value : this.#cast(value, type);
    this.graph.output(name, outer, type, expression.dims);
    return tensorOf(name, expression);
  }

  /** Writes what an expression needs and answers its name. */
  #write(root: Expression): string {
    const isLeaf = (one: Expression) => this.#written.has(one) || this.#leaves.has(one);
    for (const expression of inOrder([root], isLeaf)) {
      if (!isLeaf(expression)) this.#written.set(expression, this.#writeOne(expression));
    }
    return this.#nameOf(root);
  }

  #nameOf(expression: Expression): string {
    const known = this.#written.get(expression);
    if (known !== undefined) return known;
    const name = this.#cast(this.#uncast.get(expression)!, expression.type);
    this.#written.set(expression, name);
    return name;
  }

  #writeOne(expression: Expression): string {
    switch (expression.kind) {
      case "constant":
        return this.graph.constant(expression.constant);
      case "collect":
        return this.#nameOf(expression.of);
      case "state":
        return this.#step(expression.of, 0)[expression.which]!;
      case "node": {
        const { op, inputs, attributes } = expression;
        const names = inputs.map((input, i) => {
          const raw = op === "Gather" && i === 1 ? this.#uncast.get(input) : undefined;
          return raw ?? this.#nameOf(input);
        });
        return op === "Cast"
          ? this.#cast(names[0]!, expression.type)
          : this.graph.node(op, names, attributes);
      }
      case "input":
        throw new Error(`cell '${this.#plan.name}' has no input '${expression.name}'`);
    }
  }

  /** The states of a recurrence after a step of one direction. */
  #step(of: Recurrence, index: number): { readonly h: string; readonly c?: string } {
    const known = this.#stepped.get(of);
    if (known) return known;
    const x = this.#write(of.x);
    const direction = of.directions[index]!;
    const h = this.#state(of, "h", direction.h0);
    const c = of.kind === "LSTM" ? this.#state(of, "c", direction.c0) : undefined;
    const next = writeStep(this.graph, of, direction, x, { h: h.value, ...(c ? { c: c.value } : {}) });
    this.#stepped.set(of, next);
    this.graph.output(h.next, next.h, "float32", [of.hidden]);
    if (c) this.graph.output(c.next, next.c!, "float32", [of.hidden]);
    return next;
  }

  /** Declares a state, which is zero before the first step unless the recurrence begins from other values. */
  #state(
    of: Recurrence,
    which: "h" | "c",
    initial: Float32Array | undefined,
  ): { readonly value: string; readonly next: string } {
    const input = `${this.#plan.name}/${which}${this.#stepped.size}`;
    const next = `${input}_next`;
    this.states.push({ input, output: next, shape: [of.hidden], batchAxis: 0 });
    const value = this.graph.input(input, "float32", [of.hidden]);
    if (!initial) return { value, next };
    const from = this.graph.floats([of.hidden], initial);
    return { value: this.graph.node("Where", [this.#hasBegun(), value, from]), next };
  }

  /** A state of its own that is 0 before and 1 after the first step. */
  #hasBegun(): string {
    if (this.#begun !== undefined) return this.#begun;
    const input = `${this.#plan.name}/begun`;
    this.states.push({ input, output: `${input}_next`, shape: [1], batchAxis: 0 });
    const value = this.graph.input(input, "float32", [1]);
    const zero = this.graph.node("Mul", [value, this.graph.floats([1], Float32Array.of(0))]);
    const one = this.graph.node("Add", [zero, this.graph.floats([1], Float32Array.of(1))]);
    this.graph.output(`${input}_next`, one, "float32", [1]);
    this.#begun = this.#cast(value, "bool");
    return this.#begun;
  }

  #cast(value: string, type: ElementType): string {
    return this.graph.node("Cast", [value], { to: dataTypes[type] });
  }
}

/** What callers see: cells take and give float32 and int32. */
function outerType(type: ElementType): "float32" | "int32" {
  return type === "float32" ? "float32" : "int32";
}

function tensorOf(name: string, { type, dims }: Expression): OnnxCell["inputs"][number] {
  return { name, dtype: outerType(type), shape: [...dims] };
}
