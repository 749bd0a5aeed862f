import type { Values } from "../../kernels/kernel.ts";
import { Fault } from "../core/faults.ts";
import { sizeOf, type Tensor, type TensorSpec } from "../core/tensor.ts";

/** How the values of one row lie around its axis of steps: `outer` blocks of steps of `inner` values each. */
interface Layout {
  /** -1 where there is no such axis. */
  readonly axis: number;
  readonly outer: number;
  readonly inner: number;
}

function layoutOf(shape: readonly number[]): Layout {
  const axis = shape.indexOf(-1);
  if (axis < 0) return { axis, outer: 1, inner: sizeOf(shape) };
  return { axis, outer: sizeOf(shape.slice(0, axis)), inner: sizeOf(shape.slice(axis + 1)) };
}

/** One input of a graph, padded from batch to batch in the same memory. */
export class PaddedInput {
  readonly #spec: TensorSpec;
  readonly #layout: Layout;
  readonly #pad: number;
  #room: Values;

  constructor(spec: TensorSpec, pad: number) {
    this.#spec = spec;
    this.#layout = layoutOf(spec.shape);
    this.#pad = pad;
    this.#room = spec.dtype === "int32" ? new Int32Array(0) : new Float32Array(0);
  }

  /** Steps of one request's value, or undefined where it has no axis of them. */
  stepsOf({ shape }: Tensor): number | undefined {
    return this.#layout.axis < 0 ? undefined : shape[this.#layout.axis];
  }

  /** One row per value, each of `steps` steps. Valid until the next call. */
  batch(values: readonly Values[], steps: number): Tensor {
    const { axis, outer, inner } = this.#layout;
    const width = (axis < 0 ? 1 : steps) * inner;
    const length = values.length * outer * width;
    if (this.#room.length < length)
      this.#room = this.#spec.dtype === "int32" ? new Int32Array(length) : new Float32Array(length);
    const room = this.#room.subarray(0, length);
    let at = 0;
    for (const value of values) {
      const own = value.length / outer;
      for (let block = 0; block < outer; block++) {
        room.set(value.subarray(block * own, (block + 1) * own), at);
        room.fill(this.#pad, at + own, at + width);
        at += width;
      }
    }
    const shape = [values.length, ...this.#spec.shape.map((dim) => (dim === -1 ? steps : dim))];
    return { dtype: this.#spec.dtype, shape, data: room } as Tensor;
  }
}

/** One request's part of an output. */
export interface CutRow {
  readonly shape: readonly number[];
  readonly values: Values;
}

/**
 * Row `row` of an output, without what padding made: of a request of `own` steps in a batch padded to `padded`. Throws
 * INTERNAL where the graph gave a shape it did not declare.
 */
export function cutRow(
  spec: TensorSpec,
  { shape, data }: Tensor,
  row: number,
  own: number,
  padded: number,
): CutRow {
  const given = shape.slice(1);
  const fits =
    given.length === spec.shape.length && spec.shape.every((dim, i) => dim === -1 || dim === given[i]);
  if (!fits) {
    const said = `[${given.join(", ")}], it declares [${spec.shape.join(", ")}]`;
    throw new Fault("INTERNAL", `the graph gave '${spec.name}' rows of shape ${said}`);
  }
  const size = sizeOf(given);
  const values = data.subarray(row * size, (row + 1) * size);
  const axis = spec.shape.indexOf(-1);
  if (axis < 0 || own === padded) return { shape: given, values };
  const steps = given[axis]!;
  const kept = Math.ceil((own * steps) / padded);
  const inner = sizeOf(given.slice(axis + 1));
  const cut = { shape: given.with(axis, kept) };
  if (axis === 0) return { ...cut, values: values.subarray(0, kept * inner) };
  const outer = size / (steps * inner);
  const packed =
    data instanceof Int32Array
      ? new Int32Array(outer * kept * inner)
      : new Float32Array(outer * kept * inner);
  for (let block = 0; block < outer; block++) {
    const from = block * steps * inner;
    packed.set(values.subarray(from, from + kept * inner), block * kept * inner);
  }
  return { ...cut, values: packed };
}
