import { Random } from "../random.ts";

/** Times of a Poisson process, in seconds, ascending; the same for the same seed. */
export function poisson(rate: number, seconds: number, seed: number): Float64Array {
  const random = new Random(seed);
  const times: number[] = [];
  for (let at = random.exponential(1 / rate); at < seconds; at += random.exponential(1 / rate))
    times.push(at);
  return Float64Array.from(times);
}
