import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { WatchReport, WatchStep, WireModel } from "../../src/server/watch-protocol.ts";
import { exampleJson, inputsOf } from "../../web/example.ts";
import { History, percentilesOf } from "../../web/history.ts";
import { Lanes } from "../../web/lanes.ts";

const step = (start_ms: number, requests: readonly number[], ms = 1): WatchStep => ({
  engine: 0,
  model: "g2p",
  cell: "decoder",
  start_ms,
  ms,
  rows: requests.length,
  steps: 1,
  requests,
});

const report = (now_ms: number, steps: readonly WatchStep[], ended: readonly number[] = []): WatchReport => ({
  now_ms,
  stats: { engines: 1, active: 0, accepted: 0, completed: 0, failed: 0, cells: 0, tasks: 0, rows: 0 },
  steps,
  ended: ended.map((request) => [request, "g2p", 5] as const),
  left_out: { tasks: 0, cells: 0, ended: 0 },
});

const laneOf = (lanes: Lanes, request: number) => lanes.lanes.get(request)?.at;

describe("lanes", () => {
  it("keep a request where it is, and give the place of one that ended to the next that comes", () => {
    const lanes = new Lanes(1000);
    lanes.add(report(10, [step(0, [1]), step(1, [1, 2]), step(2, [2])], [1]));
    lanes.add(report(20, [step(11, [2, 3]), step(12, [2, 3, 4])]));
    expect([1, 2, 3, 4].map((request) => laneOf(lanes, request))).toEqual([0, 1, 0, 2]);
  });

  it("give a place away only after the last step of who had it, where both are told at once", () => {
    const lanes = new Lanes(1000);
    lanes.add(report(10, [step(0, [1]), step(1, [1, 2]), step(2, [1, 2]), step(3, [3])], [1, 2]));
    expect([1, 2, 3].map((request) => laneOf(lanes, request))).toEqual([0, 1, 0]);
  });

  it("never have two requests in one place at one time, whatever comes, and forget what is old", () => {
    const report1 = fc.record({
      lives: fc.array(fc.tuple(fc.nat(8), fc.integer({ min: 1, max: 6 })), { maxLength: 6 }),
    });
    fc.assert(
      fc.property(fc.array(report1, { maxLength: 12 }), (parts) => {
        const lanes = new Lanes(40);
        let request = 0;
        let now = 0;
        for (const { lives } of parts) {
          const begun = lives.map(([start, length]) => ({
            request: ++request,
            start: now + start,
            end: now + start + length,
          }));
          const steps = Array.from({ length: 16 }, (_, i) => now + i)
            .map((at) =>
              step(
                at,
                begun.filter(({ start, end }) => start <= at && at < end).map((one) => one.request),
              ),
            )
            .filter(({ rows }) => rows > 0);
          now += 16;
          lanes.add(
            report(
              now,
              steps,
              begun.map((one) => one.request),
            ),
          );
          const all = [...lanes.lanes.values()];
          const shared = all.filter((one) =>
            all.some(
              (other) =>
                other.at === one.at &&
                other.firstMs < one.lastMs &&
                one.firstMs < other.lastMs &&
                other !== one,
            ),
          );
          expect(shared).toEqual([]);
          expect(lanes.steps.filter(({ start_ms, ms }) => start_ms + ms < now - 40)).toEqual([]);
        }
        lanes.add(report(now + 1000, []));
        expect([lanes.steps.length, lanes.lanes.size]).toEqual([0, 0]);
      }),
      { numRuns: 50 },
    );
  });

  it("begin anew with a server that did", () => {
    const lanes = new Lanes(1000);
    lanes.add(report(9000, [step(8999, [7])]));
    lanes.add(report(5, [step(4, [1])]));
    expect(lanes.steps).toHaveLength(1);
    expect([...lanes.lanes.keys()]).toEqual([1]);
  });

  it("know the last burst, which begins after a pause", () => {
    const lanes = new Lanes(10_000);
    lanes.add(report(500, [step(0, [1]), step(100, [2]), step(101, [2, 3]), step(110, [3])]));
    expect(lanes.burst(50)).toEqual({ fromMs: 100, toMs: 111 });
    expect(lanes.burst(200)).toEqual({ fromMs: 0, toMs: 111 });
    expect(new Lanes(1).burst(1)).toBeUndefined();
  });
});

