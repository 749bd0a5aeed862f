import { dictionary } from "cmu-pronouncing-dictionary";

/** Some two thousand English words. */
export const words: readonly string[] = Object.keys(dictionary).filter(
  (word, i) => i % 61 === 0 && /^[a-z']+$/.test(word),
);
