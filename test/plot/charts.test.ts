import { describe, expect, it } from "vitest";
import { histograms, stackedBars } from "../../src/plot/bar-chart.ts";
import { lineChart } from "../../src/plot/line-chart.ts";
import { page } from "../../src/plot/page.ts";

const chart = {
  title: "a < b",
  x: { label: "rows", scale: "log" as const },
  y: { label: "us", scale: "log" as const },
};

/** The text of an SVG's elements, in order. */
const textsOf = (svg: string) => [...svg.matchAll(/<text[^>]*>([^<]+)<\/text>/g)].map(([, text]) => text);

describe("a line chart", () => {
  it("is an SVG file with its title, its axes and the name of every line", async () => {
    const svg = await lineChart({
      ...chart,
      series: ["first", "second"].map((name, i) => ({
        name,
        points: [1, 2, 4].map((x) => [x, x * (i + 1)] as const),
      })),
    });
    expect(svg).toMatch(/^<svg [^>]*xmlns="http:\/\/www.w3.org\/2000\/svg"/);
    expect(svg).not.toMatch(/NaN|undefined/);
    const texts = textsOf(svg);
    for (const text of ["a &lt; b", "first", "second", "1", "2", "5"]) expect(texts).toContain(text);
    expect(texts.some((text) => text!.startsWith("rows"))).toBe(true);
  });

  it("keeps names apart where lines end at one place", async () => {
    const series = ["one", "two", "three"].map((name) => ({
      name,
      points: [
        [1, 1],
        [2, 3],
      ] as const,
    }));
    const svg = await lineChart({ ...chart, series });
    const heights = ["one", "two", "three"].map((name) => {
      const [, y] = new RegExp(`translate\\([^,]+,([^)]+)\\)[^>]*>${name}<`).exec(svg)!;
      return Number(y);
    });
    const sorted = heights.toSorted((a, b) => a - b);
    expect(sorted[1]! - sorted[0]!).toBeGreaterThan(12);
    expect(sorted[2]! - sorted[1]!).toBeGreaterThan(12);
  });

  it("leaves out what no log axis holds, and refuses to draw nothing", async () => {
    const points = [
      [1, 0],
      [2, Number.NaN],
      [3, 5],
      [4, 6],
    ] as const;
    expect(await lineChart({ ...chart, series: [{ name: "some", points }] })).not.toMatch(/NaN|Infinity/);
    await expect(lineChart({ ...chart, series: [{ name: "none", points: [[1, 0]] }] })).rejects.toThrow(
      "'a < b'",
    );
  });
});

describe("bars", () => {
  it("of histograms have a panel for each series, and bins where there are many values", async () => {
    const bars = Array.from({ length: 300 }, (_, i) => [i + 1, 1 / 300] as const);
    const svg = await histograms({
      title: "rows",
      x: "rows",
      y: "share",
      series: [
        { name: "wide", bars },
        { name: "narrow", bars: [[1, 1]] },
      ],
    });
    expect(textsOf(svg)).toEqual(expect.arrayContaining(["wide", "narrow"]));
    expect(svg).not.toMatch(/NaN/);
  });

  it("that are stacked say their sum and what their parts are", async () => {
    const svg = await stackedBars({
      title: "time",
      x: "ms",
      parts: ["queue", "compute"],
      bars: [{ group: "20 %", name: "ours", values: [1, 2.5] }],
    });
    expect(textsOf(svg)).toEqual(expect.arrayContaining(["queue", "compute", "20 %", "ours", "3.5"]));
  });
});

describe("a page", () => {
  it("holds everything in one file, and markup of others as text", () => {
    const html = page(
      "<b>",
      ["intro & more"],
      [{ title: "part", plots: ["<svg></svg>"], tables: [[["name"], ["<script>"]]] }],
    );
    expect(html).toContain("<svg></svg>");
    expect(html).toContain("&#60;script&#62;");
    expect(html).not.toMatch(/<script|<b>|https?:/);
  });
});
