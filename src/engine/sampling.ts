/** How a request's tokens are drawn from its logits. */
export interface Sampling {
  /** Above 0. */
  readonly temperature: number;
  /** Only among this many likeliest tokens; 0 for all. */
  readonly topK: number;
  /** Only among the likeliest tokens that hold this share of the probability, in (0, 1]. */
  readonly topP: number;
}

/**
 * Draws a token from `logits[from ... from + width]` with a number in [0, 1). Top-k is applied first, then top-p to what
 * is left (Holtzman et al., "The Curious Case of Neural Text Degeneration", 2020). Ties go to the lower token.
 */
export function sample(
  logits: ArrayLike<number>,
  from: number,
  width: number,
  sampling: Sampling,
  uniform: number,
): number {
  const { temperature, topK, topP } = sampling;
  const order = Array.from({ length: width }, (_, token) => token);
  order.sort((a, b) => logits[from + b]! - logits[from + a]! || a - b);
  if (topK > 0) order.length = Math.min(order.length, topK);
  const highest = logits[from + order[0]!]!;
  const weights = order.map((token) => Math.exp((logits[from + token]! - highest) / temperature));
  let total = weights.reduce((sum, weight) => sum + weight, 0);
  if (topP < 1) {
    let kept = 0;
    let held = 0;
    while (kept < weights.length && held < topP * total) held += weights[kept++]!;
    weights.length = kept;
    total = held;
  }
  let left = uniform * total;
  for (let i = 0; i < weights.length; i++) {
    left -= weights[i]!;
    if (left < 0) return order[i]!;
  }
  return order[weights.length - 1]!;
}

/** The likeliest token of `logits[from ... from + width]`; the lowest of equals. */
export function likeliest(logits: ArrayLike<number>, from: number, width: number): number {
  let best = 0;
  for (let token = 1; token < width; token++) {
    if (logits[from + token]! > logits[from + best]!) best = token;
  }
  return best;
}

/** The next state of a 32-bit generator (Weyl sequence); `uniformOf` turns a state into a number. */
export function advance(state: number): number {
  return (state + 0x6d2b79f5) | 0;
}

/** Mulberry32's mixing function: a number in [0, 1) for a state. */
export function uniformOf(state: number): number {
  let mixed = Math.imul(state ^ (state >>> 15), state | 1);
  mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
  return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
}
