import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, it, onTestFinished } from "vitest";
import type { Fault } from "../../src/core/faults.ts";
import { type Arrivals, arrivalTimes, parseArrivals } from "../../src/load/arrivals.ts";
import { bottleneckOf, type GeneratorHealth } from "../../src/load/generator.ts";
import { Latencies } from "../../src/load/latencies.ts";
import { lengthsOf, parseLengths } from "../../src/load/lengths.ts";
import { openLoop } from "../../src/load/open-loop.ts";
import { requestsFor } from "../../src/load/requests.ts";
import { NO_COUNTS, oneAtATime, type Service, type Usage } from "../../src/load/service.ts";
import { CURVE_SHARES } from "../../src/load/statistics.ts";

async function fileOf(text: string): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "cellbatch-load-"));
  onTestFinished(() => rm(folder, { recursive: true }));
  const file = join(folder, "file");
  await writeFile(file, text);
  return file;
}

/** Mean and coefficient of variation of the times between arrivals. */
function gapsOf(times: Float64Array) {
  const gaps = times.slice(1).map((time, i) => time - times[i]!);
  const mean = gaps.reduce((a, b) => a + b, 0) / gaps.length;
  const variance = gaps.reduce((sum, gap) => sum + (gap - mean) ** 2, 0) / gaps.length;
  return { mean, cv: Math.sqrt(variance) / mean };
}

describe("arrivals", () => {
  it.each<[string, Arrivals, number]>([
    ["Poisson", { kind: "poisson" }, 1],
    ["Gamma that is regular", { kind: "gamma", cv: 0.3 }, 0.3],
    ["Gamma that is bursty", { kind: "gamma", cv: 3 }, 3],
  ])(
    "of %s have the wanted rate and variation, ascend, and are the same for the same seed",
    (_, arrivals, cv) => {
      const times = arrivalTimes(arrivals, 200, 100, 7);
      const found = gapsOf(times);
      expect(found.mean).toBeCloseTo(1 / 200, 3);
      expect(found.cv / cv).toBeGreaterThan(0.93);
      expect(found.cv / cv).toBeLessThan(1.07);
      expect(times).toEqual(times.toSorted());
      expect(arrivalTimes(arrivals, 200, 100, 7)).toEqual(times);
      expect(arrivalTimes(arrivals, 200, 100, 8)).not.toEqual(times);
    },
  );

  it("of two phases are Poisson at one of two rates whose ratio is the burst, and keep the mean", () => {
    const times = arrivalTimes({ kind: "mmpp", burst: 9, seconds: 5 }, 100, 2000, 3);
    expect(times.length / 2000 / 100).toBeGreaterThan(0.9);
    expect(times.length / 2000 / 100).toBeLessThan(1.1);
    const perSecond = new Int32Array(2000);
    for (const time of times) perSecond[Math.floor(time)]!++;
    const sorted = perSecond.toSorted();
    // Rates of 20 and 180: seconds that lie within one phase gather there.
    expect(sorted[400]!).toBeGreaterThan(8);
    expect(sorted[400]!).toBeLessThan(40);
    expect(sorted[1600]!).toBeGreaterThan(150);
    expect(sorted[1600]!).toBeLessThan(220);
  });

  it("of a trace keep its pattern at another rate", async () => {
    const arrivals = parseArrivals(`trace:${await fileOf("timeMs,size\n0,5\n10,6\n40,7\n\n# end\n100,8\n")}`);
    // Gaps of 10, 30 and 60 ms are a rate of 30 a second; at 3 they are ten times as long, over and over.
    const times = arrivalTimes(arrivals, 3, 2, 1);
    expect([...times].map((time) => Number(time.toFixed(6)))).toEqual([0.1, 0.4, 1, 1.1, 1.4]);
  });

  it("that cannot be understood are refused with what could", async () => {
    for (const text of ["", "gamma", "gamma:0", "gamma:x", "mmpp:2", "mmpp:0.5,1", "poisson:3", "trace:"])
      expect(() => parseArrivals(text)).toThrow("poisson, gamma:CV");
    expect(() => parseArrivals("trace:/no/such/file")).toThrow("/no/such/file cannot be read");
    const unsorted = await fileOf("5\n3\n");
    expect(() => parseArrivals(`trace:${unsorted}`)).toThrow("line 2");
    expect(() => parseArrivals(`trace:${unsorted}`)).toThrow("before the line above");
    const short = await fileOf("5\n");
    expect(() => parseArrivals(`trace:${short}`)).toThrow("two requests or more");
  });
});

