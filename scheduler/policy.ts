/** The cells of one type that are ready, as a policy sees them from one worker. */
export interface ReadyGroup {
  /** Index of the cell type. */
  readonly type: number;
  /** Cells that this worker could run now; at least 1. */
  readonly ready: number;
  /** Most rows that one task of the type may hold. */
  readonly maxBatch: number;
  /** Tasks of the type that are submitted and have not completed, on any worker. */
  readonly running: number;
  /** Later in a request's graph is higher. */
  readonly priority: number;
  /** Arrival number of the oldest request with a ready cell. */
  readonly oldest: number;
}

/** Picks the type to batch next from one or more groups. Pure: the same groups give the same answer. */
export type Policy = (groups: readonly ReadyGroup[]) => ReadyGroup;

export const policies = {
  /**
   * BatchMaker's Algorithm 1 (Gao et al., EuroSys 2018): types that fill a batch, else types that nobody serves, else
   * any; among those the one that is latest in the graph, because finishing is worth more than starting.
   */
  cellular: (groups) => {
    const full = groups.filter((group) => group.ready >= group.maxBatch);
    if (full.length > 0) return highest(full, (group) => group.priority);
    const unserved = groups.filter((group) => group.running === 0);
    return highest(unserved.length > 0 ? unserved : groups, (group) => group.priority);
  },
  /** The type with most ready cells. Best throughput; a rare type can starve. */
  fullest: (groups) => highest(groups, (group) => group.ready),
  /** The type of the oldest request. Fair; batches may be small. */
  oldest: (groups) => highest(groups, (group) => -group.oldest),
} as const satisfies Record<string, Policy>;

export type PolicyName = keyof typeof policies;

function highest(groups: readonly ReadyGroup[], score: (group: ReadyGroup) => number): ReadyGroup {
  let best = groups[0]!;
  for (const group of groups) if (score(group) > score(best)) best = group;
  return best;
}
