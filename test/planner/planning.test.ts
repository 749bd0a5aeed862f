import { describe, expect, it } from "vitest";
import { poissonProcess } from "../../planner/arrival-process.ts";
import { type BatchProblem, latencyAt, planBatch, predictions, range } from "../../planner/batch.ts";
import { sampleComposition } from "../../planner/composition.ts";
import { lambdaPrices } from "../../planner/cost.ts";
import { GaussianProcess } from "../../planner/gaussian-process.ts";
import { type MultiBufferProblem, planMultiBuffer } from "../../planner/multi-buffer.ts";
import { summarize } from "../../planner/outcome.ts";
import { equalLoad, mixOf, router, sizeClasses } from "../../planner/routing.ts";
import { searches } from "../../planner/search.ts";
import { cellularService, type Service } from "../../planner/service.ts";
import { simulateFunctions } from "../../planner/simulate-functions.ts";
import { arrivalTimes, drawSizes, type SizeMix } from "../../planner/synthesis.ts";

const flat: Service = {
  maxRows: 16,
  ms: (rows, _, memoryMb) => (60 + 5 * rows) * Math.max(1, 1769 / memoryMb),
};
const problem: BatchProblem = {
  process: poissonProcess(60),
  service: flat,
  prices: lambdaPrices,
  goal: { kind: "latency", percentile: 95, ms: 250 },
  grid: { maxBatch: range(1, 12, 1), timeoutMs: [10, 20, 40, 80, 120, 160], memoryMb: [1024, 1769, 3008] },
};

describe("a plan of one buffer", () => {
  it("is the cheapest setting that keeps the goal, and does what it says when it is simulated", () => {
    const { best, runnersUp, feasibleShare } = planBatch(problem);
    const all = predictions(problem, problem.grid!);
    const cheaper = all.filter((one) => one.usdPerMillion < best.usdPerMillion);
    expect(cheaper.every(({ latencyMs }) => latencyMs > 250)).toBe(true);
    expect(runnersUp.every((one) => one.usdPerMillion >= best.usdPerMillion)).toBe(true);
    expect(feasibleShare).toBeGreaterThan(0);
    const timesMs = arrivalTimes({ kind: "poisson", perSecond: 60 }, 200, 3);
    const seen = summarize(
      simulateFunctions({ timesMs }, { buffers: [best.setting], service: flat, prices: lambdaPrices }),
    );
    expect(seen.p95 / best.latencyMs).toBeCloseTo(1, 1);
    expect(seen.usdPerMillion / best.usdPerMillion).toBeCloseTo(1, 1);
    expect(seen.meanBatch / best.meanBatch).toBeCloseTo(1, 1);
  });

  it("is the quickest setting under a cap of cost", () => {
    const { best } = planBatch({ ...problem, goal: { kind: "cost", percentile: 95, usdPerMillion: 1 } });
    expect(best.usdPerMillion).toBeLessThanOrEqual(1);
    const quicker = predictions(problem, problem.grid!).filter((one) => one.latencyMs < best.latencyMs);
    expect(quicker.every(({ usdPerMillion }) => usdPerMillion > 1)).toBe(true);
  });

  it("says what comes nearest to a goal that nothing meets, and what that costs", () => {
    const goal = { kind: "latency", percentile: 95, ms: 50 } as const;
    expect(() => planBatch({ ...problem, goal })).toThrow(
      /no setting meets p95 of 50 ms: the nearest has p95 65\.0 ms at 2\.\d\d USD a million requests \(batches of 1, 10 ms, 1769 MB\)/,
    );
    const cap = { kind: "cost", percentile: 95, usdPerMillion: 0.01 } as const;
    expect(() => planBatch({ ...problem, goal: cap })).toThrow(
      /no setting meets 0\.01 USD a million: the nearest has/,
    );
  });

  it("never exceeds the rows that the profile knows", () => {
    const short = { ...flat, maxRows: 3 };
    expect(planBatch({ ...problem, service: short }).best.setting.maxBatch).toBeLessThanOrEqual(3);
  });
});

const mix: SizeMix = { sizes: [10, 20, 40, 80], shares: [0.4, 0.3, 0.2, 0.1] };

describe("routing", () => {
  it("gives every buffer the same load and splits the classes between", () => {
    const routing = equalLoad(mix, 4);
    expect(routing.map(({ to }) => to.map(({ buffer, part }) => [buffer, Number(part.toFixed(4))]))).toEqual([
      [
        [0, 0.625],
        [1, 0.375],
      ],
      [
        [1, 0.3333],
        [2, 0.6667],
      ],
      [
        [2, 0.25],
        [3, 0.75],
      ],
      [[3, 1]],
    ]);
    for (let buffer = 0; buffer < 4; buffer++) expect(mixOf(routing, buffer).share).toBeCloseTo(0.25, 9);
    expect(() => equalLoad(mix, 0)).toThrow("there are 0 buffers");
  });

  it("sends a split class to both by its parts, and what is larger than all to the last", () => {
    const route = router(equalLoad(mix, 4), 1);
    const seen = [0, 0, 0, 0];
    for (let i = 0; i < 4000; i++) seen[route(9)]!++;
    expect(seen[0]! / 4000).toBeCloseTo(0.625, 1);
    expect(seen[2]! + seen[3]!).toBe(0);
    expect(route(500)).toBe(3);
  });

  it("makes classes of the sizes of a trace", () => {
    expect(sizeClasses([3, 1, 3, 2])).toEqual({ sizes: [1, 2, 3], shares: [0.25, 0.25, 0.5] });
    const many = sizeClasses(
      Array.from({ length: 1000 }, (_, i) => i + 1),
      4,
    );
    expect(many.sizes).toEqual([250, 500, 750, 1000]);
    expect(many.shares.every((share) => Math.abs(share - 0.25) < 1e-9)).toBe(true);
  });
});

