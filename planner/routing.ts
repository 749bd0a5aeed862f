import { Fault } from "../src/core/faults.ts";
import { Random } from "../src/core/random.ts";
import type { SizeMix } from "./synthesis.ts";

/** Which buffer a request of some size goes to. */
export type Route = (size: number) => number;

/** Which buffers take the requests of one class: those of this size, and above the class before. */
export interface RoutedClass {
  readonly size: number;
  /** Its share of all requests. */
  readonly share: number;
  /** Parts of it that go to buffers; they sum to 1. Two buffers at most, unless one class is larger than a buffer. */
  readonly to: readonly { readonly buffer: number; readonly part: number }[];
}

/** Classes ascending in size. */
export type Routing = readonly RoutedClass[];

/**
 * Cuts size classes into buffers that each get the same share of the requests; a class on a boundary is split between the
 * two. Throws INVALID_REQUEST for fewer than 1 buffer.
 */
export function equalLoad(mix: SizeMix, buffers: number): Routing {
  if (!Number.isInteger(buffers) || buffers < 1)
    throw new Fault("INVALID_REQUEST", `there are ${buffers} buffers, it must be an integer of 1 or more`);
  const total = mix.shares.reduce((sum, share) => sum + share, 0);
  const classes = mix.sizes
    .map((size, i) => ({ size, share: mix.shares[i]! / total }))
    .filter(({ share }) => share > 0)
    .sort((a, b) => a.size - b.size);
  let before = 0;
  return classes.map(({ size, share }) => {
    const [from, until] = [before, before + share];
    before = until;
    const to = Array.from({ length: buffers }, (_, buffer) => {
      const overlap = Math.min(until, (buffer + 1) / buffers) - Math.max(from, buffer / buffers);
      return { buffer, part: overlap / share };
    }).filter(({ part }) => part > ROUNDING);
    const parts = to.reduce((sum, { part }) => sum + part, 0);
    return { size, share, to: to.map(({ buffer, part }) => ({ buffer, part: part / parts })) };
  });
}

/** A part this small comes of adding shares up. */
const ROUNDING = 1e-9;

/** What one buffer gets: its classes, with their share of the buffer's requests, and its share of all requests. */
export function mixOf(routing: Routing, buffer: number): { readonly mix: SizeMix; readonly share: number } {
  const own = routing.flatMap(({ size, share, to }) =>
    to.filter((one) => one.buffer === buffer).map(({ part }) => ({ size, share: share * part })),
  );
  const share = own.reduce((sum, one) => sum + one.share, 0);
  return {
    share,
    mix: { sizes: own.map(({ size }) => size), shares: own.map((one) => one.share / share) },
  };
}

/** Sends sizes to buffers; a class that is split goes by chance, the same for the same seed. Above the largest class: the last buffer. */
export function router(routing: Routing, seed: number): Route {
  const random = new Random(seed);
  const last = routing.at(-1)!;
  return (size) => {
    const { to } = routing.find((one) => size <= one.size) ?? last;
    return to.length === 1 ? to[0]!.buffer : to[random.pick(to.map(({ part }) => part))]!.buffer;
  };
}

/**
 * The sizes of a trace as classes, each named by its largest: every size where there are few, else classes of equally many
 * requests.
 */
export function sizeClasses(sizes: ArrayLike<number>, most = 32): SizeMix {
  const sorted = Array.from(sizes).sort((a, b) => a - b);
  const distinct = [...new Set(sorted)];
  const edges =
    distinct.length <= most
      ? distinct
      : [
          ...new Set(
            Array.from({ length: most }, (_, i) => sorted[Math.ceil(((i + 1) * sorted.length) / most) - 1]!),
          ),
        ];
  const shares = new Array<number>(edges.length).fill(0);
  let at = 0;
  for (const size of sorted) {
    while (size > edges[at]!) at++;
    shares[at] = shares[at]! + 1 / sorted.length;
  }
  return { sizes: edges, shares };
}
