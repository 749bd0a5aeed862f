import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";

const main = fileURLToPath(new URL("../../dist/src/cli/main.js", import.meta.url));
const model = fileURLToPath(new URL("../../models/listops", import.meta.url));

/** Runs a command whose output has no reader from the start. */
function unread(args: readonly string[]): Promise<{ code: number | null; errors: string }> {
  const child = spawn(process.execPath, [main, ...args]);
  child.stdout.destroy();
  let errors = "";
  child.stderr.on("data", (chunk: Buffer) => {
    errors += chunk.toString();
  });
  return new Promise((resolve) => child.once("close", (code) => resolve({ code, errors })));
}

describe("a command whose output nobody reads", () => {
  it.each([
    ["inspect", ["inspect", model]],
    ["serve", ["serve", "--port", "0", "--engines", "1", "--model", model]],
  ])("ends quietly: %s", async (_name, args) => {
    expect(await unread(args)).toEqual({ code: 0, errors: "" });
  });
});
