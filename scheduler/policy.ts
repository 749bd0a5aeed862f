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
  /** Types of one model share a family. */
  readonly family: number;
  /** Later in a request's graph is higher; compared within a family. */
  readonly priority: number;
  /** Decisions that passed it over since it was last chosen or had nothing ready. */
  readonly waited: number;
  /** Decisions since any type of its family was chosen. */
  readonly familyWaited: number;
  /** Arrival number of the oldest request with a ready cell. */
  readonly oldest: number;
}

/** Picks the type to batch next from one or more groups. Pure: the same groups give the same answer. */
export type Policy = (groups: readonly ReadyGroup[]) => ReadyGroup;

export const policies = {
  /**
   * BatchMaker's Algorithm 1 (Gao et al., EuroSys 2018): types that fill a batch, else types that nobody serves, else
   * any; among those the one that is latest in its graph, because finishing is worth more than starting. The paper has
   * one model; here models take turns, and a type that was passed over `PATIENCE` times goes first, so that a model at
   * saturation starves no other.
   */
  cellular: (groups) => {
    const overdue = groups.filter((group) => group.waited >= PATIENCE);
    if (overdue.length > 0) return highest(overdue, (group) => group.waited);
    const full = groups.filter((group) => group.ready >= group.maxBatch);
    const unserved = groups.filter((group) => group.running === 0);
    const candidates = full.length > 0 ? full : unserved.length > 0 ? unserved : groups;
    const { family } = highest(candidates, (group) => group.familyWaited);
    return highest(
      candidates.filter((group) => group.family === family),
      (group) => group.priority,
    );
  },
  /** The type with most ready cells. Best throughput; a rare type can starve. */
  fullest: (groups) => highest(groups, (group) => group.ready),
  /** The type of the oldest request. Fair; batches may be small. */
  oldest: (groups) => highest(groups, (group) => -group.oldest),
} as const satisfies Record<string, Policy>;

export type PolicyName = keyof typeof policies;

/** Decisions that may pass a type over while it is ready. */
export const PATIENCE = 8;

function highest(groups: readonly ReadyGroup[], score: (group: ReadyGroup) => number): ReadyGroup {
  let best = groups[0]!;
  for (const group of groups) if (score(group) > score(best)) best = group;
  return best;
}
