import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { callCost, lambdaPrices, lambdaPricesOf2020, machineCost } from "../../planner/cost.ts";
import { type ProfileSource, ProfileTable } from "../../planner/profile.ts";
import { cellularService, partsOf, tableService } from "../../planner/service.ts";

const points = (...list: [number, number][]) => list.map(([rows, us]) => ({ rows, us }));
const file = (cells: ProfileSource["cells"]): ProfileSource => ({ model: { name: "m" }, cells });
const graph = file([
  {
    cell: "graph",
    lane: "graph",
    settings: [
      { threads: 1, stepsPerCall: 1, size: 20, points: points([1, 200], [4, 500]) },
      { threads: 1, stepsPerCall: 1, size: 10, points: points([4, 250], [1, 100], [2, 90]) },
    ],
  },
]);

describe("a profile", () => {
  it("lies on a straight line between its points, in rows and in size, and is not taken to rise", () => {
    const table = new ProfileTable(graph);
    expect(table.us(1, 10)).toBe(100);
    expect(table.us(2, 10)).toBe(90);
    expect(table.us(3, 10)).toBe(170);
    expect(table.us(1, 15)).toBe(150);
    expect(table.us(4, 12)).toBe(300);
    expect(table.us(1, 3)).toBe(100);
    expect([table.maxRows, table.maxSize]).toEqual([4, 20]);
  });

  it("guesses nothing beyond what was measured", () => {
    const table = new ProfileTable(graph);
    expect(() => table.us(5, 10)).toThrow("has points up to 4 rows at size 10, not 5");
    expect(() => table.us(1, 21)).toThrow("has sizes up to 20, not 21: profile larger ones");
  });

  it("says which cells and settings there are", () => {
    const cells = ["a", "b"].map((cell) => ({ ...graph.cells[0]!, cell }));
    expect(() => new ProfileTable(file(cells))).toThrow("has cells a, b: say which one");
    expect(() => new ProfileTable(file(cells), { cell: "c" })).toThrow("has no cell 'c', it has a, b");
    expect(() => new ProfileTable(graph, { threads: 2 })).toThrow(
      "has nothing for 2 threads and 1 steps per call",
    );
  });

  it("becomes the service of a server, or of functions whose CPU follows their memory", () => {
    const table = new ProfileTable(graph);
    expect(tableService(table, { overheadMs: 2 }).ms(1, 20, 512)).toBeCloseTo(2.2, 9);
    const functions = tableService(table, { overheadMs: 2, byMemory: true });
    expect(functions.ms(1, 20, 1769 / 4)).toBeCloseTo(2.8, 9);
    expect(functions.ms(1, 20, 3000)).toBeCloseTo(2.2, 9);
  });
});

describe("the cellular lane in a function", () => {
  const service = cellularService((rows) => 1 + rows, { maxRows: 8, overheadMs: 5 });

  it("ends each request with its own steps", () => {
    // 2 steps of three rows, 1 of two, 3 of one.
    expect(service.endMs!([3, 6, 2], 0)).toEqual([5 + 8 + 3, 5 + 8 + 3 + 6, 5 + 8]);
  });

  it("shares its time among those that are there", () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 50 }), { minLength: 1, maxLength: 8 }), (sizes) => {
        const parts = partsOf(service.endMs!(sizes, 0));
        expect(parts.reduce((sum, part) => sum + part, 0)).toBeCloseTo(1, 9);
        for (let i = 1; i < sizes.length; i++)
          if (sizes[i]! >= sizes[i - 1]!) expect(parts[i]!).toBeGreaterThanOrEqual(parts[i - 1]! - 1e-12);
      }),
    );
  });
});

describe("cost", () => {
  it("of a call is its time, rounded up, times its memory, and the call", () => {
    expect(callCost(101, 1024, lambdaPricesOf2020)).toBeCloseTo(0.2 * 1.66667e-5 + 2e-7, 15);
    expect(callCost(300.0000000001, 512, lambdaPricesOf2020)).toBeCloseTo(0.15 * 1.66667e-5 + 2e-7, 15);
    expect(callCost(100.2, 2048, lambdaPrices)).toBeCloseTo(0.202 * 1.66667e-5 + 2e-7, 15);
  });

  it("of machines has a least time", () => {
    expect(machineCost(2, 1800, { perHour: 0.1 })).toBeCloseTo(0.1, 12);
    expect(machineCost(1, 1, { perHour: 3.6 })).toBeCloseTo(0.06, 12);
  });
});
