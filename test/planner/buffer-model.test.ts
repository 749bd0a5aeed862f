import { readFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { mmpp, poissonProcess, statisticsOf, superpose, thinned } from "../../planner/arrival-process.ts";
import { latencyAt } from "../../planner/batch.ts";
import { CorrectedModel } from "../../planner/buffer-model.ts";
import { lambdaPrices } from "../../planner/cost.ts";
import { countsIn, inSequence } from "../../planner/counting.ts";
import { PaperModel } from "../../planner/paper-model.ts";
import { quantile } from "../../planner/quantile.ts";
import { simulateFunctions } from "../../planner/simulate-functions.ts";
import { arrivalTimes } from "../../planner/synthesis.ts";

interface Sizes {
  readonly process: string;
  readonly maxBatch: number;
  readonly timeoutMs: number;
  readonly sizes: readonly number[];
}

/** Made by golden.py with scipy's matrix exponential. */
const golden = JSON.parse(readFileSync(new URL("golden.json", import.meta.url), "utf8")) as {
  readonly statistics: Record<
    string,
    { d0: number[][]; d1: number[][]; perSecond: number; scv: number; lag1: number }
  >;
  readonly paper: readonly Sizes[];
  readonly exact: readonly Sizes[];
  readonly poissonWaits: readonly {
    rate: number;
    maxBatch: number;
    timeoutMs: number;
    cdf: [number, number][];
  }[];
};

describe("an arrival process", () => {
  it.each(Object.entries(golden.statistics))(
    "has the rate, SCV and correlation of scipy: %s",
    (_, expected) => {
      const { perSecond, scv, lag1 } = statisticsOf(expected);
      expect(perSecond).toBeCloseTo(expected.perSecond, 8);
      expect(scv).toBeCloseTo(expected.scv, 8);
      expect(lag1).toBeCloseTo(expected.lag1, 8);
    },
  );

  it("adds up its rate when superposed and splits it when thinned", () => {
    const bursty = mmpp(
      [100, 10],
      [
        [0, 2],
        [1, 0],
      ],
    );
    const both = superpose(bursty, poissonProcess(30));
    expect(statisticsOf(both).perSecond).toBeCloseTo(statisticsOf(bursty).perSecond + 30, 8);
    expect(statisticsOf(thinned(both, 0.25)).perSecond).toBeCloseTo(statisticsOf(both).perSecond / 4, 8);
    expect(statisticsOf(thinned(bursty, 0.01)).scv).toBeLessThan(statisticsOf(bursty).scv);
  });

  it("is refused with what is wrong", () => {
    expect(() => poissonProcess(0)).toThrow("d0[0][0] is 0, it must be below 0");
    expect(() =>
      mmpp(
        [-1, 3],
        [
          [0, 1],
          [1, 0],
        ],
      ),
    ).toThrow("d1[0][0] is -1");
    expect(() => mmpp([1], [[0]]) && superpose({ d0: [[-2]], d1: [[1]] }, poissonProcess(1))).not.toThrow();
  });
});

describe("counts of arrivals", () => {
  it("sum to 1, and two times after each other are the whole time", () => {
    fc.assert(
      fc.property(
        fc.double({ min: 0.5, max: 200, noNaN: true }),
        fc.double({ min: 0.1, max: 50, noNaN: true }),
        fc.double({ min: 0.001, max: 0.3, noNaN: true }),
        (fast, slow, seconds) => {
          const process = mmpp(
            [fast, slow],
            [
              [0, 1],
              [3, 0],
            ],
          );
          const whole = countsIn(process, seconds, 200);
          const halves = inSequence(
            countsIn(process, seconds / 3, 200),
            countsIn(process, (2 * seconds) / 3, 200),
          );
          whole.blocks.forEach((share, at) =>
            expect(Math.abs(share - halves.blocks[at]!)).toBeLessThan(1e-9),
          );
          const row = whole.blocks.filter((_, at) => Math.floor(at / 2) % 2 === 0);
          expect(row.reduce((sum, share) => sum + share, 0)).toBeCloseTo(1, 6);
        },
      ),
      { numRuns: 30 },
    );
  });
});

describe("sizes of batches", () => {
  it.each(golden.paper)(
    "are those of the paper's formula by scipy: $process, $maxBatch, $timeoutMs ms",
    (one) => {
      const { batches } = new PaperModel(golden.statistics[one.process]!, one);
      one.sizes.forEach((share, i) => expect(batches[i + 1]).toBeCloseTo(share, 7));
    },
  );

  it.each(golden.exact)("are exact in the corrected form: $process, $maxBatch, $timeoutMs ms", (one) => {
    const { batches } = new CorrectedModel(golden.statistics[one.process]!, one);
    // The grid finds the phase at the end of a full batch by trapezoids; everything else is exact.
    one.sizes.forEach((share, i) => expect(batches[i + 1]).toBeCloseTo(share, 3));
  });
});

describe("waits in a buffer", () => {
  it.each(golden.poissonWaits)(
    "are those of the closed form for Poisson: $rate/s, $maxBatch, $timeoutMs ms",
    (one) => {
      const model = new CorrectedModel(poissonProcess(one.rate), one);
      for (const [seconds, share] of one.cdf)
        expect(model.cdf(seconds * 1000, () => 0)).toBeCloseTo(share, 2);
    },
  );

  it.each([
    ["nearly Poisson", golden.statistics.nys!, 8, 50],
    [
      "bursty",
      mmpp(
        [100, 10],
        [
          [0, 0.5],
          [0.5, 0],
        ],
      ),
      8,
      200,
    ],
    [
      "bursty, large",
      mmpp(
        [100, 10],
        [
          [0, 5],
          [5, 0],
        ],
      ),
      20,
      100,
    ],
    [
      "bursty, small",
      mmpp(
        [100, 10],
        [
          [0, 5],
          [5, 0],
        ],
      ),
      2,
      500,
    ],
  ] as const)("give the percentiles of a simulation: %s", (_, process, maxBatch, timeoutMs) => {
    const service = { maxRows: 20, ms: (rows: number) => 10 + 34 * rows };
    const { latencyMs } = simulateFunctions(
      { timesMs: arrivalTimes({ kind: "map", process }, 300, 7) },
      { buffers: [{ maxBatch, timeoutMs, memoryMb: 1024 }], service, prices: lambdaPrices },
    );
    const model = new CorrectedModel(process, { maxBatch, timeoutMs });
    const sorted = latencyMs.sort();
    for (const share of [0.5, 0.9, 0.95]) {
      const predicted = latencyAt((ms) => model.cdf(ms, service.ms), share);
      expect(Math.abs(predicted / quantile(sorted, share) - 1)).toBeLessThan(0.05);
    }
  });

  it("never fall as time goes by, and end", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 12 }),
        fc.integer({ min: 1, max: 400 }),
        fc.double({ min: 1, max: 300, noNaN: true }),
        (maxBatch, timeoutMs, rate) => {
          const model = new CorrectedModel(poissonProcess(rate), { maxBatch, timeoutMs });
          let before = 0;
          for (let ms = 0; ms <= timeoutMs; ms += timeoutMs / 50) {
            const share = model.cdf(ms, () => 0);
            expect(share).toBeGreaterThanOrEqual(before - 1e-6);
            before = share;
          }
          expect(model.cdf(timeoutMs, () => 0)).toBeCloseTo(1, 9);
        },
      ),
      { numRuns: 50 },
    );
  });
});