describe("lengths", () => {
  it("are those of the distribution, and the same for the same seed", () => {
    const wmt = lengthsOf("wmt", 20_000, 1);
    expect(wmt.reduce((a, b) => a + b, 0) / wmt.length).toBeGreaterThan(23);
    expect(wmt.reduce((a, b) => a + b, 0) / wmt.length).toBeLessThan(25);
    expect(Math.max(...wmt)).toBeLessThanOrEqual(330);
    expect(lengthsOf("wmt", 100, 1)).toEqual(wmt.slice(0, 100));
    expect(new Set(lengthsOf(parseLengths("uniform:2,4"), 1000, 1))).toEqual(new Set([2, 3, 4]));
    expect(new Set(lengthsOf(parseLengths("fixed:24"), 10, 1))).toEqual(new Set([24]));
  });

  it("of a file are drawn from its lines; a line that is none is named", async () => {
    const file = await fileOf("# steps\n3\n\n5,x\n");
    expect(new Set(lengthsOf(parseLengths(`file:${file}`), 100, 1))).toEqual(new Set([3, 5]));
    const wrong = await fileOf("3\n0\n");
    expect(() => lengthsOf({ file: wrong }, 1, 1)).toThrow("line 2");
  });

  it("and arrivals of any text are read, or refused with INVALID_REQUEST", () => {
    const kinds = fc.constantFrom("wmt", "fixed:", "uniform:", "file:", "gamma:", "mmpp:", "trace:", "");
    fc.assert(
      fc.property(kinds, fc.string(), (kind, rest) => {
        for (const parse of [parseLengths, parseArrivals]) {
          try {
            parse(kind + rest);
          } catch (error) {
            expect((error as Fault).code).toBe("INVALID_REQUEST");
          }
        }
      }),
    );
  });
});

describe("requests", () => {
  it("have the steps that are wanted, in range, and are the same for the same number", () => {
    const make = requestsFor([
      { name: "token", type: "int32", shape: [-1], kinds: 5 },
      { name: "x", type: "float32", shape: [-1, 3] },
      { name: "text", type: "text", shape: [-1], symbols: ["AA", "B"], isSpaced: true },
      { name: "children", type: "int32", shape: [-1, 2], isTree: true },
    ]);
    const { token, x, text, children } = make(300, 7) as unknown as Record<
      string,
      { shape: number[]; data: Int32Array }
    >;
    expect(token!.shape).toEqual([7]);
    expect(token!.data.every((value) => value >= 0 && value < 5)).toBe(true);
    expect(x!.shape).toEqual([7, 3]);
    expect(x!.data.length).toBe(21);
    expect(String(text)).toMatch(/^(AA|B)( (AA|B)){6}$/);
    expect(children!.shape).toEqual([6, 2]);
    // Each leaf and each inner node but the root is a child once.
    expect([...children!.data].sort((a, b) => a - b)).toEqual(Array.from({ length: 12 }, (_, i) => i));
    expect(make(300, 7)).toEqual(make(300, 7));
    expect(make(301, 7)).not.toEqual(make(300, 7));
    expect(make(0, 5000).token).toMatchObject({ shape: [5000] });
  });
});

const OK: Usage = { queueMs: 1, computeMs: 2, cells: 3 };

/** A service whose answers are given by hand. */
function byHand() {
  const open: ((usage: Usage | Error) => void)[] = [];
  const service: Service = {
    ask: (_number, _length, done) => {
      open.push(done);
      return () => done(new Error("cancelled"));
    },
    counts: () => NO_COUNTS,
    close: async () => {},
  };
  return { service, open };
}

