import { type ChildProcess, execFile, spawn } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterEach, beforeEach, describe, expect, it } from "vitest";

const main = fileURLToPath(new URL("../../dist/src/cli/main.js", import.meta.url));
const model = fileURLToPath(new URL("../../models/listops", import.meta.url));
const run = (...args: string[]) => promisify(execFile)(process.execPath, [main, ...args]);

let folder: string;
let file: string;
let server: ChildProcess | undefined;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "cellbatch-keys-"));
  file = join(folder, "keys.json");
});
afterEach(async () => {
  server?.kill("SIGKILL");
  server = undefined;
  await rm(folder, { recursive: true });
});

async function serve(): Promise<number> {
  const args = ["serve", "--port", "0", "--engines", "1", "--model", model, "--keys", file];
  const started = spawn(process.execPath, [main, ...args]);
  server = started;
  let text = "";
  return new Promise((resolve, reject) => {
    started.stdout.on("data", (chunk: Buffer) => {
      text += chunk.toString();
      const found = /on 127\.0\.0\.1:(\d+)/.exec(text)?.[1];
      if (found) resolve(Number(found));
    });
    started.once("exit", () => reject(new Error(text)));
  });
}

describe("cellbatch keys", () => {
  it("prints a key once and keeps its hash, with its limits to be listed", async () => {
    const { stdout } = await run("keys", "add", "ada", "--file", file, "--open-ids", "3");
    const key = stdout.trim();
    expect(key.length).toBeGreaterThan(30);
    expect(await readFile(file, "utf8")).not.toContain(key);
    const listed = JSON.parse((await run("keys", "list", "--file", file, "--json")).stdout);
    expect(listed).toEqual([expect.objectContaining({ name: "ada", openIds: 3 })]);
    expect(listed[0]).not.toHaveProperty("hash");
  });

  it("refuses a second key of the same name, and to remove one that is not there", async () => {
    await run("keys", "add", "ada", "--file", file);
    await expect(run("keys", "add", "ada", "--file", file)).rejects.toMatchObject({
      code: 1,
      stderr: expect.stringContaining("has a key 'ada': remove it first"),
    });
    await expect(run("keys", "remove", "bob", "--file", file)).rejects.toMatchObject({
      code: 1,
      stderr: expect.stringContaining("'bob'"),
    });
  });

  it("makes keys that a server asks for, and that it forgets on SIGHUP", async () => {
    const key = (await run("keys", "add", "ada", "--file", file)).stdout.trim();
    await run("keys", "add", "bob", "--file", file);
    const port = await serve();
    const ask = async (headers: Record<string, string>) => {
      const response = await fetch(`http://127.0.0.1:${port}/v2/models/listops/generate`, {
        method: "POST",
        headers: { "content-type": "application/json", ...headers },
        body: JSON.stringify({ text: "[MAX 2 9 ]" }),
      });
      await response.text();
      return response.status;
    };
    expect(await ask({})).toBe(401);
    expect(await ask({ authorization: "Bearer wrong" })).toBe(401);
    expect(await ask({ authorization: `Bearer ${key}` })).toBe(200);
    await run("keys", "remove", "ada", "--file", file);
    server!.kill("SIGHUP");
    await expect
      .poll(() => ask({ authorization: `Bearer ${key}` }), { timeout: 30_000, interval: 100 })
      .toBe(401);
  });
});
