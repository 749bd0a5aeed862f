import { type ChildProcess, execFile, spawn } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterEach, describe, expect, it, onTestFinished } from "vitest";
import { nativeStatus } from "../../kernels/native/load.ts";
import { type Message, TestClient } from "../server/client.ts";

const main = fileURLToPath(new URL("../../dist/src/cli/main.js", import.meta.url));
const run = (...args: string[]) => promisify(execFile)(process.execPath, [main, ...args]);

const gpu = nativeStatus();

let child: ChildProcess | undefined;
afterEach(() => child?.kill("SIGKILL"));

async function serve(
  ...args: string[]
): Promise<{ port: number; text: () => string; ended: Promise<number | null> }> {
  const started = spawn(process.execPath, [main, "serve", "--port", "0", "--engines", "1", ...args]);
  child = started;
  let text = "";
  const ended = new Promise<number | null>((resolve) => started.once("exit", resolve));
  const port = await new Promise<number>((resolve, reject) => {
    started.stdout.on("data", (chunk: Buffer) => {
      text += chunk.toString();
      const found = /on 127\.0\.0\.1:(\d+)/.exec(text)?.[1];
      if (found) resolve(Number(found));
    });
    started.once("exit", () => reject(new Error(text)));
  });
  return { port, text: () => text, ended };
}

describe("cellbatch serve", () => {
  it.skipIf(gpu.reason === "ok")(
    "refuses --device cuda where there is no GPU, and says what to do",
    async () => {
      await expect(serve("--device", "cuda")).rejects.toThrow();
      const refused = await run("serve", "--port", "0", "--device", "cuda").catch((error) => error);
      expect(refused.code).not.toBe(0);
      expect(refused.stderr).toContain(gpu.message);
    },
  );

  it.skipIf(gpu.reason === "ok")("serves on the CPU with --device auto where there is no GPU", async () => {
    const { port } = await serve("--device", "auto");
    expect(port).toBeGreaterThan(0);
  });

  it("refuses --numbers of a GPU on the CPU, and says which and why", async () => {
    const refused = await run("serve", "--port", "0", "--numbers", "bf16").catch((error) => error);
    expect(refused.code).not.toBe(0);
    expect(refused.stderr).toContain(
      "numbers 'bf16' are multiplied by the CUDA kernel alone, and the device is 'cpu'",
    );
  });

  it("answers everything it accepted when SIGTERM comes under load, hands back sessions, and ends with 0", async () => {
    const { port, text, ended } = await serve();
    const client = await TestClient.open(port);
    client.send({ type: "open", id: "voice", model: "silero-vad" });
    await client.next({ type: "opened" });
    for (let i = 0; i < 200; i++) {
      const [model, input] = i % 4 === 0 ? ["char-lm", "a "] : ["g2p", "cellular"];
      client.send({
        type: "infer",
        id: `${i}`,
        model,
        inputs: { text: input },
        parameters: { stream: false },
      });
    }
    await client.next({ type: "done" });
    const closed = client.closed();
    child!.kill("SIGTERM");
    await client.next({ type: "goaway" });
    client.send({ type: "infer", id: "late", model: "g2p", inputs: { text: "late" } });
    expect(await client.next({ id: "late" })).toMatchObject({ type: "error", code: "SHUTTING_DOWN" });
    expect(await client.next({ id: "voice", type: "evicted" })).toMatchObject({
      reason: "shutdown",
      state: expect.any(String),
    });
    expect(await closed).toBe(1001);
    expect(await ended).toBe(0);
    const last = (id: string) =>
      client.messages.filter((message: Message) => message.id === id && message.type !== "opened");
    for (let i = 0; i < 200; i++) expect(last(`${i}`).map(({ type }) => type)).toEqual(["done"]);
    expect(text()).toMatch(/Stopped: 201 accepted, 201 completed, 0 failed/);
  });

  it("prints a line for every model and lines to try them", async () => {
    const { text } = await serve();
    expect(text()).toMatch(/^g2p .*\nchar-lm .*\nstress .*\nlistops .*\nforecaster .*\nsilero-vad /m);
    await expect.poll(text).toMatch(/npx cellbatch run g2p "cellular"/);
  });

  it("says what to do when its port is taken", async () => {
    const taken = createServer();
    const port = await new Promise<number>((resolve) => {
      taken.listen(0, "127.0.0.1", () => resolve((taken.address() as { port: number }).port));
    });
    await expect(run("serve", "--port", `${port}`, "--engines", "1")).rejects.toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/in use.*another --port/),
    });
    taken.close();
  });
});

describe("cellbatch run", () => {
  it("says a word", async () => {
    expect((await run("run", "g2p", "cellular")).stdout).toBe("S EH L Y AH L ER\n");
  });

  it("writes the same text for the same seed", async () => {
    const write = async () =>
      (await run("run", "char-lm", "a small ", "--temperature", "0.8", "--seed", "3", "--max-steps", "40"))
        .stdout;
    expect(await write()).toBe(await write());
  });

  it("takes inputs by name and requests of the Open Inference Protocol from a file, and answers alike", async () => {
    const file = join(await mkdtemp(join(tmpdir(), "cellbatch-run-")), "inputs.json");
    onTestFinished(() => rm(dirname(file), { recursive: true }));
    const ask = async (json: unknown, model = "g2p") => {
      await writeFile(file, JSON.stringify(json));
      return JSON.parse((await run("run", model, "--inputs", file)).stdout);
    };
    const phonemes = "S EH L Y AH L ER";
    expect(await ask({ text: "cellular" })).toMatchObject({ phonemes });
    const inputs = [{ name: "text", datatype: "BYTES", shape: [1], data: ["cellular"] }];
    expect(await ask({ id: "7", inputs })).toMatchObject({
      id: "7",
      model_name: "g2p",
      outputs: [
        { name: "phonemes", datatype: "BYTES", shape: [1], data: [phonemes] },
        { name: "score", datatype: "FP32", shape: [1] },
      ],
    });
    await expect(ask({ word: "cellular" })).rejects.toThrow(/has no input 'word', it takes 'text'/);
    await expect(ask([1])).rejects.toThrow(/holds no object of inputs by name/);
    await expect(run("run", "g2p", "cellular", "--inputs", file)).rejects.toThrow(/not both/);
  });

  it("ends with 1 and a sentence for bad input, with 2 for a bad command line", async () => {
    await expect(run("run", "g2p", "c3")).rejects.toMatchObject({
      code: 1,
      stderr: expect.stringContaining('"3" is not among'),
    });
    await expect(run("run", "nope", "x")).rejects.toMatchObject({
      code: 1,
      stderr: expect.stringContaining("nope"),
    });
    await expect(run("run", "g2p", "x", "--seed", "-1")).rejects.toMatchObject({ code: 2 });
  });
});
