import { program } from "commander";
import { reportChains } from "./chain-report.ts";
import { reportTrees } from "./tree-report.ts";

program
  .description("Repeats the simulations of the cellular batching paper with this scheduler, in virtual time.")
  .option("--quick", "fewer seeds and less virtual time")
  .parse();

const seeds = program.opts<{ quick?: true }>().quick ? [1, 2, 3] : [1, 2, 3, 4, 5];
const seconds = program.opts<{ quick?: true }>().quick ? 5 : 20;
const began = performance.now();
reportChains({ seeds, seconds });
reportTrees({ seeds, seconds: seconds / 4 });
console.log(`\nseeds ${seeds.join(", ")}; ${((performance.now() - began) / 1000).toFixed(0)} s`);
