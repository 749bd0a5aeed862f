import { Fault } from "../core/faults.ts";

/** Throws DEADLINE_EXCEEDED where the cells alone take longer than the caller waits; both in milliseconds. */
export function refuseImpossible(leastMs: number, timeoutMs: number): void {
  if (leastMs <= timeoutMs) return;
  throw new Fault(
    "DEADLINE_EXCEEDED",
    `a time limit of ${timeoutMs} ms cannot be met: the cells alone take at least ${leastMs.toFixed(1)} ms`,
  );
}
