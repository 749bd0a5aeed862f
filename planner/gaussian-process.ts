import { CholeskyDecomposition, Matrix } from "ml-matrix";

/** A guess of a function on the unit cube from some of its values. */
export interface Posterior {
  readonly mean: number;
  readonly deviation: number;
}

/**
 * A Gaussian process with a Matern 5/2 kernel over points of the unit cube. Values are scaled to mean 0 and deviation 1; the
 * length scale is the one of a few that makes the values likeliest. Rasmussen and Williams, "Gaussian Processes for Machine
 * Learning", 2006, algorithm 2.1.
 */
export class GaussianProcess {
  readonly #points: readonly (readonly number[])[];
  readonly #middle: number;
  readonly #scale: number;
  #length = 1;
  #factor!: CholeskyDecomposition;
  #weights!: Matrix;

  constructor(points: readonly (readonly number[])[], values: readonly number[]) {
    this.#points = points;
    this.#middle = values.reduce((sum, value) => sum + value, 0) / values.length;
    const variance = values.reduce((sum, value) => sum + (value - this.#middle) ** 2, 0) / values.length;
    this.#scale = Math.sqrt(variance) || 1;
    const scaled = Matrix.columnVector(values.map((value) => (value - this.#middle) / this.#scale));
    let best = Number.NEGATIVE_INFINITY;
    for (const length of LENGTHS) {
      const covariance = new Matrix(points.map((a) => points.map((b) => matern(a, b, length))));
      for (let i = 0; i < points.length; i++) covariance.set(i, i, 1 + NOISE);
      const factor = new CholeskyDecomposition(covariance);
      if (!factor.isPositiveDefinite()) continue;
      const weights = factor.solve(scaled);
      const logDeterminant = factor.lowerTriangularMatrix
        .diagonal()
        .reduce((sum, entry) => sum + Math.log(entry), 0);
      const likelihood = -0.5 * scaled.transpose().mmul(weights).get(0, 0) - logDeterminant;
      if (likelihood <= best) continue;
      best = likelihood;
      this.#length = length;
      this.#factor = factor;
      this.#weights = weights;
    }
  }

  at(point: readonly number[]): Posterior {
    const kernel = Matrix.columnVector(this.#points.map((known) => matern(known, point, this.#length)));
    const mean = kernel.transpose().mmul(this.#weights).get(0, 0);
    const variance = 1 - kernel.transpose().mmul(this.#factor.solve(kernel)).get(0, 0);
    return {
      mean: this.#middle + mean * this.#scale,
      deviation: Math.sqrt(Math.max(0, variance)) * this.#scale,
    };
  }
}

const LENGTHS = [0.1, 0.2, 0.4, 0.8, 1.6];
const NOISE = 1e-6;

function matern(a: readonly number[], b: readonly number[], length: number): number {
  const distance = Math.sqrt(a.reduce((sum, value, i) => sum + (value - b[i]!) ** 2, 0)) / length;
  const root = Math.sqrt(5) * distance;
  return (1 + root + (root * root) / 3) * Math.exp(-root);
}

/** How much below `least` a value is expected to be; 0 or more. */
export function expectedImprovement({ mean, deviation }: Posterior, least: number): number {
  if (deviation < 1e-12) return Math.max(0, least - mean);
  const z = (least - mean) / deviation;
  return (least - mean) * normalCdf(z) + (deviation * Math.exp((-z * z) / 2)) / Math.sqrt(2 * Math.PI);
}

/** By the formula 7.1.26 of Abramowitz and Stegun, to 1.5e-7. */
function normalCdf(z: number): number {
  const x = Math.abs(z) / Math.SQRT2;
  const t = 1 / (1 + 0.3275911 * x);
  const tail =
    t *
    (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429)))) *
    Math.exp(-x * x);
  return z >= 0 ? 1 - tail / 2 : tail / 2;
}
