/**
 * Where the elements of a value come from, by index into what it was made of: what operators do that only move elements. Values are
 * of one row, so their batch axis has length 1.
 */
export interface Moved {
  readonly dims: readonly number[];
  readonly from: readonly number[];
}

export function transposed(dims: readonly number[], perm: readonly number[]): Moved {
  const to = perm.map((axis) => dims[axis]!);
  const strides = stridesOf(dims);
  return build(to, (place) => place.reduce((sum, at, axis) => sum + at * strides[perm[axis]!]!, 0));
}

/** `indices` of one axis, in that order; the axis goes where `isScalar`. */
export function picked(
  dims: readonly number[],
  axis: number,
  indices: readonly number[],
  keeps: "axis" | "nothing",
): Moved {
  const to = dims.with(axis, indices.length);
  const strides = stridesOf(dims);
  const { from } = build(to, (place) =>
    place.reduce((sum, at, own) => sum + (own === axis ? indices[at]! : at) * strides[own]!, 0),
  );
  return { dims: keeps === "axis" ? to : to.toSpliced(axis, 1), from };
}

/** One after the other along an axis; `from` counts through the parts. */
export function joined(parts: readonly (readonly number[])[], axis: number): Moved {
  const offsets = parts.map((_, i) => parts.slice(0, i).reduce((sum, dims) => sum + sizeOfAll(dims), 0));
  const ends = parts.map((_, i) => parts.slice(0, i + 1).reduce((sum, dims) => sum + dims[axis]!, 0));
  const to = parts[0]!.with(axis, ends.at(-1)!);
  return build(to, (place) => {
    const part = ends.findIndex((end) => place[axis]! < end);
    const strides = stridesOf(parts[part]!);
    const begin = ends[part]! - parts[part]![axis]!;
    return place.reduce(
      (sum, at, own) => sum + (own === axis ? at - begin : at) * strides[own]!,
      offsets[part]!,
    );
  });
}

/** The indices of an axis that a slice takes; undefined for steps other than 1. */
export function sliceOf(length: number, start: number, end: number, step: number): number[] | undefined {
  if (step !== 1) return undefined;
  const at = (index: number) => Math.min(length, Math.max(0, index < 0 ? index + length : index));
  const [first, last] = [at(start), at(end)];
  return Array.from({ length: Math.max(0, last - first) }, (_, i) => first + i);
}

/** The indices of an axis that was padded by reflection. */
export function reflected(length: number, before: number, behind: number): number[] | undefined {
  if (before >= length || behind >= length || before < 0 || behind < 0) return undefined;
  return Array.from({ length: before + length + behind }, (_, i) => {
    const at = Math.abs(i - before);
    return at < length ? at : 2 * (length - 1) - at;
  });
}

/** What a shape with a -1 and zeros, as Reshape takes it, is for `size` elements. */
export function reshaped(dims: readonly number[], shape: readonly number[]): number[] | undefined {
  const to = shape.map((size, axis) => (size === 0 ? dims[axis]! : size));
  const known = to.reduce((product, size) => (size === -1 ? product : product * size), 1);
  const filled = to.map((size) => (size === -1 ? sizeOfAll(dims) / known : size));
  return sizeOfAll(filled) === sizeOfAll(dims) ? filled : undefined;
}

export function sizeOfAll(dims: readonly number[]): number {
  return dims.reduce((product, size) => product * size, 1);
}

function build(dims: readonly number[], indexOf: (place: readonly number[]) => number): Moved {
  const place = dims.map(() => 0);
  const from = Array.from({ length: sizeOfAll(dims) }, () => {
    const index = indexOf(place);
    for (let axis = dims.length - 1; axis >= 0 && ++place[axis]! === dims[axis]; axis--) place[axis] = 0;
    return index;
  });
  return { dims, from };
}

function stridesOf(dims: readonly number[]): number[] {
  return dims.map((_, axis) => sizeOfAll(dims.slice(axis + 1)));
}
