const FIRST_MS = 100;
const LONGEST_MS = 10_000;

/**
 * How long to wait before attempt number `attempt` (from 1) after one that failed: twice as long every time, up to 10 s.
 * `random`, in [0, 1), takes up to half of it away, so that the clients of a server that restarts do not all come at once.
 */
export function backOffMs(attempt: number, random: number): number {
  return Math.min(LONGEST_MS, FIRST_MS * 2 ** (attempt - 1)) * (1 - random / 2);
}