describe("what meets in a batch", () => {
  it("is sampled as the closed form for independent requests says", () => {
    const { largest, shares } = sampleComposition(mix, 6, { seed: 2 });
    const below = mix.shares.map((_, i) => mix.shares.slice(0, i + 1).reduce((sum, share) => sum + share, 0));
    for (const rows of [1, 3, 6])
      below.forEach((share, i) => {
        const exact = share ** rows - (below[i - 1] ?? 0) ** rows;
        expect(Math.abs(largest[rows]![i]! - exact)).toBeLessThan(0.01);
        expect(
          Math.abs(shares[rows]![i * 4 + 3]! - mix.shares[i]! * (i === 3 ? 1 : 1 - below[2]! ** (rows - 1))),
        ).toBeLessThan(0.01);
      });
  });
});

const law: Service = {
  maxRows: 16,
  ms: (rows, size, memoryMb) => size * (1 + 0.6 * rows) * Math.max(1, 1769 / memoryMb),
};
const sized: MultiBufferProblem = {
  mix,
  process: poissonProcess(120),
  service: law,
  prices: lambdaPrices,
  goal: { percentile: 95, ms: 20, perSize: true },
  grid: { maxBatch: range(1, 12, 1), timeoutMs: [5, 20, 40, 80], memoryMb: [1024, 1769, 3008] },
  buffers: [1, 2, 4],
};

describe("a plan of several buffers", () => {
  it("pads less and costs less than one buffer, and does what it says when it is simulated", () => {
    const { best, byBuffers } = planMultiBuffer(sized);
    const [one, , four] = byBuffers.map(({ plan }) => plan as typeof best);
    expect(four!.paddingShare).toBeLessThan(one!.paddingShare);
    expect(best.usdPerMillion).toBeLessThan(one!.usdPerMillion);
    const timesMs = arrivalTimes({ kind: "poisson", perSecond: 120 }, 120, 9);
    const trace = { timesMs, sizes: drawSizes(mix, timesMs.length, 10) };
    const outcome = simulateFunctions(trace, {
      buffers: best.buffers.map(({ setting }) => setting),
      route: router(best.routing, 4),
      service: law,
      prices: lambdaPrices,
    });
    const seen = summarize(outcome);
    expect(seen.usdPerMillion / best.usdPerMillion).toBeCloseTo(1, 1);
    expect(Math.abs(seen.paddingShare - best.paddingShare)).toBeLessThan(0.02);
    const perSize = outcome.latencyMs.map((ms, i) => ms / trace.sizes[i]!).sort();
    expect(perSize[Math.floor(0.95 * perSize.length)]! / best.latency).toBeCloseTo(1, 1);
  });

  it("pads nothing in the cellular lane, and answers small requests sooner", () => {
    const step = (rows: number, memoryMb: number) => law.ms(rows, 1, memoryMb);
    const cells = { ...sized, service: cellularService(step, { maxRows: 16 }), buffers: [1] };
    const { best } = planMultiBuffer({ ...cells, answers: "each" });
    const { best: single } = planMultiBuffer({ ...sized, buffers: [1] });
    expect(best.paddingShare).toBe(0);
    expect(best.usdPerMillion).toBeLessThan(single.usdPerMillion);
    expect(latencyAt(best.cdf, 0.95)).toBeLessThanOrEqual(20 * 1.001);
  });

  it("says which buffer meets no goal, and what comes nearest", () => {
    expect(() => planMultiBuffer({ ...sized, goal: { percentile: 95, ms: 1, perSize: true } })).toThrow(
      /no setting of buffer 0 \(sizes? .*\) meets p95 of 1 ms per unit of size: the nearest has 1\.6 ms per unit of size at/,
    );
  });
});

describe("searches", () => {
  const objective = (calls: number[] = []) => ({
    axes: [20, 15, 8],
    at: ([i, j, k]: readonly number[]) => {
      calls.push(0);
      const cost = (i! - 13) ** 2 + 2 * (j! - 4) ** 2 + 5 * (k! - 2) ** 2 + 10;
      return { cost, violation: i! + j! > 22 ? 0.1 : 0 };
    },
  });

  it.each(Object.keys(searches) as (keyof typeof searches)[])("find the least, or nearly: %s", (name) => {
    const calls: number[] = [];
    const found = searches[name](objective(calls), 1)!;
    expect(objective().at(found.place).cost).toBeLessThanOrEqual(name === "bayes" ? 16 : 10);
    expect(found.tried).toBe(calls.length);
    expect(calls.length).toBeLessThanOrEqual({ exhaustive: 2400, descent: 600, bayes: 60 }[name]);
  });

  it("find nothing where nothing is allowed", () => {
    const never = { axes: [3, 3, 3], at: () => ({ cost: 1, violation: 1 }) };
    for (const search of Object.values(searches)) expect(search(never, 1)).toBeUndefined();
  });

  it("stand on a Gaussian process that goes through its points and is unsure far from them", () => {
    const process = new GaussianProcess([[0.1], [0.5], [0.6]], [3, 1, 2]);
    expect(process.at([0.5]).mean).toBeCloseTo(1, 2);
    expect(process.at([0.5]).deviation).toBeLessThan(0.01);
    expect(process.at([1]).deviation).toBeGreaterThan(process.at([0.55]).deviation);
  });
});
