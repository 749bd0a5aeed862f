import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, it, onTestFinished } from "vitest";

const script = fileURLToPath(new URL("../fixtures/webgpu.mjs", import.meta.url));
// Debian's chromium has a Vulkan loader and SwiftShader, which computes on the processor.
const chromium = "/usr/lib/chromium";
const [loader, adapter] = [join(chromium, "libvulkan.so.1"), join(chromium, "vk_swiftshader_icd.json")];
const missing = [loader, adapter].find((file) => !existsSync(file));

it.skipIf(missing)(
  missing
    ? `runs on WebGPU: there is no software adapter, ${missing} is not there`
    : "runs on WebGPU, of a software adapter, what the CPU gives",
  () => {
    const folder = mkdtempSync(join(tmpdir(), "vulkan-"));
    onTestFinished(() => rmSync(folder, { recursive: true }));
    symlinkSync(loader, join(folder, "libvulkan.so.1"));
    const { stdout, stderr, status } = run({ LD_LIBRARY_PATH: folder, VK_ICD_FILENAMES: adapter });
    expect(status, stderr).toBe(0);
    const { states, difference } = JSON.parse(stdout.trim().split("\n").at(-1)!);
    expect(states.some((value: number) => Math.abs(value) > 0.1)).toBe(true);
    // Not the same bits, so that it was not the CPU.
    expect(difference).toBeGreaterThan(0);
    expect(difference).toBeLessThan(1e-5);
  },
);

it("says in ONNX Runtime's words that there is no adapter", () => {
  const { stderr, status } = run({ VK_ICD_FILENAMES: "/nowhere.json" });
  expect(status).not.toBe(0);
  expect(stderr).toMatch(/cannot use the providers 'webgpu', 'cpu' here/);
});

function run(env: Readonly<Record<string, string>>) {
  return spawnSync(process.execPath, [script], { env: { ...process.env, ...env }, encoding: "utf8" });
}
