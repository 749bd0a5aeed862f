import { type ChildProcess, execFile, spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { appendFile, mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterEach, beforeAll, describe, expect, it } from "vitest";
import { importOnnxBytes } from "../../models/import/onnx/import-onnx.ts";
import { writeModel } from "../../models/write-model.ts";
import { bytesOf } from "../import/onnx/cases.ts";
import { TestClient } from "../server/client.ts";

const main = fileURLToPath(new URL("../../dist/src/cli/main.js", import.meta.url));
const zoo = (name: string) => fileURLToPath(new URL(`../../models/${name}`, import.meta.url));
const run = (...args: string[]) => promisify(execFile)(process.execPath, [main, ...args]);

let folder: string;
let child: ChildProcess | undefined;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "cellbatch-record-"));
  const { model } = JSON.parse(
    readFileSync(new URL("../import/onnx/fixtures/transformer.json", import.meta.url), "utf8"),
  ) as { readonly model: string };
  await writeModel(join(folder, "transformer"), importOnnxBytes(bytesOf({ model }), { name: "transformer" }));
  return () => rm(folder, { recursive: true });
});

afterEach(() => child?.kill("SIGKILL"));

/** A server that records, and what ends it. */
async function recording(
  file: string,
  models: readonly string[],
  engines: number,
  ...more: readonly string[]
): Promise<{ port: number; said: () => string; end: (signal: NodeJS.Signals) => Promise<void> }> {
  const options = ["--port", "0", "--engines", `${engines}`, "--record", file, ...more];
  const started = spawn(process.execPath, [
    main,
    "serve",
    ...options,
    ...models.flatMap((model) => ["--model", model]),
  ]);
  child = started;
  const ended = new Promise<void>((resolve) => started.once("exit", () => resolve()));
  let text = "";
  started.stderr.on("data", (chunk: Buffer) => {
    text += chunk.toString();
  });
  const port = await new Promise<number>((resolve, reject) => {
    started.stdout.on("data", (chunk: Buffer) => {
      text += chunk.toString();
      const found = /on 127\.0\.0\.1:(\d+)/.exec(text)?.[1];
      if (found) resolve(Number(found));
    });
    started.once("exit", () => reject(new Error(text)));
  });
  const end = (signal: NodeJS.Signals) => {
    started.kill(signal);
    return ended;
  };
  return { port, said: () => text, end };
}

const WORDS = ["zymurgy", "batching", "recurrent", "a"];
const REQUESTS = 60;

/** Requests of all kinds, some of which are cancelled or have a time limit, and a session. */
async function ask(port: number): Promise<void> {
  const client = await TestClient.open(port);
  client.send({ type: "open", id: "voice", model: "silero-vad" });
  await client.next({ type: "opened" });
  const ids: string[] = [];
  for (let i = 0; i < REQUESTS; i++) {
    const id = `${i}`;
    const kind = i % 3;
    const model = ["g2p", "listops", "transformer"][kind]!;
    const inputs = [
      { text: WORDS[i % WORDS.length] },
      { text: "[MAX 2 9 [MIN 4 7 ] 0 ]" },
      { input_ids: Array.from({ length: 1 + (i % 5) }, () => 1) },
    ][kind];
    client.send({
      type: "infer",
      id,
      model,
      inputs,
      ...(i % 7 === 0 ? { parameters: { priority: 1 } } : {}),
    });
    if (i % 11 === 5) client.send({ type: "cancel", id });
    else ids.push(id);
    if (i % 10 === 0) {
      client.send({ type: "push", id: "voice", inputs: { input: [Array.from({ length: 512 }, () => 0)] } });
      await client.next({ type: "done", id });
    }
  }
  client.send({ type: "end", id: "voice" });
  await client.next({ type: "done", id: "voice" });
  for (const id of ids) await client.next({ type: "done", id });
  client.close();
}

