import type { ProfileOverheads } from "../src/core/profile.ts";

/** What a server adds to the calls of its kernels, in milliseconds. */
export interface Overheads {
  /** Of the engine's thread, each request: admission, placing, joining and leaving, the answer. */
  readonly requestMs: number;
  /** Of the engine's thread, each task. */
  readonly taskMs: number;
  /** Of the engine's thread, each row of a task at each of its steps; in a whole graph, of the padded size. */
  readonly rowMs: number;
  /** Of the engine's thread, telling the main thread what was done. */
  readonly publishMs: number;
  /** On the way to a sleeping engine and back, each request: half of it each way. */
  readonly hopMs: number;
  /** On the way, each unit of a request's size. */
  readonly sizeMs: number;
  /** What a request waits besides, by how long the engine had nothing to do; ascending, a straight line between two. */
  readonly idle: readonly { readonly afterMs: number; readonly ms: number }[];
}

/** Medians of what was measured of small models on two virtual cores, for profiles that do not say; see docs/profiles.md. */
export const typicalOverheads: Overheads = {
  requestMs: 0.01,
  taskMs: 0.01,
  rowMs: 0.0003,
  publishMs: 0.02,
  hopMs: 0.1,
  sizeMs: 0.001,
  idle: [],
};

/** Those of a profile, or `typicalOverheads` where it has none. */
export function overheadsOf({ overheads }: { readonly overheads?: ProfileOverheads | undefined }): Overheads {
  if (!overheads) return typicalOverheads;
  const { requestUs, taskUs, rowUs, publishUs, hopUs, sizeUs, idle } = overheads;
  return {
    requestMs: requestUs / 1000,
    taskMs: taskUs / 1000,
    rowMs: rowUs / 1000,
    publishMs: publishUs / 1000,
    hopMs: hopUs / 1000,
    sizeMs: sizeUs / 1000,
    idle: idle.map(({ afterMs, us }) => ({ afterMs, ms: us / 1000 })),
  };
}

/** What a request waits besides where an engine had nothing to do for so long. */
export function idleMs({ idle }: Overheads, forMs: number): number {
  const above = idle.findIndex(({ afterMs }) => afterMs >= forMs);
  if (above < 0) return idle.at(-1)?.ms ?? 0;
  const to = idle[above]!;
  const from = idle[above - 1] ?? { afterMs: 0, ms: 0 };
  if (to.afterMs === from.afterMs) return to.ms;
  return from.ms + ((to.ms - from.ms) * (forMs - from.afterMs)) / (to.afterMs - from.afterMs);
}
