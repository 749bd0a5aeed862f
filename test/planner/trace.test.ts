import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { mmpp, statisticsOf } from "../../planner/arrival-process.ts";
import { fitArrivals } from "../../planner/fit.ts";
import { arrivalTimes } from "../../planner/synthesis.ts";
import { formatTrace, gapsOf, momentsOf, parseTrace, slice, summaryOf } from "../../planner/trace.ts";

describe("a trace file", () => {
  it("is read with and without sizes, headings and comments, in lines or JSON", () => {
    expect([...parseTrace("timeMs\n0\n5\n7.5\n").timesMs]).toEqual([0, 5, 7.5]);
    const sized = parseTrace("# recorded\ntimeMs,size\n1,10\n\n2 20\n");
    expect([...sized.timesMs]).toEqual([1, 2]);
    expect([...sized.sizes!]).toEqual([10, 20]);
    expect([...parseTrace('{"timeMs":3,"size":2}\n{"timeMs":9,"size":4}').sizes!]).toEqual([2, 4]);
  });

  it("may have times since an epoch, and two requests at once", () => {
    expect([...parseTrace("1700000000000\n1700000000000\n1700000000250").timesMs]).toEqual([0, 0, 250]);
  });

  it.each([
    ["", "a trace needs 2 requests or more, it has 0"],
    ["5", "a trace needs 2 requests or more, it has 1"],
    ["0\n0\n0", "all 3 requests of the trace came at 0 ms"],
    ["4\n-1", "line 2 of the trace: the time is -1 ms, it must be 0 or more"],
    ["7\n0", "line 2 of the trace: the time is 0 ms, the one before it is 7: sort the trace by time"],
    ["7\n8\nx", "line 3 of the trace: 'x' is no time in milliseconds"],
    ["7\n8,0", "line 2 of the trace: the size is 0, it must be above 0"],
    ["7\n8,3", "line 2 of the trace: it has a size, those before have none"],
    ["7,1\n8", "line 2 of the trace: it has no size, those before have"],
    ["1,2,3\n4,5,6", "'1,2,3' is no time in milliseconds"],
    ['{"timeMs":"1"}\n{"timeMs":2}', "is no number"],
    ["{\n2", "line 1 of the trace: '{' is no JSON"],
  ])("is refused with the line that is wrong: %j", (text, message) => {
    expect(() => parseTrace(text)).toThrow(message);
  });

  it("is refused where nothing came for longer than allowed", () => {
    expect(() => parseTrace("0\n10\n70010", { maxGapMs: 60_000 })).toThrow(
      "line 3 of the trace: nothing came for 70000 ms, at most 60000 are allowed: cut the trace there",
    );
  });

  it("comes back as it was written, whatever is in it", () => {
    const gaps = fc.array(fc.double({ min: 0, max: 1e5, noNaN: true }), { minLength: 2, maxLength: 50 });
    fc.assert(
      fc.property(gaps, fc.boolean(), (list, hasSizes) => {
        let at = 0;
        const timesMs = Float64Array.from(list, (gap) => (at += gap));
        fc.pre(timesMs.at(-1)! > timesMs[0]! && timesMs[0]! < 86_400_000);
        const trace = hasSizes ? { timesMs, sizes: timesMs.map((_, i) => i + 0.5) } : { timesMs };
        expect(parseTrace(formatTrace(trace))).toEqual(trace);
      }),
    );
  });

  it("never fails but with a sentence", () => {
    fc.assert(
      fc.property(fc.string(), (text) => {
        try {
          parseTrace(text);
        } catch (error) {
          expect((error as { code?: string }).code).toBe("INVALID_REQUEST");
        }
      }),
    );
  });

  it("can be cut and described", () => {
    const trace = parseTrace("0,4\n1000,8\n1500,2\n4000,6");
    expect([...slice(trace, 1000, 4000).timesMs]).toEqual([0, 500]);
    expect(summaryOf(trace)).toMatchObject({ requests: 4, seconds: 4, perSecond: 0.75, longestGapMs: 2500 });
    expect(summaryOf(trace).sizes).toEqual({ least: 2, mean: 5, p95: 8, most: 8 });
  });
});

