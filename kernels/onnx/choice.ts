import type { CellSpec } from "../../src/core/cell.ts";
import type { CellGraph } from "./cell-graph.ts";
import type { Session } from "./session.ts";
import { gainOf, isSame, Trial } from "./trial.ts";

/** A part of a given graph that was replaced by another that gives the same, quicker. */
export interface Rewrite {
  readonly node: string;
  readonly what: string;
  /** Time of the cell before over after, the geometric mean over 1, 64 and 256 rows. */
  readonly gain: number;
}

/** Takes one form of a cell after the other, if it gives the same as the untouched graph, quicker than the present one. */
export class Choice {
  readonly rewrites: Rewrite[] = [];
  readonly #makeTrial: (session: Session) => Trial;
  readonly #untouched: Trial;
  #present: Trial;

  /** `symbols`: kinds of tokens by name of an input. */
  constructor(cell: CellSpec, graph: CellGraph, session: Session, symbols: ReadonlyMap<string, number>) {
    this.#makeTrial = (one) => new Trial(cell, graph, one, symbols);
    this.#untouched = this.#makeTrial(session);
    this.#present = this.#untouched;
  }

  /** Whether the form was taken; one that does not open or run is not. */
  async consider(node: string, what: string, open: () => Promise<Session> | Session): Promise<boolean> {
    const trial = await Promise.resolve()
      .then(open)
      .then(this.#makeTrial)
      .catch(() => undefined);
    if (!trial) return false;
    const gain = (await isSame(this.#untouched, trial)) ? await gainOf(this.#present, trial) : 0;
    if (gain < LEAST_GAIN) {
      await trial.close();
      return false;
    }
    this.rewrites.push({ node, what, gain });
    if (this.#present !== this.#untouched) await this.#present.close();
    this.#present = trial;
    return true;
  }

  async close(): Promise<void> {
    if (this.#present !== this.#untouched) await this.#present.close();
    await this.#untouched.close();
  }
}

const LEAST_GAIN = 1.03;
