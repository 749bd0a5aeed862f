import { program } from "commander";
import { reportChains } from "./chain-report.ts";
import { reportTrees } from "./tree-report.ts";

program
  .description("Repeats the simulations of the cellular batching paper with this scheduler, in virtual time.")
  .option("--quick", "fewer seeds and less virtual time")
  .parse();

const { quick } = program.opts<{ quick?: true }>();
const seeds = quick ? [1, 2, 3] : [1, 2, 3, 4, 5];
const seconds = quick ? 4 : 10;
const began = performance.now();
reportChains({ seeds, seconds });
reportTrees({ seeds, seconds: seconds / 5 });
console.log(`\nseeds ${seeds.join(", ")}; ${((performance.now() - began) / 1000).toFixed(0)} s`);
