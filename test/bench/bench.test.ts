import { type ChildProcess, spawn } from "node:child_process";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it, onTestFinished } from "vitest";
import type { Report } from "../../src/bench/report.ts";

const main = fileURLToPath(new URL("../../dist/src/cli/main.js", import.meta.url));
const model = fileURLToPath(new URL("../fixtures/small-lstm.mjs", import.meta.url));

async function bench(...options: string[]) {
  const folder = await mkdtemp(join(tmpdir(), "cellbatch-bench-"));
  const child = spawn(process.execPath, [main, "bench", model, "--out", folder, "--rounds", "1", ...options]);
  onTestFinished(async () => {
    child.kill("SIGKILL");
    await rm(folder, { recursive: true });
  });
  const said = { out: "", error: "" };
  child.stdout.on("data", (chunk: Buffer) => {
    said.out += chunk.toString();
  });
  child.stderr.on("data", (chunk: Buffer) => {
    said.error += chunk.toString();
  });
  const status = new Promise<number | null>((resolve) => child.once("exit", resolve));
  const report = async () => JSON.parse(await readFile(join(folder, "report.json"), "utf8")) as Report;
  return { child, folder, said, status, report };
}

function untilSaid(child: ChildProcess, said: { readonly error: string }, text: string): Promise<void> {
  return new Promise((resolve) => {
    child.stderr!.on("data", () => {
      if (said.error.includes(text)) resolve();
    });
    // One that ends by itself has its say in what follows.
    child.once("exit", () => resolve());
  });
}

describe("cellbatch bench", { timeout: 240_000 }, () => {
  it("measures every arm, and when it is interrupted writes the report of what was measured, with its plots", async () => {
    const { child, said, status, report, folder } = await bench(
      ...["--seconds", "0.2", "--loads", "0.1,0.2,0.3,0.4,0.5,0.6,0.7", "--lengths", "uniform:1,20"],
    );
    await untilSaid(child, said, "requests per second (10 %)");
    child.kill("SIGINT");
    expect(await status, said.error).toBe(0);
    const { workloads, interrupted, settings } = await report();
    expect(interrupted).toBe(true);
    expect(settings).toMatchObject({ rounds: 1, seconds: 0.2 });
    const [only] = workloads;
    const names = only!.arms.map(({ name }) => name);
    expect(names).toEqual(expect.arrayContaining(["cellular", "graph", "one at a time", "limit"]));
    for (const { name, peak, role } of only!.arms) {
      expect(peak!.median, name).toBeGreaterThan(0);
      expect(peak!.raw.length).toBe(1);
      expect(role).toBe(name === "cellular" ? "ours" : name === "limit" ? "limit" : "peer");
    }
    // Four settings at their peak, then three timeouts at 70 % of it.
    expect(only!.arms.find(({ name }) => name === "graph")!.tried.length).toBe(7);
    const measured = only!.arms.filter(({ points }) => points.length > 0);
    expect(measured.length).toBeGreaterThan(0);
    for (const { points } of measured) expect(points.length).toBeLessThan(7);
    const [point] = measured[0]!.points;
    expect(point!.load).toBe(0.1);
    expect(point!.p99.median).toBeGreaterThanOrEqual(point!.p50.median);
    const files = await readdir(folder);
    for (const plot of ["p50", "p99", "cdf", "split"]) expect(files).toContain(`small-lstm-${plot}.svg`);
    const page = await readFile(join(folder, "report.html"), "utf8");
    expect(page.match(/<svg /g)!.length).toBeGreaterThanOrEqual(4);
    expect(said.out).toContain("interrupted: what is missing was not measured");
  });

  it.each([
    [["--workload", "g2p"], "give a model or --workload, not both"],
    [["--lengths", "long"], "lengths 'long' are none of"],
    [["--arrivals", "never"], "arrivals 'never' are none of"],
    [["--texts", "/no/such/file"], "/no/such/file cannot be read"],
  ])("refuses %j and says why", async (options, message) => {
    const { said, status } = await bench(...options);
    expect(await status).toBe(1);
    expect(said.error).toContain(message);
  });
});
