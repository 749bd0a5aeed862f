import { quantile } from "../../src/load/statistics.ts";
import { type Extent, line, whole } from "./chain-report.ts";
import { mean, verdict } from "./claims.ts";
import { drive, type Run } from "./drive.ts";
import { cellularTrees, mergedTrees, randomTrees, type Tree } from "./trees.ts";

/** Milliseconds to build the graph of one node. */
const DYNET = 0.002;
const FOLD = 0.012;

/** Offered rate; then the p90 of cellular, DyNet-like and Fold-like from the first reproduction. */
const EXPECTED: readonly (readonly [number, string, string, string])[] = [
  [1_000, "6.0", "8.5", "17.9"],
  [3_000, "6.3", "12.8", "saturated at 1780"],
  [5_000, "7.9", "22", ""],
];

/** Trees of TreeLSTM cells: cellular batching against merging graphs. */
export function reportTrees({ seeds, seconds }: Extent): void {
  const trees = randomTrees(5_000, 1);
  console.log(`\n(b) TreeLSTM; ${seconds} s of virtual time, ${seeds.length} seeds; p90 in milliseconds`);
  console.log(
    "The parses of the Stanford Sentiment TreeBank are not at hand: random binary trees fitted to it.",
  );
  console.log(shapeOf(trees));
  console.log("");
  console.log(line(["req/s", "cellular", "expected", "DyNet-like", "expected", "Fold-like", "expected"]));
  const serve = (method: Method, rate: number) =>
    seeds.map((seed) => drive({ rate, seed, seconds }, () => method(trees)));
  const rows = EXPECTED.map(([rate, ...expected]) => {
    const runs = [cellularTrees, dynet, fold].map((method) => serve(method, rate));
    console.log(line([String(rate), ...runs.flatMap((of, i) => [p90(of), expected[i]!])]));
    return runs;
  });
  // Far above what any of them can serve, so that every task and every merge is full.
  const peaks = (method: Method) => serve(method, 9_000).map((run) => run.completed);
  const [ours, merged, folded] = [cellularTrees, dynet, fold].map(peaks);
  console.log(line(["peak", whole(ours!), "6800", whole(merged!), "5250", whole(folded!), "1780"]));
  console.log("");

  const first = rows[0]!.map((runs) => runs.map((run) => run.p90));
  const ratio = (a: readonly number[], b: readonly number[]) => a.map((value, i) => value / b[i]!);
  const claims = [
    { what: "peak, cellular over DyNet-like", values: ratio(ours!, merged!), atLeast: 1, expected: "1.3" },
    { what: "peak, cellular over Fold-like", values: ratio(ours!, folded!), atLeast: 3, expected: "3.8" },
    {
      what: "p90 at 1,000 req/s over DyNet-like",
      values: ratio(first[0]!, first[1]!),
      atMost: 1,
      expected: "0.71",
    },
    {
      what: "p90 at 1,000 req/s over Fold-like",
      values: ratio(first[0]!, first[2]!),
      atMost: 0.5,
      expected: "0.34",
    },
  ];
  for (const claim of claims) console.log(verdict(claim));
  console.log("\nThe gap to a merging server depends on what building a node costs:");
  for (const micros of [0, 1, 2, 4, 8, 12]) {
    const peak = peaks((of) => mergedTrees(of, micros / 1000));
    console.log(
      `${String(micros).padStart(4)} us per node: peak ${whole(peak)}, ratio ${mean(ratio(ours!, peak)).toFixed(2)}`,
    );
  }
}

type Method = (trees: readonly Tree[]) => ReturnType<typeof cellularTrees>;

const dynet: Method = (trees) => mergedTrees(trees, DYNET);
const fold: Method = (trees) => mergedTrees(trees, FOLD);

function p90(runs: readonly Run[]): string {
  if (runs.some((run) => !run.sustained)) return `completes ${whole(runs.map((run) => run.completed))}`;
  return mean(runs.map((run) => run.p90)).toFixed(1);
}

function shapeOf(trees: readonly Tree[]): string {
  const leaves = trees.map((tree) => tree.leaves);
  const depths = trees.map((tree) => tree.levels.length - 1);
  const of = (values: readonly number[], shares: readonly number[]) =>
    `mean ${mean(values).toFixed(1)}, ${shares.map((share) => `p${share * 100} ${quantile(values, share)}`).join(", ")}, max ${Math.max(...values)}`;
  return `leaves: ${of(leaves, [0.9, 0.99])} (19.2, 32, 42-43, 56); depth: ${of(depths, [0.9])} (9.9, 15, 29)`;
}
