import { Uncuttable } from "./faults.ts";

/** An axis that a cell does not have: its steps, the batch, or both as one. */
export type Label = "time" | "batch" | "time-batch" | "batch-time";
/** An axis of a tensor of the whole graph: what it stands for, or its length where it is an axis of each row's value. */
export type Axis = Label | number;

/** An element of a shape: a number, or a length that is only known per request, to which `plus` is added. */
export type Size = number | { readonly label: Label; readonly plus: number };

/** Lengths of labelled axes where the file fixes them. */
export type FixedLengths = Readonly<Partial<Record<Label, number>>>;

export function isLabel(axis: Axis | undefined): axis is Label {
  return typeof axis === "string";
}

export function lengthsOf(axes: readonly Axis[]): number[] {
  return axes.filter((axis) => typeof axis === "number");
}

/** Where an axis stands among those of a row. */
export function rowAxis(axes: readonly Axis[], axis: number): number {
  return lengthsOf(axes.slice(0, axis)).length;
}

/** An axis number that may count from the end. */
export function axisOf(axis: number, rank: number): number {
  const at = axis < 0 ? axis + rank : axis;
  if (at < 0 || at >= rank || !Number.isInteger(at))
    throw new Uncuttable(`has axis ${axis} of a tensor with ${rank}`);
  return at;
}

export function sayAxes(axes: readonly Axis[]): string {
  return `[${axes.join(", ")}]`;
}

/** The axes of an elementwise operation on tensors with these axes. */
export function broadcast(tensors: readonly (readonly Axis[])[]): Axis[] {
  const rank = Math.max(...tensors.map(({ length }) => length));
  return Array.from({ length: rank }, (_, i) => {
    let result: Axis = 1;
    for (const axes of tensors) {
      const axis = axes[i - rank + axes.length];
      if (axis === undefined || axis === 1 || axis === result) continue;
      if (result !== 1) {
        throw new Uncuttable(`mixes axes ${tensors.map(sayAxes).join(" and ")}`);
      }
      result = axis;
    }
    return result;
  });
}

/** Axes after a reshape to `target`; undefined where the labelled axes do not survive as they are. */
export function reshaped(
  axes: readonly Axis[],
  target: readonly Size[],
  fixed: FixedLengths,
): Axis[] | undefined {
  const sizes = target.map((size, i): Size | Axis => (size === 0 ? (axes[i] ?? 0) : size));
  let tries = 0;
  const solve = (i: number, j: number): Axis[] | undefined => {
    if (++tries > MAX_TRIES) return undefined;
    if (i === axes.length && j === sizes.length) return [];
    const then = (kept: readonly Axis[], nextI: number, nextJ: number) => {
      const rest = solve(nextI, nextJ);
      return rest && [...kept, ...rest];
    };
    const axis = axes[i];
    if (isLabel(axis)) {
      if (j < sizes.length && stands(sizes[j]!, axis, fixed)) {
        const found = then([axis], i + 1, j + 1);
        if (found) return found;
      }
      let next = i + 1;
      while (axes[next] === 1) next++;
      const merged = mergedLabel(axis, axes[next]);
      if (merged && j < sizes.length && stands(sizes[j]!, merged, fixed)) {
        const found = then([merged], next + 1, j + 1);
        if (found) return found;
      }
      const [first, second] = axis.split("-") as [Label, Label | undefined];
      if (
        second &&
        j + 1 < sizes.length &&
        stands(sizes[j]!, first, fixed) &&
        stands(sizes[j + 1]!, second, fixed)
      ) {
        const found = then([first, second], i + 1, j + 2);
        if (found) return found;
      }
    } else if (axis !== undefined) {
      let length = 1;
      for (let endI = i; endI < axes.length && !isLabel(axes[endI]); endI++) {
        length *= axes[endI] as number;
        for (let endJ = j + 1; endJ <= sizes.length; endJ++) {
          const group = groupOf(sizes.slice(j, endJ), length);
          const found = group && then(group, endI + 1, endJ);
          if (found) return found;
        }
      }
      if (axis === 1) {
        const found = solve(i + 1, j);
        if (found) return found;
      }
    }
    return sizes[j] === 1 ? then([1], i, j + 1) : undefined;
  };
  return solve(0, 0);
}

const MAX_TRIES = 20_000;

/** Whether an element of a shape can stand for a labelled axis. */
function stands(size: Size | Axis, label: Label, fixed: FixedLengths): boolean {
  if (size === -1 || size === label) return true;
  if (typeof size === "number") return size === fixed[label];
  if (typeof size === "string") return false;
  // A product of both lengths does not say which came first.
  return size.plus === 0 && (size.label === label || (size.label.includes("-") && label.includes("-")));
}

function mergedLabel(first: Label, second: Axis | undefined): Label | undefined {
  if (first === "time" && second === "batch") return "time-batch";
  if (first === "batch" && second === "time") return "batch-time";
  return undefined;
}

/** A run of a target shape as lengths whose product is `length`. */
function groupOf(sizes: readonly (Size | Axis)[], length: number): number[] | undefined {
  let known = 1;
  let free = 0;
  for (const size of sizes) {
    if (typeof size !== "number") return undefined;
    if (size === -1) free++;
    else known *= size;
  }
  if (free > 1 || known === 0 || length % known !== 0) return undefined;
  if (free === 0 && known !== length) return undefined;
  return sizes.map((size) => (size === -1 ? length / known : (size as number)));
}
