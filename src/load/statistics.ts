export function median(values: ArrayLike<number>): number {
  return quantile(values, 0.5);
}

/** The value below which this share lies, by the nearest rank. */
export function quantile(values: ArrayLike<number>, share: number): number {
  const sorted = Array.from(values).sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? Number.NaN;
}

/** Shares at which a distribution is kept: every percent, and closer to the end. */
export const CURVE_SHARES: readonly number[] = [
  ...Array.from({ length: 100 }, (_, percent) => percent / 100),
  0.995,
  0.999,
  0.9999,
  1,
];
