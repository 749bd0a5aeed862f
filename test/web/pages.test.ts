import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Browser, BrowserContextOptions, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from "vitest";
import wavefile from "wavefile";
import { zooModels } from "../../models/zoo.ts";
import { createRuntime } from "../../src/runtime/create.ts";
import type { Runtime } from "../../src/runtime/types.ts";
import { type Server, startServer } from "../../src/server/server.ts";
import type { WireDecision } from "../../src/server/watch-protocol.ts";
import { chainModel, listenerModel } from "../fixtures/models.ts";
import { speech } from "../vad/fixture.ts";
import { chromiumPath, launchChromium } from "./chromium.ts";

/** The machine may stand still for seconds. */
const TIMEOUT_MS = 120_000;

if (!chromiumPath)
  console.log("The pages are not tested: there is no Chromium here (apt-get install chromium).");

describe.skipIf(!chromiumPath)("the pages in Chromium", { timeout: TIMEOUT_MS }, () => {
  let runtime: Runtime;
  let server: Server;
  let browser: Browser;
  let folder: string;
  /** What no page should have done: errors, and requests to other hosts. */
  const complaints: string[] = [];

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "cellbatch-pages-"));
    await writeFile(join(folder, "voice.wav"), voice());
    const models = [...zooModels().folders, chainModel(), listenerModel()];
    runtime = await createRuntime({ models, engines: 1 });
    server = await startServer({ runtime, port: 0 });
    browser = await launchChromium(join(folder, "voice.wav"));
  }, TIMEOUT_MS);

  afterAll(async () => {
    await browser?.close();
    await server?.close(0);
    await runtime?.close(0);
    await rm(folder, { recursive: true });
  }, TIMEOUT_MS);

  /** Opens the page; whatever it does wrong is written down. */
  async function open(options: BrowserContextOptions = {}): Promise<Page> {
    const origin = `http://127.0.0.1:${server.port}`;
    const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
    const page = await context.newPage();
    page.setDefaultTimeout(TIMEOUT_MS);
    page.on("pageerror", (error) => complaints.push(error.message));
    page.on("console", (message) => message.type() === "error" && complaints.push(message.text()));
    page.on("request", (request) => {
      if (!/^(data|blob):/.test(request.url()) && new URL(request.url()).origin !== origin)
        complaints.push(request.url());
    });
    onTestFinished(async () => {
      await context.close();
      expect(complaints.splice(0)).toEqual([]);
    });
    await page.goto(origin);
    await page.waitForSelector("#model:not([disabled])");
    return page;
  }

  const text = (page: Page, selector: string) => page.textContent(selector);
  const until = (read: () => Promise<unknown> | unknown) =>
    expect.poll(read, { timeout: TIMEOUT_MS, interval: 100 });

  /** Pixels of a canvas that are coloured, not grey. */
  const coloured = (page: Page, selector: string) =>
    page.$eval(selector, (node) => {
      const canvas = node as unknown as {
        width: number;
        height: number;
        getContext(kind: "2d"): { getImageData(...at: number[]): { data: Uint8ClampedArray } };
      };
      const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
      let count = 0;
      for (let i = 0; i < data.length; i += 4) {
        const [red, green, blue] = [data[i]!, data[i + 1]!, data[i + 2]!];
        if (data[i + 3]! > 100 && Math.max(red, green, blue) - Math.min(red, green, blue) > 90) count++;
      }
      return count;
    });

  it("say a word, and show its cells in lanes and plots, by keyboard alone", async () => {
    const page = await open();
    expect(await coloured(page, "#lanes")).toBe(0);
    const focused = () => page.evaluate("document.activeElement.id");
    for (let presses = 0; (await focused()) !== "model"; presses++) {
      expect(presses).toBeLessThan(8);
      await page.keyboard.press("Tab");
    }
    await page.keyboard.press("Tab");
    expect(await focused()).toBe("input");
    await page.keyboard.press("Control+A");
    await page.keyboard.type("cellular");
    await page.keyboard.press("Enter");
    await until(() => text(page, "output")).toContain("S EH L Y AH L ER");
    await until(() => text(page, "#status")).toMatch(/^Done: .*S EH L Y AH L ER.* 7 steps/);
    await until(() => text(page, "#lanes-legend")).toMatch(/g2p (forward|backward).*g2p decoder/);
    await until(() => coloured(page, "#lanes")).toBeGreaterThan(200);
    for (const id of ["rows", "active", "cells", "latency"]) {
      await until(() => coloured(page, `#plot-${id} canvas`)).toBeGreaterThan(10);
    }
    expect(Number(await text(page, "#tile-p99"))).toBeGreaterThan(0);
    await page.focus("#lanes");
    await page.keyboard.press("ArrowLeft");
    await until(() => text(page, "#lanes-readout")).toMatch(
      /g2p decoder with \d+ rows? in [\d.]+ ms on engine 0: #\d+/,
    );
    expect(await page.getAttribute("#lanes-freeze", "aria-pressed")).toBe("true");
  });

  it("stream a text as it is written, stop it, and show many requests in shared cells", async () => {
    const page = await open();
    await page.selectOption("#model", "char-lm");
    await page.click("summary");
    await page.fill("#parameter-maxSteps", "400");
    await page.fill("#copies", "12");
    await page.fill("#input", "a small\na kind of");
    const lengths = page.evaluate(`new Promise((resolve) => {
      const seen = new Set();
      const output = document.querySelector("output");
      new MutationObserver(() => seen.add(output.textContent.length)).observe(output, { subtree: true, childList: true, characterData: true });
      new MutationObserver(() => resolve([...seen])).observe(document.querySelector("#status"), { childList: true });
    })`) as Promise<number[]>;
    await page.click("#panel button.primary");
    expect((await lengths).length).toBeGreaterThan(2);
    await until(() => text(page, "#panel form")).toMatch(/12 requests in all/);
    await until(() => coloured(page, "#lanes")).toBeGreaterThan(500);
    await page.fill("#copies", "150");
    await page.fill("#parameter-temperature", "5");
    await page.click("#panel button.primary");
    await page.click("#panel .actions button:nth-child(2)");
    await until(() => text(page, "#panel form")).toMatch(/Stopped|requests in all/);
    await until(() => runtime.stats().active).toBe(0);
  });

  it("hear speech through the microphone, and stop listening", async () => {
    const page = await open();
    await page.selectOption("#model", "silero-vad");
    await page.click("text=Use the microphone");
    await page.waitForSelector(`.verdict[data-speech="true"]`);
    await until(() => text(page, "#panel")).toMatch(/[1-9]\d*\.\d s heard, (?!0\.0)[\d.]+ s of it speech/);
    await until(() => coloured(page, ".speech")).toBeGreaterThan(50);
    await page.click("text=Stop listening");
    await until(() => runtime.stats().active).toBe(0);
    expect(await text(page, ".verdict")).toBe("Not listening");
  });

  it("find the speech of a WAV file, and refuse a file that is none", async () => {
    const page = await open();
    await page.selectOption("#model", "silero-vad");
    await page.setInputFiles("#sound", join(folder, "voice.wav"));
    await until(() => text(page, ".verdict")).toMatch(/^[1-9]\.\d s of speech in 9\.0 s$/);
    await page.setInputFiles("#sound", fileURLToPath(import.meta.url));
    await until(() => text(page, "#panel [role=alert]")).toMatch(/no sound that this browser can read/);
  });

  it("take tensors as JSON, for requests and for sessions, and say what is wrong with them", async () => {
    const page = await open();
    await page.selectOption("#model", "chain");
    await page.click("#panel button.primary");
    await until(() => text(page, "output")).toMatch(/^h \[8\], from/);
    await page.fill("#input", '{"x": [[1, 2, 3, "4"]]}');
    await page.click("#panel button.primary");
    await until(() => text(page, "#panel [role=alert]")).toBe(`Input 'x' holds "4", expected a number`);
    await page.fill("#input", '{"x": [[1, 2, 3]]}');
    await page.click("#panel button.primary");
    await until(() => text(page, "#panel [role=alert]")).toMatch(/shape \[1, 3\].*\(INVALID_INPUT\)/);
    await page.selectOption("#model", "listener");
    for (const step of [0, 1]) {
      await page.click("text=Push one step");
      await until(() => text(page, "output")).toMatch(new RegExp(`^Step ${step}h \\[8\\]`));
    }
    await page.click("text=New session");
    await until(() => runtime.stats().active).toBe(0);
  });

  it("follow the system's colours until the switch is used, which is remembered, and fit a small screen", async () => {
    const page = await open({ colorScheme: "dark", viewport: { width: 360, height: 720 } });
    const surface = () => page.evaluate('getComputedStyle(document.querySelector(".card")).backgroundColor');
    const dark = await surface();
    expect(await page.getAttribute("#theme", "aria-pressed")).toBe("true");
    await page.click("#theme");
    const light = await surface();
    expect(light).not.toBe(dark);
    await page.reload();
    expect(await surface()).toBe(light);
    const overflow = await page.evaluate(
      "document.documentElement.scrollWidth - document.documentElement.clientWidth",
    );
    expect(overflow).toBe(0);
  });

  it("list what was decided about buffers, the latest first, with the old ones and the new", async () => {
    const page = await open();
    expect(await page.isVisible("#decisions")).toBe(false);
    const before = { buffers: [{ maxBatch: 4, timeoutMs: 50 }], eager: false };
    const after = {
      buffers: [
        { upTo: 8, maxBatch: 2, timeoutMs: 10 },
        { maxBatch: 16, timeoutMs: 20 },
      ],
      eager: true,
    };
    const decisions: WireDecision[] = [
      { model: "m", at: "2026-01-01T00:00:00Z", action: "swapped", reason: "more came", before, ...after },
      {
        ...{ model: "m", at: "2026-01-01T01:00:00Z", action: "kept", reason: "fewer came" },
        ...{ before: after, ...after },
      },
    ];
    const own = await startServer({ runtime, port: 0, decisions: () => decisions });
    onTestFinished(() => own.close(0));
    const stopped = complaints.length;
    await page.goto(`http://127.0.0.1:${own.port}`);
    await until(() => page.locator("#decision-list li").count()).toBe(2);
    const entries = await page.locator("#decision-list li").allTextContents();
    expect(entries[0]).toMatch(
      /m: buffers kept.*up to 8: 2 in 10 ms; 16 in 20 ms; sent when idle.*fewer came/,
    );
    expect(entries[1]).toMatch(/m: buffers swapped.*4 in 50 ms → up to 8: 2 in 10 ms; .*more came/);
    await page.close();
    // Another origin than the one above.
    complaints.splice(stopped);
  });

  it("take a lost server up again when it is back", async () => {
    const own = await startServer({ runtime, port: 0 });
    const page = await open();
    const stopped = complaints.length;
    await page.goto(`http://127.0.0.1:${own.port}`);
    await until(() => text(page, "#connection")).toBe("Connected");
    await own.close(0);
    await until(() => text(page, "#connection")).toBe("Connecting");
    await until(() => page.isVisible("#feed-note")).toBe(true);
    const again = await startServer({ runtime, port: own.port });
    onTestFinished(() => again.close(0));
    await until(() => text(page, "#connection")).toBe("Connected");
    await until(() => page.isVisible("#feed-note")).toBe(false);
    await page.fill("#input", "back");
    await page.keyboard.press("Enter");
    await until(() => text(page, "output")).toContain("B AE K");
    // Another origin than the one above, and a browser logs every connection that fails.
    await page.context().close();
    complaints.splice(stopped);
  });
});

/** The sentence of the speech tests as a WAV file. */
function voice(): Uint8Array {
  const wav = new wavefile.WaveFile();
  wav.fromScratch(
    1,
    16_000,
    "16",
    Int16Array.from(speech, (value) => value * 32_767),
  );
  return wav.toBuffer();
}
