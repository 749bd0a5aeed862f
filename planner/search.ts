import { Random } from "../src/core/random.ts";
import { expectedImprovement, GaussianProcess } from "./gaussian-process.ts";

/** A place on a grid: an index along each axis. */
export type Place = readonly number[];

/** What is to be least, by the place on a grid; the same place is asked for once. Cost is in whatever unit. */
export interface Objective {
  /** Places along each axis. */
  readonly axes: readonly number[];
  /** `violation` is 0 where a place is allowed, else how far it is from that, above 0. */
  at(place: Place): { readonly cost: number; readonly violation: number };
}

export interface Found {
  readonly place: Place;
  /** Places that were tried. */
  readonly tried: number;
}

/** How a grid is searched; undefined where no place that was tried is allowed. */
export type Search = (objective: Objective, seed: number) => Found | undefined;

export const searches = {
  /** Every place: the optimum, at the cost of trying all. */
  exhaustive: (objective) => {
    const tries = new Tries(objective);
    const [first, second, third] = [0, 1, 2].map((axis) => objective.axes[axis] ?? 1);
    for (let i = 0; i < first!; i++)
      for (let j = 0; j < second!; j++)
        for (let k = 0; k < third!; k++) tries.at([i, j, k].slice(0, objective.axes.length));
    return tries.found();
  },
  /** One axis at a time until nothing is better, from several places: some hundred tries, and seldom a worse place. */
  descent: (objective, seed) => {
    const tries = new Tries(objective);
    const random = new Random(seed);
    const starts = [objective.axes.map(() => 0), objective.axes.map((size) => size >> 1)];
    while (starts.length < STARTS) starts.push(objective.axes.map((size) => random.integer(0, size - 1)));
    for (const start of starts) {
      let here: Place = start;
      let value = tries.at(here);
      for (let before = Number.POSITIVE_INFINITY; value < before; ) {
        before = value;
        objective.axes.forEach((size, axis) => {
          for (let index = 0; index < size; index++) {
            const there = here.with(axis, index);
            const other = tries.at(there);
            if (other < value) [here, value] = [there, other];
          }
        });
      }
    }
    return tries.found();
  },
  /** Bayesian optimisation as in MBS: 30 places at random, then 30 where a Gaussian process expects most. */
  bayes: (objective, seed) => {
    const tries = new Tries(objective);
    const random = new Random(seed);
    const anywhere = () => objective.axes.map((size) => random.integer(0, size - 1));
    for (let i = 0; i < RANDOM_TRIES; i++) tries.at(anywhere());
    for (let i = 0; i < GUIDED_TRIES; i++) {
      const known = tries.all();
      const process = new GaussianProcess(
        known.map(({ place }) => unit(place, objective.axes)),
        known.map(({ value }) => value),
      );
      const least = Math.min(...known.map(({ value }) => value));
      const best = known.find(({ value }) => value === least)!.place;
      const candidates = [
        ...Array.from({ length: CANDIDATES }, anywhere),
        ...objective.axes.flatMap((size, axis) =>
          [-2, -1, 1, 2].map((by) => best.with(axis, Math.min(size - 1, Math.max(0, best[axis]! + by)))),
        ),
      ].filter((place) => !tries.knows(place));
      let next: Place | undefined;
      let most = -1;
      for (const place of candidates) {
        const gain = expectedImprovement(process.at(unit(place, objective.axes)), least);
        if (gain > most) [next, most] = [place, gain];
      }
      if (!next) break;
      tries.at(next);
    }
    return tries.found();
  },
} as const satisfies Record<string, Search>;

export type SearchName = keyof typeof searches;

const STARTS = 5;
const RANDOM_TRIES = 30;
const GUIDED_TRIES = 30;
const CANDIDATES = 200;

function unit(place: Place, axes: readonly number[]): number[] {
  return place.map((index, axis) => (axes[axis]! > 1 ? index / (axes[axis]! - 1) : 0));
}

/** Places that were tried. Those that are not allowed count as dearer than all that are, by how far they are from it. */
class Tries {
  readonly #objective: Objective;
  readonly #known = new Map<
    string,
    { readonly place: Place; readonly cost: number; readonly violation: number }
  >();
  /** The dearest so far: what is not allowed is worse, but not by so much that a model of the values sees nothing else. */
  #dearest = 0;

  constructor(objective: Objective) {
    this.#objective = objective;
  }

  knows(place: Place): boolean {
    return this.#known.has(place.join());
  }

  at(place: Place): number {
    const key = place.join();
    let one = this.#known.get(key);
    if (!one) {
      one = { place, ...this.#objective.at(place) };
      this.#known.set(key, one);
      this.#dearest = Math.max(this.#dearest, one.cost);
    }
    return this.#value(one);
  }

  all(): { readonly place: Place; readonly value: number }[] {
    return [...this.#known.values()].map((one) => ({ place: one.place, value: this.#value(one) }));
  }

  found(): Found | undefined {
    let best: { readonly place: Place; readonly cost: number } | undefined;
    for (const one of this.#known.values())
      if (one.violation <= 0 && (!best || one.cost < best.cost)) best = one;
    return best && { place: best.place, tried: this.#known.size };
  }

  #value({ cost, violation }: { readonly cost: number; readonly violation: number }): number {
    return violation > 0 ? this.#dearest * (1 + violation) : cost;
  }
}
