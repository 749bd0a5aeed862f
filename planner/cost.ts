/** What a provider of functions asks for. */
export interface FunctionPrices {
  /** USD per GB and second. */
  readonly perGbSecond: number;
  /** USD per call. */
  readonly perCall: number;
  /** Time is billed in whole multiples of this, in milliseconds. */
  readonly granularityMs: number;
}

/** AWS Lambda on x86 since December 2020: billed by the millisecond. */
export const lambdaPrices: FunctionPrices = { perGbSecond: 1.66667e-5, perCall: 2e-7, granularityMs: 1 };

/** AWS Lambda when BATCH and MBS were measured: billed by 100 ms. */
export const lambdaPricesOf2020: FunctionPrices = { ...lambdaPrices, granularityMs: 100 };

/** USD of one call that takes this long. */
export function callCost(ms: number, memoryMb: number, prices: FunctionPrices): number {
  // A product such as 3 * 0.1 is a little above its multiple, and would be billed as the next one.
  const billedMs = Math.ceil(ms / prices.granularityMs - 1e-9) * prices.granularityMs;
  return (billedMs / 1000) * (memoryMb / 1024) * prices.perGbSecond + prices.perCall;
}

/** What a machine costs, by the hour, whatever it does. */
export interface MachinePrice {
  /** USD. */
  readonly perHour: number;
  /** Least time that is billed, in seconds. @default 60 */
  readonly leastSeconds?: number;
}

/** USD of machines that run for a while. */
export function machineCost(
  machines: number,
  seconds: number,
  { perHour, leastSeconds = 60 }: MachinePrice,
): number {
  return (machines * Math.max(seconds, leastSeconds) * perHour) / 3600;
}
