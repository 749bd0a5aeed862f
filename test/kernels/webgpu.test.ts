import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, it, onTestFinished } from "vitest";

// Debian's chromium has a Vulkan loader and SwiftShader, which computes on the processor.
const chromium = "/usr/lib/chromium";
const [loader, adapter] = [join(chromium, "libvulkan.so.1"), join(chromium, "vk_swiftshader_icd.json")];
const missing = [loader, adapter].find((file) => !existsSync(file));
const titled = (title: string) =>
  missing ? `${title}: there is no software adapter, ${missing} is not there` : title;

it.skipIf(missing)(
  titled(
    "gives with WebGPU what the CPU gives while rows join and leave, from states that stay on the device",
  ),
  () => {
    const results = onAdapter("webgpu.mjs") as readonly Result[];
    expect(results).toHaveLength(2);
    for (const { states, difference, steps } of results) {
      expect(states.some((value) => Math.abs(value) > 0.1)).toBe(true);
      // Not the same bits, so that it was not the CPU.
      expect(difference).toBeGreaterThan(0);
      expect(difference).toBeLessThan(1e-5);
      expect(steps.filter(({ rowsStay }) => !rowsStay)).toHaveLength(12);
      // The first rows are zeros from the host.
      for (const { rowsStay, calls, statesFromHost } of steps.slice(1).filter((step) => step.rowsStay)) {
        expect({ rowsStay, calls, statesFromHost }).toEqual({ rowsStay: true, calls: 1, statesFromHost: 0 });
      }
      expect(steps.every(({ statesToHost }) => statesToHost === 0)).toBe(true);
    }
  },
);

it.skipIf(missing)(titled("answers requests with WebGPU as with the CPU, on one engine"), () => {
  const { values, difference } = onAdapter("webgpu-runtime.mjs") as Answers;
  expect(values.some((value) => Math.abs(value) > 0.1)).toBe(true);
  expect(difference).toBeGreaterThan(0);
  expect(difference).toBeLessThan(1e-5);
});

it("says in ONNX Runtime's words that there is no adapter", () => {
  const { stderr, status } = run("webgpu.mjs", { VK_ICD_FILENAMES: "/nowhere.json" });
  expect(status).not.toBe(0);
  expect(stderr).toMatch(/cannot use the providers 'webgpu', 'cpu' here/);
});

interface Result {
  /** Of all slots at the end, on the CPU. */
  readonly states: readonly number[];
  /** The greatest, of what any step gave and of the states at the end. */
  readonly difference: number;
  readonly steps: readonly {
    readonly rowsStay: boolean;
    readonly calls: number;
    readonly statesFromHost: number;
    readonly statesToHost: number;
  }[];
}

interface Answers {
  /** Of all requests, on the CPU. */
  readonly values: readonly number[];
  readonly difference: number;
}

/** What a script prints where the software adapter is found. */
function onAdapter(script: string): unknown {
  const folder = mkdtempSync(join(tmpdir(), "vulkan-"));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  symlinkSync(loader, join(folder, "libvulkan.so.1"));
  const { stdout, stderr, status } = run(script, { LD_LIBRARY_PATH: folder, VK_ICD_FILENAMES: adapter });
  expect(status, stderr).toBe(0);
  return JSON.parse(stdout.trim().split("\n").at(-1)!);
}

function run(script: string, env: Readonly<Record<string, string>>) {
  const path = fileURLToPath(new URL(`../fixtures/${script}`, import.meta.url));
  return spawnSync(process.execPath, [path], { env: { ...process.env, ...env }, encoding: "utf8" });
}
