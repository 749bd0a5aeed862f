/** Rows for which it is asked whether several steps per call pay. */
export const STEP_ROWS: readonly number[] = [1, 2, 4, 8, 16, 32];

/** Of the numbers of steps that a call can take, the one by which it is judged whether several pay. */
export function profiledSteps(stepSizes: readonly number[]): number {
  return Math.max(...stepSizes.filter((steps) => steps <= PROFILED_STEPS));
}

/** Whether a call of several steps takes clearly less than as many calls of one. */
export function stepsPay(callMs: number, steps: number, singleMs: number): boolean {
  return callMs / steps <= singleMs * STEPS_PAY;
}

/**
 * Of the numbers of steps that a call can take, those that keep no request waiting for long that joins: `stepMs` is the least
 * time of one step, `fullMs` that of a step of a full batch.
 */
export function allowedSteps(stepSizes: readonly number[], stepMs: number, fullMs: number): number[] {
  const longestMs = Math.max(LONGEST_CALL_MS, fullMs);
  return stepSizes.filter((steps) => steps === 1 || steps * stepMs <= longestMs);
}

/** More steps than this per call gain little more, and leave room for fewer rows. */
const PROFILED_STEPS = 8;
/** Several steps per call must take less than this share of single steps. */
const STEPS_PAY = 0.95;
/** What a request that joins may have to wait for a call of several steps, where one step of a full batch is shorter. */
const LONGEST_CALL_MS = 0.6;
