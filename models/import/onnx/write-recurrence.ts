import type { Activation, Direction, Recurrence } from "./expression.ts";
import type { GraphWriter } from "./graph-writer.ts";

/** Writes one step of a direction in primitive operators; `x [rows, input]`, states `[rows, hidden]`. */
export function writeStep(
  writer: GraphWriter,
  { kind, clip, hidden, inputForget, linearBeforeReset }: Recurrence,
  direction: Direction,
  x: string,
  state: { readonly h: string; readonly c?: string },
): { readonly h: string; readonly c?: string } {
  const step = new Step(writer, direction, hidden, clip);
  if (kind === "LSTM") return step.lstm(x, state.h, state.c!, inputForget);
  if (kind === "GRU")
    return { h: linearBeforeReset ? step.gruResetAfter(x, state.h) : step.gruResetBefore(x, state.h) };
  return { h: step.rnn(x, state.h) };
}

class Step {
  readonly #writer: GraphWriter;
  readonly #direction: Direction;
  readonly #hidden: number;
  readonly #clip: number | undefined;

  constructor(writer: GraphWriter, direction: Direction, hidden: number, clip: number | undefined) {
    this.#writer = writer;
    this.#direction = direction;
    this.#hidden = hidden;
    this.#clip = clip;
  }

  rnn(x: string, h: string): string {
    const { r, wb, rb } = this.#direction;
    return this.#activate(0, this.#product(h, r, this.#fromInput(x, added(wb, rb))));
  }

  lstm(x: string, h: string, c: string, inputForget: boolean): { h: string; c: string } {
    const w = this.#writer;
    const { r, wb, rb, p } = this.#direction;
    const hidden = this.#hidden;
    const gates = this.#product(h, r, this.#fromInput(x, added(wb, rb)));
    let [input, output, forget, candidate]: string[] = [];
    if (p || inputForget) {
      [input, output, forget, candidate] = this.#split(gates, [hidden, hidden, hidden, hidden]);
      const peephole = (gate: string, index: number, cell: string) =>
        p
          ? w.node("Add", [
              gate,
              w.node("Mul", [cell, w.floats([hidden], p.slice(index * hidden, (index + 1) * hidden))]),
            ])
          : gate;
      input = this.#activate(0, peephole(input!, 0, c));
      forget = inputForget
        ? w.node("Sub", [w.floats([1], Float32Array.of(1)), input])
        : this.#activate(0, peephole(forget!, 2, c));
      const next = this.#nextCell(input, forget, candidate!, c);
      output = this.#activate(0, peephole(output!, 1, next));
      return { h: w.node("Mul", [output, this.#apply(2, next)]), c: next };
    }
    // The gates i, o, f lie together and share an activation.
    const [three, fourth] = this.#split(gates, [3 * hidden, hidden]);
    [input, output, forget] = this.#split(this.#activate(0, three!), [hidden, hidden, hidden]);
    const next = this.#nextCell(input!, forget!, fourth!, c);
    return { h: w.node("Mul", [output!, this.#apply(2, next)]), c: next };
  }

  /** The candidate sees `reset * (h R + b)`. */
  gruResetAfter(x: string, h: string): string {
    const w = this.#writer;
    const { r, wb, rb } = this.#direction;
    const hidden = this.#hidden;
    const fromState = this.#product(h, r, w.floats([3 * hidden], rb));
    const [zrState, candidateState] = this.#split(fromState, [2 * hidden, hidden]);
    const [zrInput, candidateInput] = this.#split(this.#fromInput(x, wb), [2 * hidden, hidden]);
    const zr = this.#activate(0, w.node("Add", [zrInput!, zrState!]));
    const [update, reset] = this.#split(zr, [hidden, hidden]);
    const seen = w.node("Mul", [reset!, candidateState!]);
    return this.#mix(update!, this.#activate(1, w.node("Add", [candidateInput!, seen])), h);
  }

  /** The candidate sees `(reset * h) R + b`. */
  gruResetBefore(x: string, h: string): string {
    const w = this.#writer;
    const { r, wb, rb } = this.#direction;
    const hidden = this.#hidden;
    const [zrInput, candidateInput] = this.#split(this.#fromInput(x, added(wb, rb)), [2 * hidden, hidden]);
    const zr = this.#activate(0, this.#product(h, r.subarray(0, 2 * hidden * hidden), zrInput!));
    const [update, reset] = this.#split(zr, [hidden, hidden]);
    const kept = w.node("Mul", [reset!, h]);
    const candidate = this.#product(kept, r.subarray(2 * hidden * hidden), candidateInput!);
    return this.#mix(update!, this.#activate(1, candidate), h);
  }

  #nextCell(input: string, forget: string, candidate: string, c: string): string {
    const w = this.#writer;
    const written = w.node("Mul", [input, this.#activate(1, candidate)]);
    return w.node("Add", [w.node("Mul", [forget, c]), written]);
  }

  /** `candidate + update * (h - candidate)`. */
  #mix(update: string, candidate: string, h: string): string {
    const w = this.#writer;
    return w.node("Add", [candidate, w.node("Mul", [update, w.node("Sub", [h, candidate])])]);
  }

  #fromInput(x: string, bias: Float32Array): string {
    const { w } = this.#direction;
    return this.#product(x, w, this.#writer.floats([bias.length], bias));
  }

  /** `left * weights^T + added`, weights `[gates, columns]`. */
  #product(left: string, weights: Float32Array, plus: string): string {
    const gates = weights === this.#direction.w ? this.#direction.wb.length : weights.length / this.#hidden;
    const matrix = this.#writer.floats([gates, weights.length / gates], weights);
    return this.#writer.node("Gemm", [left, matrix, plus], { transB: 1 });
  }

  #split(value: string, sizes: readonly number[]): string[] {
    return this.#writer.nodes("Split", [value, this.#writer.integers(sizes)], sizes.length, { axis: 1 });
  }

  /** Function f, g or h of what is first bounded by the clip. */
  #activate(index: number, value: string): string {
    if (this.#clip === undefined) return this.#apply(index, value);
    const bound = (limit: number) => this.#writer.floats([], Float32Array.of(limit));
    return this.#apply(index, this.#writer.node("Clip", [value, bound(-this.#clip), bound(this.#clip)]));
  }

  #apply(index: number, value: string): string {
    return activate(this.#writer, this.#direction.activations[index]!, value);
  }
}

function activate(w: GraphWriter, { op, alpha, beta }: Activation, value: string): string {
  const number = (one: number) => w.floats([1], Float32Array.of(one));
  switch (op) {
    case "Affine":
      return w.node("Add", [w.node("Mul", [value, number(alpha)]), number(beta)]);
    case "ScaledTanh":
      return w.node("Mul", [w.node("Tanh", [w.node("Mul", [value, number(beta)])]), number(alpha)]);
    case "HardSigmoid":
      return w.node(op, [value], { alpha: { float: alpha }, beta: { float: beta } });
    case "Elu":
    case "LeakyRelu":
    case "ThresholdedRelu":
      return w.node(op, [value], { alpha: { float: alpha } });
    default:
      return w.node(op, [value]);
  }
}

function added(a: Float32Array, b: Float32Array): Float32Array {
  return a.map((value, i) => value + b[i]!);
}