describe("arrivals that are made", () => {
  const moments = (times: Float64Array) => ({ ...momentsOf(gapsOf(times)), perSecond: times.length / 600 });

  it("have the rate and the variation that were asked for", () => {
    const poisson = moments(arrivalTimes({ kind: "poisson", perSecond: 40 }, 600, 1));
    expect(poisson.perSecond).toBeCloseTo(40, -0.5);
    expect(poisson.scv).toBeCloseTo(1, 1);
    for (const cv of [0.5, 4]) {
      const gamma = moments(arrivalTimes({ kind: "gamma", perSecond: 40, cv }, 600, 2));
      // The mean of 24,000 times varies by cv / 155.
      expect(Math.abs(gamma.perSecond / 40 - 1)).toBeLessThan((3 * cv) / 155);
      expect(gamma.scv / cv ** 2).toBeGreaterThan(0.85);
      expect(gamma.scv / cv ** 2).toBeLessThan(1.15);
    }
  });

  it("of a Markovian process have its moments", () => {
    const process = mmpp(
      [100, 10],
      [
        [0, 5],
        [5, 0],
      ],
    );
    const seen = moments(arrivalTimes({ kind: "map", process }, 600, 3));
    const { perSecond, scv, lag1 } = statisticsOf(process);
    expect(seen.perSecond / perSecond).toBeCloseTo(1, 1);
    expect(seen.scv / scv).toBeCloseTo(1, 1);
    expect(seen.lag1).toBeCloseTo(lag1, 1);
  });

  it("of counts per minute have exactly those", () => {
    const times = arrivalTimes({ kind: "counts", perMinute: [3, 0, 7] }, 180, 1);
    const minutes = [0, 1, 2].map(
      (minute) => times.filter((ms) => Math.floor(ms / 60_000) === minute).length,
    );
    expect(minutes).toEqual([3, 0, 7]);
    expect([...times]).toEqual([...times].sort((a, b) => a - b));
  });

  it("are the same for the same seed", () => {
    const make = (seed: number) => arrivalTimes({ kind: "gamma", perSecond: 9, cv: 2 }, 20, seed);
    expect(make(4)).toEqual(make(4));
    expect(make(4)).not.toEqual(make(5));
  });

  it.each([
    [{ kind: "poisson", perSecond: 0 }, "the rate is 0 per second"],
    [{ kind: "gamma", perSecond: 1, cv: 0 }, "the coefficient of variation is 0"],
    [{ kind: "counts", perMinute: [1.5] }, "minute 0 has 1.5 requests"],
  ] as const)("are refused out of bounds: %j", (arrivals, message) => {
    expect(() => arrivalTimes(arrivals, 60, 1)).toThrow(message);
  });
});

describe("a fit", () => {
  it("calls a Poisson trace Poisson", () => {
    const timesMs = arrivalTimes({ kind: "poisson", perSecond: 30 }, 300, 5);
    const { process, reason } = fitArrivals({ timesMs });
    expect(process.d0).toHaveLength(1);
    expect(statisticsOf(process).perSecond).toBeCloseTo(timesMs.length / 300, 0);
    expect(reason).toMatch(/^looks Poisson/);
  });

  it("finds the two rates of a bursty trace and how long they last", () => {
    const timesMs = arrivalTimes(
      {
        kind: "map",
        process: mmpp(
          [80, 8],
          [
            [0, 0.1],
            [0.05, 0],
          ],
        ),
      },
      1800,
      6,
    );
    const { process, reason } = fitArrivals({ timesMs });
    expect(reason).toMatch(/^two phases found/);
    const rates = [process.d1[0]![0]!, process.d1[1]![1]!].sort((a, b) => a - b);
    expect(rates[0]! / 8).toBeCloseTo(1, 0.5);
    expect(rates[1]! / 80).toBeCloseTo(1, 0.8);
    const [slow, fast] = process.d1[0]![0]! < process.d1[1]![1]! ? [0, 1] : [1, 0];
    expect(process.d0[slow]![fast]!).toBeGreaterThan(0.025);
    expect(process.d0[slow]![fast]!).toBeLessThan(0.1);
    expect(process.d0[fast]![slow]!).toBeGreaterThan(0.05);
    expect(process.d0[fast]![slow]!).toBeLessThan(0.2);
  });

  it("says how many requests it needs", () => {
    expect(() => fitArrivals({ timesMs: Float64Array.of(0, 1, 2) })).toThrow(
      "a fit needs 10 requests or more, the trace has 3",
    );
  });
});