describe("a server that records", () => {
  it("is replayed with every batch as it was, of cells and of whole graphs, on all engines", async () => {
    const file = join(folder, "whole");
    const models = [zoo("g2p"), zoo("listops"), zoo("silero-vad"), join(folder, "transformer")];
    const { port, end } = await recording(file, models, 2);
    await ask(port);
    await end("SIGTERM");
    const { stdout } = await run("replay", file);
    const [, tasks, batches] = /^(\d+) tasks, (\d+) batches: every one as recorded\.$/m.exec(stdout)!;
    expect(Number(tasks)).toBeGreaterThan(20);
    expect(Number(batches)).toBeGreaterThan(0);
    const text = await readFile(file, "utf8");
    expect(text.match(/^e /gm)).toHaveLength(2);
    for (const word of ["zymurgy", "MAX", "voice"]) expect(text).not.toContain(word);
    expect((await run("trace", "show", file)).stdout).toMatch(new RegExp(`^requests +${REQUESTS}$`, "m"));
  });

  it("goes on in a file whose server was killed, and tells of its torn line", async () => {
    const file = join(folder, "killed");
    for (let times = 0; times < 2; times++) {
      const { port, end } = await recording(file, [zoo("listops")], 1);
      const client = await TestClient.open(port);
      for (const id of ["1", "2"]) {
        client.send({ type: "infer", id, model: "listops", inputs: { text: "[MIN 4 7 ]" } });
        await client.next({ type: "done", id });
      }
      const arrivals = async () => (await readFile(file, "utf8")).match(/^\d+\.\d+,/gm)?.length;
      await expect.poll(arrivals, { timeout: 20_000 }).toBe(2 * (times + 1));
      await end("SIGKILL");
      await appendFile(file, "b 12");
    }
    const { stdout } = await run("replay", file);
    expect(stdout).toMatch(/every one as recorded\.\n2 lines were torn when a server died, and left out\.\n/);
    expect((await readFile(file, "utf8")).match(/^session /gm)).toHaveLength(2);
    expect((await run("trace", "show", file)).stdout).toMatch(/^requests +4$/m);
  });

  it("says what other settings would have made of it, as a table, as JSON and as a page", async () => {
    const file = join(folder, "whole");
    const html = join(folder, "page.html");
    const options = ["--max-batch", "1", "--engines", "1", "--speed", "2", "--policy", "oldest"];
    const { stdout } = await run("replay", file, ...options, "--html", html);
    expect(stdout).toMatch(/recorded +simulated as it was +max batch 1, policy oldest, engines 1, speed 2$/m);
    expect(stdout).toMatch(/^mean rows +\d+\.\d\d +\d+\.\d\d +1\.00$/m);
    expect((await readFile(html, "utf8")).match(/<svg/g)).toHaveLength(2);
    const { figures, tasks } = JSON.parse((await run("replay", file, ...options, "--json")).stdout);
    expect(tasks).toBeGreaterThan(20);
    const [recorded, again, whatIf] = figures as { requests: number; busy: number; batches: number }[];
    // Whether one is answered before it is cancelled may come out otherwise.
    expect(Math.abs(again!.requests - recorded!.requests)).toBeLessThanOrEqual(REQUESTS / 10);
    expect(recorded!.requests).toBeGreaterThan(REQUESTS / 2);
    expect(whatIf!.batches).toBeGreaterThan(recorded!.batches);
    await expect(run("replay", file, "--speed", "0")).rejects.toThrow(/It must be a number above 0/);
  });

  it("ends with 1 where a batch differs, and says which", async () => {
    const file = join(folder, "differs");
    const text = await readFile(join(folder, "whole"), "utf8");
    const lines = text.split("\n");
    const at = lines.findIndex((line) => /^b \d+ \d+ \d+ 1 /.test(line));
    lines[at] = lines[at]!.replace(/^(b \d+ \d+ \d+) 1/, "$1 2");
    await writeFile(file, lines.join("\n"));
    await expect(run("replay", file)).rejects.toMatchObject({
      code: 1,
      stdout: expect.stringContaining(`line ${at + 1} differs: `),
    });
  });

  it("records no more at its limit, says so, goes on serving, and what is there is replayed", async () => {
    const file = join(folder, "limited");
    const limit = 30_000;
    const { port, said, end } = await recording(file, [zoo("g2p")], 1, "--record-limit", `${limit}`);
    const client = await TestClient.open(port);
    const answered = async (id: string) => {
      client.send({ type: "infer", id, model: "g2p", inputs: { text: "zymurgy" } });
      await client.next({ type: "done", id });
    };
    const full = ["an engine records no more", "requests are recorded no more"];
    await expect
      .poll(
        async () => {
          for (let i = 0; i < 50; i++) await answered(`${performance.now()}`);
          return full.every((what) =>
            said().includes(`${what}: ${file} would be larger than its limit of ${limit} bytes`),
          );
        },
        { timeout: 20_000 },
      )
      .toBe(true);
    await answered("after");
    client.close();
    await end("SIGTERM");
    const { size } = await stat(file);
    expect(size).toBeGreaterThan(limit / 10);
    expect(size).toBeLessThanOrEqual(limit);
    expect((await run("replay", file)).stdout).toContain("every one as recorded");
  });

  it("refuses a file that is no recording, and leaves it as it is", async () => {
    const file = join(folder, "notes");
    await writeFile(file, "timeMs,size\n1,2\n");
    const refused = run("serve", "--port", "0", "--engines", "1", "--record", file, "--model", zoo("g2p"));
    await expect(refused).rejects.toThrow(
      /is there and is none that can go on, it begins with 'timeMs,size'/,
    );
    expect(await readFile(file, "utf8")).toBe("timeMs,size\n1,2\n");
    await expect(run("replay", file)).rejects.toThrow(
      /notes: line 1 of the recording: 'timeMs,size' begins no/,
    );
    await expect(run("replay", join(folder, "none"))).rejects.toThrow(/none: it cannot be read: ENOENT/);
  });
});
