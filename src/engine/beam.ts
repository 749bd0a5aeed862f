import type { Values } from "../../kernels/kernel.ts";
import type { Beam } from "../../models/definition.ts";

/** Tokens of a hypothesis from the last to the first; what hypotheses have in common they share. */
interface Tail {
  readonly token: number;
  readonly before: Tail | undefined;
}

/** A sequence that was found, with the sum of its tokens' log probabilities over its length to the power of the penalty. */
export interface Hypothesis {
  readonly tokens: readonly number[];
  readonly score: number;
}

/** Beam `beam` goes on with `token` from the state of beam `parent`. */
export interface Move {
  readonly beam: number;
  readonly parent: number;
  readonly token: number;
}

interface Candidate {
  readonly beam: number;
  readonly token: number;
  readonly score: number;
}

/**
 * Beam search over one sequence: every step keeps the `width` best hypotheses, and the search ends once as many have
 * stopped or `maxSteps` is reached. It begins with beam 0 alone. Holds numbers only; the engine moves states.
 */
export class BeamSearch {
  readonly #beam: Beam;
  readonly #stop: number;
  readonly #maxSteps: number;
  readonly #scores: Float64Array;
  readonly #tails: (Tail | undefined)[];
  readonly #found: Hypothesis[] = [];
  #candidates: Candidate[] = [];
  #alive = 1;
  #stepped = 0;
  #steps = 0;

  constructor(beam: Beam, stop: number, maxSteps: number) {
    this.#beam = beam;
    this.#stop = stop;
    this.#maxSteps = maxSteps;
    this.#scores = new Float64Array(beam.width);
    this.#tails = Array.from({ length: beam.width }, () => undefined);
  }

  /** The `nBest` best hypotheses, the best first; fewer where fewer were found. */
  get best(): readonly Hypothesis[] {
    return this.#found.toSorted((a, b) => b.score - a.score).slice(0, this.#beam.nBest);
  }

  /** Takes `size` logits of one beam's step, which begin at `at`. Answers whether all beams have stepped. */
  step(beam: number, logits: Values, at: number, size: number): boolean {
    const score = this.#scores[beam]! - logSumExp(logits, at, size);
    // A stop takes no place among those that go on, so twice the width are enough.
    const most = Math.min(2 * this.#beam.width, size);
    const best: Candidate[] = [];
    for (let token = 0; token < size; token++) {
      const one = { beam, token, score: score + logits[at + token]! };
      if (best.length === most && one.score <= best[most - 1]!.score) continue;
      let place = best.length;
      while (place > 0 && best[place - 1]!.score < one.score) place--;
      best.splice(place, 0, one);
      if (best.length > most) best.pop();
    }
    this.#candidates.push(...best);
    this.#stepped++;
    return this.#stepped === this.#alive;
  }

  /**
   * Chooses among what all beams gave: how to go on, or undefined where the search has ended. A beam that goes on as
   * itself keeps its number; others take numbers that are free, so no beam that is a parent is overwritten.
   */
  advance(): readonly Move[] | undefined {
    const { width } = this.#beam;
    const candidates = this.#candidates.sort(
      (a, b) => b.score - a.score || a.beam - b.beam || a.token - b.token,
    );
    this.#candidates = [];
    this.#stepped = 0;
    this.#steps++;
    const next: Candidate[] = [];
    candidates.slice(0, 2 * width).forEach((candidate, rank) => {
      if (candidate.token === this.#stop) {
        if (rank < width) this.#keep(this.#tails[candidate.beam], candidate.score, this.#steps);
      } else if (next.length < width) next.push(candidate);
    });
    if (this.#steps === this.#maxSteps) {
      for (const { beam, token, score } of next) {
        this.#keep({ token, before: this.#tails[beam] }, score, this.#steps);
      }
    }
    if (this.#found.length >= width || this.#steps === this.#maxSteps || next.length === 0) return undefined;
    return this.#move(next);
  }

  #move(next: readonly Candidate[]): Move[] {
    const parents = new Set(next.map(({ beam }) => beam));
    const free: number[] = [];
    for (let beam = this.#beam.width - 1; beam >= 0; beam--) if (!parents.has(beam)) free.push(beam);
    const moves = next.map(({ beam: parent, token }): Move => {
      const beam = parents.delete(parent) ? parent : free.pop()!;
      return { beam, parent, token };
    });
    const tails = moves.map(({ parent, token }) => ({ token, before: this.#tails[parent] }));
    moves.forEach(({ beam }, i) => {
      this.#tails[beam] = tails[i];
      this.#scores[beam] = next[i]!.score;
    });
    this.#alive = moves.length;
    return moves;
  }

  #keep(tail: Tail | undefined, score: number, length: number): void {
    const tokens: number[] = [];
    for (let at = tail; at; at = at.before) tokens.push(at.token);
    this.#found.push({ tokens: tokens.reverse(), score: score / length ** this.#beam.lengthPenalty });
  }
}

function logSumExp(values: Values, at: number, size: number): number {
  let most = Number.NEGATIVE_INFINITY;
  for (let i = 0; i < size; i++) most = Math.max(most, values[at + i]!);
  let sum = 0;
  for (let i = 0; i < size; i++) sum += Math.exp(values[at + i]! - most);
  return most + Math.log(sum);
}