describe("the history", () => {
  it("gives cells per second, rows and percentiles over what was answered lately", () => {
    const history = new History();
    const at = (now_ms: number, cells: number, rows: number[], latencies: number[]): WatchReport => ({
      ...report(
        now_ms,
        rows.map((count) =>
          step(
            now_ms,
            Array.from({ length: count }, (_, i) => i),
          ),
        ),
      ),
      stats: { ...report(0, []).stats, cells, active: 3 },
      ended: latencies.map((ms, i) => [i, "g2p", ms] as const),
    });
    history.add(at(0, 100, [], []));
    history.add(at(500, 350, [1, 2, 6], [1, 2, 3, 4]));
    history.add(at(1000, 350, [], []));
    history.add(at(6500, 350, [], []));
    expect(history.columns).toMatchObject({
      seconds: [-6, -5.5, 0],
      cellsPerSecond: [500, 0, 0],
      meanRows: [3, null, null],
      mostRows: [6, null, null],
      active: [3, 3, 3],
      p50: [2, 2, null],
      p99: [4, 4, null],
    });
  });

  it("begins anew with a server that did", () => {
    const history = new History();
    for (const now of [9000, 9600, 10_200, 5, 600]) history.add(report(now, []));
    expect(history.columns.seconds).toEqual([0]);
  });

  it("takes percentiles as the smallest value that enough others do not exceed", () => {
    const values = fc.array(fc.integer({ min: 0, max: 50 }), { minLength: 1, maxLength: 40 });
    fc.assert(
      fc.property(values, fc.integer({ min: 1, max: 100 }), (given, percent) => {
        const [value] = percentilesOf(given, [percent / 100]);
        const below = (most: number) => given.filter((one) => one <= most).length * 100;
        expect(below(value!)).toBeGreaterThanOrEqual(percent * given.length);
        expect(below(value! - 1)).toBeLessThan(percent * given.length);
      }),
    );
  });
});

describe("the JSON editor", () => {
  const model = (inputs: WireModel["inputs"], streaming = false): WireModel => ({
    name: "m",
    version: "1",
    description: "",
    program: "chain",
    streaming,
    inputs,
    outputs: [],
    cells: [],
  });

  it("begins with an example that its own reader takes, of the right shapes", () => {
    const dims = fc.array(fc.constantFrom(-1, 1, 2, 5), { minLength: 1, maxLength: 3 });
    fc.assert(
      fc.property(
        dims,
        fc.constantFrom("float32" as const, "int32" as const),
        fc.boolean(),
        (shape, type, streaming) => {
          const one = model([{ name: "x", type, shape }], streaming);
          const { x } = inputsOf(exampleJson(one), one);
          const expected = (streaming ? shape.slice(1) : shape).map((dim) => (dim === -1 ? 4 : dim));
          expect(x).toMatchObject({ shape: expected });
        },
      ),
    );
  });

  const one = model([
    { name: "x", type: "float32", shape: [-1, 2] },
    { name: "text", type: "text", shape: [] },
  ]);
  it.each([
    ["{", /no JSON/],
    ["[1]", /object by name, such as \{"x"/],
    ['{"y": 1}', /no input 'y'; it takes 'x', 'text'/],
    ['{"text": 1}', /'text' is text/],
    ['{"x": [[1, 2], [3]]}', /'x' is not rectangular/],
    ['{"x": [1, "2"]}', /'x' holds "2"/],
  ])("says what is wrong with %s", (json, sentence) => {
    expect(() => inputsOf(json, one)).toThrow(sentence);
  });
});