describe("an open loop", () => {
  it("counts latency from when a request was due, also where the thread was held up", async () => {
    const { service, open } = byHand();
    const hold = (ms: number) => {
      const until = performance.now() + ms;
      while (performance.now() < until);
    };
    const blocking: Service = {
      ...service,
      ask: (number, length, done) => {
        const cancel = service.ask(number, length, done);
        // The first request holds the thread, so that the second and third are sent late.
        if (number === 0) hold(200);
        open.pop()!(OK);
        return cancel;
      },
    };
    const { latencies, sent, answered, generator } = await openLoop(blocking, {
      lengths: Int32Array.of(4),
      arrivals: Float64Array.of(0, 0.01, 0.05),
      warmSeconds: 0,
      drainSeconds: 1,
    });
    expect([sent, answered]).toEqual([3, 3]);
    expect(latencies.quantile(0)).toBeGreaterThan(140);
    expect(generator.lateMs.most).toBeGreaterThan(140);
    expect(bottleneckOf(generator, 10)).toMatch(/late/);
  });

  it("tells failures and what was not answered by what they say, and leaves the warm-up out", async () => {
    const { service } = byHand();
    const some: Service = {
      ...service,
      ask: (number, length, done) => {
        if (number === 3) return service.ask(number, length, done);
        setImmediate(() => done(number % 2 === 0 ? OK : new Error("no room")));
        return () => {};
      },
    };
    const ended: unknown[] = [];
    const result = await openLoop(some, {
      lengths: Int32Array.of(4),
      arrivals: Float64Array.of(0, 0.001, 0.01, 0.011, 0.012, 0.013),
      warmSeconds: 0.01,
      drainSeconds: 0.05,
      progress: (latency) => ended.push(latency),
    });
    expect(result).toMatchObject({ sent: 4, answered: 2, failed: 2, queueMs: 1, computeMs: 2 });
    expect(result.failures).toEqual({ "no room": 1, "not answered in time": 1 });
    expect(ended.length).toBeGreaterThanOrEqual(3);
  });

  it("ends early when it is told to", async () => {
    const { service } = byHand();
    const stop = new AbortController();
    const result = openLoop(service, {
      lengths: Int32Array.of(4),
      arrivals: Float64Array.of(0, 3600),
      warmSeconds: 0,
      drainSeconds: 3600,
      signal: stop.signal,
    });
    setTimeout(() => stop.abort(), 20);
    expect(await result).toMatchObject({ sent: 1, answered: 0 });
  });
});

describe("one at a time", () => {
  it("asks the next once one is answered, in order; one that waits can be cancelled", () => {
    const { service, open } = byHand();
    const single = oneAtATime(service);
    const heard: unknown[] = [];
    const cancels = [0, 1, 2].map((number) => single.ask(number, 1, (usage) => heard.push([number, usage])));
    expect(open.length).toBe(1);
    cancels[1]!();
    expect(heard).toEqual([[1, new Error("cancelled")]]);
    open[0]!(OK);
    expect(open.length).toBe(2);
    open[1]!(OK);
    expect(heard.map((one) => (one as [number])[0])).toEqual([1, 0, 2]);
    expect((heard[2] as [number, Usage])[1]).toMatchObject({ computeMs: 2 });
    single.ask(3, 1, () => {});
    expect(open.length).toBe(3);
  });
});

describe("latencies", () => {
  it("are kept to three digits", () => {
    fc.assert(
      fc.property(fc.array(fc.double({ min: 0.001, max: 1e6, noNaN: true }), { minLength: 1 }), (values) => {
        const latencies = new Latencies();
        for (const value of values) latencies.add(value);
        const sorted = values.toSorted((a, b) => a - b);
        expect(latencies.count).toBe(values.length);
        expect(latencies.curve().length).toBe(CURVE_SHARES.length);
        for (const [share, exact] of [
          [0, sorted[0]!],
          [1, sorted.at(-1)!],
        ] as const)
          expect(Math.abs(latencies.quantile(share) - exact)).toBeLessThanOrEqual(0.002 * exact + 0.001);
      }),
    );
    expect(new Latencies().quantile(0.5)).toBeNaN();
    expect(new Latencies().curve()).toEqual([]);
  });
});

describe("a generator", () => {
  const well: GeneratorHealth = {
    seconds: 10,
    lateMs: { p50: 0.1, p99: 0.5, most: 3 },
    loopDelayMs: 0.5,
    busy: 0.4,
    cpu: 0.4,
  };

  it("is no bottleneck where it was late by little, in itself or beside the latency", () => {
    expect(bottleneckOf(well, 1)).toBeUndefined();
    expect(bottleneckOf({ ...well, lateMs: { ...well.lateMs, p99: 10 } }, 100)).toBeUndefined();
  });

  it("is one where it sent late, its loop was held up or its thread was busy", () => {
    expect(bottleneckOf({ ...well, lateMs: { ...well.lateMs, p99: 30 } }, 100)).toMatch("30 ms late");
    expect(bottleneckOf({ ...well, loopDelayMs: 30 }, 100)).toMatch("event loop was held up for 30 ms");
    expect(bottleneckOf({ ...well, busy: 0.95 }, 100)).toMatch("95 % of the time");
  });
});
