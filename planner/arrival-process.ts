import { inverse, Matrix, solve } from "ml-matrix";
import { Fault } from "../src/core/faults.ts";

/**
 * A Markovian arrival process: `d0[i][j]` is the rate at which phase i becomes phase j without an arrival (its diagonal is
 * minus all rates out of i), `d1[i][j]` with one. All rates per second. One phase is a Poisson process; a diagonal `d1` an
 * MMPP.
 */
export interface ArrivalProcess {
  readonly d0: readonly (readonly number[])[];
  readonly d1: readonly (readonly number[])[];
}

export interface ProcessStatistics {
  /** Arrivals per second. */
  readonly perSecond: number;
  /** Squared coefficient of variation of the time between arrivals; 1 for Poisson. */
  readonly scv: number;
  /** Correlation of one time between arrivals with the next; 0 for Poisson. */
  readonly lag1: number;
}

export function poissonProcess(perSecond: number): ArrivalProcess {
  return checkProcess({ d0: [[-perSecond]], d1: [[perSecond]] });
}

/** A process that is Poisson at one of several rates; `switching[i][j]` is the rate per second from phase i to phase j. */
export function mmpp(
  perSecond: readonly number[],
  switching: readonly (readonly number[])[],
): ArrivalProcess {
  const out = switching.map((row, i) => row.reduce((sum, rate, j) => (i === j ? sum : sum + rate), 0));
  return checkProcess({
    d0: switching.map((row, i) => row.map((rate, j) => (i === j ? -out[i]! - perSecond[i]! : rate))),
    d1: perSecond.map((rate, i) => perSecond.map((_, j) => (i === j ? rate : 0))),
  });
}

/** The process itself, or INVALID_REQUEST with what is wrong with its matrices. */
export function checkProcess(process: ArrivalProcess): ArrivalProcess {
  const refuse = (why: string) => {
    throw new Fault("INVALID_REQUEST", `an arrival process needs rates: ${why}`);
  };
  const { d0, d1 } = process;
  const phases = d0.length;
  if (phases === 0 || d1.length !== phases) refuse(`d0 has ${phases} rows, d1 has ${d1.length}`);
  for (let i = 0; i < phases; i++) {
    if (d0[i]!.length !== phases || d1[i]!.length !== phases) refuse(`row ${i} has not ${phases} entries`);
    let sum = 0;
    for (let j = 0; j < phases; j++) {
      const [silent, arriving] = [d0[i]![j]!, d1[i]![j]!];
      if (!Number.isFinite(silent) || !Number.isFinite(arriving)) refuse(`entry [${i}][${j}] is no number`);
      if (arriving < 0) refuse(`d1[${i}][${j}] is ${arriving}, it must be 0 or more`);
      if (i !== j && silent < 0) refuse(`d0[${i}][${j}] is ${silent}, it must be 0 or more`);
      sum += silent + arriving;
    }
    if (!(d0[i]![i]! < 0)) refuse(`d0[${i}][${i}] is ${d0[i]![i]}, it must be below 0`);
    // Published matrices are rounded, so a row may miss 0 by a little.
    if (Math.abs(sum) > ROUNDED * -d0[i]![i]!) refuse(`row ${i} of d0 + d1 sums to ${sum}, it must be 0`);
  }
  if (!(statisticsOf(process).perSecond > 0)) refuse("no arrivals come of these");
  return process;
}

const ROUNDED = 1e-3;

/** The share of time that the process spends in each phase. */
export function stationary({ d0, d1 }: ArrivalProcess): number[] {
  const generator = Matrix.add(new Matrix(d0 as number[][]), new Matrix(d1 as number[][]));
  return stationaryOf(generator);
}

/** The shares of phases that a generator leaves as they are. */
function stationaryOf(generator: Matrix): number[] {
  const size = generator.rows;
  if (size === 1) return [1];
  const system = generator.transpose();
  for (let j = 0; j < size; j++) system.set(size - 1, j, 1);
  const right = Matrix.zeros(size, 1);
  right.set(size - 1, 0, 1);
  return solve(system, right).to1DArray();
}

/** The shares that a matrix of transition probabilities leaves as they are. */
export function stationaryOfChain(transitions: Matrix): number[] {
  return stationaryOf(Matrix.sub(transitions, Matrix.eye(transitions.rows)));
}

/** Where phases are found after the next arrival, by the phase now: `(-d0)^-1 d1`. */
export function phaseAtNextArrival({ d0, d1 }: ArrivalProcess): Matrix {
  return inverse(Matrix.mul(new Matrix(d0 as number[][]), -1)).mmul(new Matrix(d1 as number[][]));
}

export function statisticsOf(process: ArrivalProcess): ProcessStatistics {
  const d1 = new Matrix(process.d1 as number[][]);
  const pi = Matrix.rowVector(stationary(process));
  const ones = Matrix.ones(d1.rows, 1);
  const perSecond = pi.mmul(d1).mmul(ones).get(0, 0);
  const atArrival = Matrix.div(pi.mmul(d1), perSecond);
  const times = inverse(Matrix.mul(new Matrix(process.d0 as number[][]), -1));
  const mean = 1 / perSecond;
  const second = 2 * atArrival.mmul(times).mmul(times).mmul(ones).get(0, 0);
  const product = atArrival.mmul(times).mmul(times).mmul(d1).mmul(times).mmul(ones).get(0, 0);
  const variance = second - mean ** 2;
  return { perSecond, scv: variance / mean ** 2, lag1: (product - mean ** 2) / variance };
}

/** Arrivals of both processes, which do not know of each other. */
export function superpose(a: ArrivalProcess, b: ArrivalProcess): ArrivalProcess {
  const sum = (left: readonly (readonly number[])[], right: readonly (readonly number[])[]) =>
    new Matrix(left as number[][]).kroneckerSum(new Matrix(right as number[][])).to2DArray();
  return { d0: sum(a.d0, b.d0), d1: sum(a.d1, b.d1) };
}

/** Each arrival is kept with probability `share`, as where a buffer gets a share of the requests; in (0, 1]. */
export function thinned({ d0, d1 }: ArrivalProcess, share: number): ArrivalProcess {
  return {
    d0: d0.map((row, i) => row.map((rate, j) => rate + (1 - share) * d1[i]![j]!)),
    d1: d1.map((row) => row.map((rate) => rate * share)),
  };
}

/** The same process, so much quicker that it has this many arrivals per second. */
export function atRate(process: ArrivalProcess, perSecond: number): ArrivalProcess {
  const factor = perSecond / statisticsOf(process).perSecond;
  const scale = (matrix: readonly (readonly number[])[]) =>
    matrix.map((row) => row.map((rate) => rate * factor));
  return { d0: scale(process.d0), d1: scale(process.d1) };
}
