/** What the papers promise of a run, as an interval over seeds against a bound. */
export interface Claim {
  readonly what: string;
  /** One value per seed. */
  readonly values: readonly number[];
  readonly atLeast?: number;
  readonly atMost?: number;
  /** What the first reproduction gave. */
  readonly expected: string;
}

/** One line: PASS where the whole 95 % interval keeps the bound. */
export function verdict(claim: Claim): string {
  const { what, values, atLeast, atMost, expected } = claim;
  const [low, high] = interval95(values);
  const passes = low >= (atLeast ?? Number.NEGATIVE_INFINITY) && high <= (atMost ?? Number.POSITIVE_INFINITY);
  const bound = atLeast === undefined ? `at most ${atMost!.toFixed(2)}` : `at least ${atLeast.toFixed(2)}`;
  const measured = `${mean(values).toFixed(2)} [${low.toFixed(2)}, ${high.toFixed(2)}]`;
  return `${passes ? "PASS" : "FAIL"}  ${what}: ${measured}, ${bound}; expected ${expected}`;
}

export function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

/** Where the mean lies, by Student's t. */
function interval95(values: readonly number[]): readonly [number, number] {
  const middle = mean(values);
  const variance = values.reduce((sum, value) => sum + (value - middle) ** 2, 0) / (values.length - 1);
  const half = STUDENT_T[values.length]! * Math.sqrt(variance / values.length);
  return [middle - half, middle + half];
}

/** 97.5 % quantiles by the number of values. */
const STUDENT_T: Record<number, number> = { 2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776 };
