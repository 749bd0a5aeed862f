import { Chains } from "./chains.ts";
import { LightRequests } from "./light-requests.ts";
import { QuietRuns } from "./quiet.ts";
import { RunTable } from "./run-table.ts";
import { Trees } from "./trees.ts";

/** What an engine keeps of its requests by number of their subgraphs: columns of the light ones, objects of the others. */
export class RequestTables {
  readonly quiet = new QuietRuns();
  readonly runs = new RunTable(this.quiet);
  readonly light = new LightRequests();
  readonly chains = new Chains(this.light, this.quiet);
  readonly trees = new Trees(this.light, this.quiet);
}
