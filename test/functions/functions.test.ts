import { once } from "node:events";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import fc from "fast-check";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { wallClock } from "../../src/core/clock.ts";
import { Fault } from "../../src/core/faults.ts";
import { float32, int32 } from "../../src/core/tensor.ts";
import { Gateway } from "../../src/functions/gateway.ts";
import { batchHandler } from "../../src/functions/handler.ts";
import type { FunctionInvoker } from "../../src/functions/invoker.ts";
import { LambdaFunctions } from "../../src/functions/lambda.ts";
import { LocalFunctions } from "../../src/functions/local.ts";
import {
  type Answer,
  answerOf,
  invocationOf,
  readAnswer,
  readInvocation,
} from "../../src/functions/payload.ts";
import { modelDefinition } from "../../src/runtime/create.ts";
import { servedModel } from "../../src/runtime/served-model.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));
const model = join(root, "models", "g2p");
const words = (...list: string[]) => list.map((text) => ({ inputs: { text }, options: {} }));
const never = new AbortController().signal;
const phonemesOf = (answer: Answer, count: number) =>
  readAnswer(answer, count).map((one) => (one instanceof Fault ? one.code : one.outputs.phonemes));
const SPOKEN = ["S EH L Y AH L ER", "B AE CH"];

describe("a batch on its way to a function", () => {
  it("comes back as it was, bit for bit", () => {
    const tensors = fc.oneof(
      fc.float32Array({ maxLength: 20 }).map((data) => float32([data.length], data)),
      fc.int32Array({ maxLength: 20 }).map((data) => int32([data.length], data)),
      fc.string(),
    );
    fc.assert(
      fc.property(
        fc.dictionary(
          fc.string().filter((name) => name !== "__proto__"),
          tensors,
        ),
        (inputs) => {
          const sent: unknown = JSON.parse(
            JSON.stringify(invocationOf("m", [{ inputs, options: { seed: 3 } }])),
          );
          expect(readInvocation(sent)).toEqual({
            model: "m",
            requests: [{ inputs: { ...inputs }, options: { seed: 3 } }],
          });
          const usage = { cells: 1, queueMs: 2, computeMs: 3 };
          const answered: unknown = JSON.parse(JSON.stringify(answerOf([{ outputs: inputs, usage }])));
          expect(readAnswer(answered, 1)).toEqual([{ outputs: { ...inputs }, usage }]);
        },
      ),
    );
  });

  it("is refused where it is none, or has not the bytes of its shape", () => {
    expect(() => readInvocation({ model: "m", requests: [] })).toThrow(
      "the function was called with no batch",
    );
    expect(() => readAnswer({ results: [] }, 2)).toThrow("the function answered 0 requests of 2");
    expect(() => readAnswer("<html>", 1)).toThrow('the function answered what is no answer: "<html>"');
    const short = { dtype: "float32", shape: [2], base64: "AAAAAA==" };
    const batch = { model: "m", requests: [{ inputs: { x: short }, options: {} }] };
    expect(() => readInvocation(batch)).toThrow("'x' has 4 bytes for shape [2]");
  });
});

describe("a function", () => {
  it("answers a batch as the runtime does, and lets bad requests fail alone", async () => {
    const { handle, runtime } = await batchHandler(model);
    try {
      const batch = invocationOf("g2p", words("cellular", "!?", "batch"));
      expect(phonemesOf(await handle(batch), 3)).toEqual([SPOKEN[0], "INVALID_INPUT", SPOKEN[1]]);
    } finally {
      await runtime.close(0);
    }
  });
});

let open: FunctionInvoker | undefined;
afterEach(() => open?.close());

describe("local functions", { timeout: 60_000 }, () => {
  it("are started when a call finds none free, kept for the next, and ended with the pool", async () => {
    const functions = new LocalFunctions({ model, concurrency: 2 });
    open = functions;
    const batch = invocationOf("g2p", words("cellular", "batch"));
    const first = await functions.invoke(batch, 1769, never);
    expect(first.isCold).toBe(true);
    expect(phonemesOf(first.answer, 2)).toEqual(SPOKEN);
    const together = await Promise.all([1, 2, 3].map(() => functions.invoke(batch, 1769, never)));
    expect(together.map(({ isCold }) => isCold).sort()).toEqual([false, false, true]);
    expect(functions.size).toBe(2);
    const { processes } = functions;
    await functions.close();
    for (const pid of processes) expect(() => process.kill(pid, 0)).toThrow("ESRCH");
    await expect(functions.invoke(batch, 1769, never)).rejects.toThrow("the functions were closed");
  });

  it("have a share of the CPU, by their memory", async () => {
    const functions = new LocalFunctions({ model, concurrency: 1 });
    open = functions;
    const batch = invocationOf("g2p", words(...new Array<string>(64).fill("internationalization")));
    await functions.invoke(batch, 1769, never);
    const times = async (memoryMb: number) => {
      const list: number[] = [];
      for (let i = 0; i < 4; i++) list.push((await functions.invoke(batch, memoryMb, never)).billedMs);
      return Math.min(...list);
    };
    const whole = await times(1769);
    expect(await times(1769 / 8)).toBeGreaterThan(2 * whole);
  });

  it("fail their batch when they die, and others are started", async () => {
    const functions = new LocalFunctions({ model, concurrency: 1 });
    open = functions;
    const batch = invocationOf("g2p", words("batch"));
    await functions.invoke(batch, 1769, never);
    const lost = functions.invoke(batch, 1769, never);
    for (const pid of functions.processes) process.kill(pid, "SIGKILL");
    await expect(lost).rejects.toThrow("a function ended with SIGKILL while it had a batch");
    expect((await functions.invoke(batch, 1769, never)).isCold).toBe(true);
  });

  it("say why a model cannot be loaded, and give up a call that is aborted", async () => {
    const broken = new LocalFunctions({ model: join(root, "nowhere") });
    await expect(broken.invoke(invocationOf("g2p", words("a")), 1769, never)).rejects.toThrow("nowhere");
    expect(broken.size).toBe(0);
    const functions = new LocalFunctions({ model, concurrency: 1 });
    open = functions;
    const given = new AbortController();
    const first = functions.invoke(invocationOf("g2p", words("batch")), 1769, never);
    const second = functions.invoke(invocationOf("g2p", words("batch")), 1769, given.signal);
    given.abort();
    await expect(second).rejects.toThrow("abort");
    expect(phonemesOf((await first).answer, 1)).toEqual([SPOKEN[1]]);
  });
});

/** The invocation endpoint of AWS Lambda over HTTP; lambda-local runs the handler as Lambda's runtime does. */
function lambdaEndpoint(): Server {
  process.env.MODEL = model;
  const handler = join(dirname(fileURLToPath(import.meta.url)), "handler.cjs");
  return createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", async () => {
      const name = /^\/2015-03-31\/functions\/([^/]+)\/invocations$/.exec(request.url ?? "")?.[1];
      if (request.method !== "POST" || name !== "batches") {
        response.writeHead(name === "busy" ? 429 : 404, {
          "content-type": "application/json",
          "x-amzn-errortype": name === "busy" ? "TooManyRequestsException" : "ResourceNotFoundException",
        });
        response.end(JSON.stringify({ Type: "User", Message: `Function not found: ${name}` }));
        return;
      }
      const { default: lambda } = await import("lambda-local");
      lambda.getLogger().transports[0]!.silent = true;
      const event = JSON.parse(Buffer.concat(chunks).toString()) as Record<string, unknown>;
      try {
        const answer = await lambda.execute({ event, lambdaPath: handler, timeoutMs: 20_000 });
        const report = Buffer.from(
          "REPORT Duration: 11.5 ms Billed Duration: 12 ms Init Duration: 90 ms",
        ).toString("base64");
        response.writeHead(200, { "content-type": "application/json", "x-amz-log-result": report });
        response.end(JSON.stringify(answer));
      } catch (error) {
        response.writeHead(200, { "content-type": "application/json", "x-amz-function-error": "Unhandled" });
        response.end(JSON.stringify(error));
      }
    });
  });
}

describe("functions of AWS Lambda", { timeout: 60_000 }, () => {
  let server: Server;
  let endpoint = "";
  beforeAll(async () => {
    server = lambdaEndpoint();
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    endpoint = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    process.env.AWS_ACCESS_KEY_ID = "test";
    process.env.AWS_SECRET_ACCESS_KEY = "test";
  });
  afterAll(() => new Promise((resolve) => server.close(resolve)));

  it("answer a batch, with what was billed and whether they were started for it", async () => {
    const functions = await LambdaFunctions.open({
      names: { 1769: "batches" },
      region: "eu-north-1",
      endpoint,
    });
    open = functions;
    const called = await functions.invoke(invocationOf("g2p", words("cellular", "batch")), 1769, never);
    expect(phonemesOf(called.answer, 2)).toEqual(SPOKEN);
    expect(called).toMatchObject({ billedMs: 12, isCold: true });
    await expect(functions.invoke(invocationOf("g2p", words("a")), 512, never)).rejects.toThrow(
      "no function is named for 512 MB",
    );
  });

  it("say what failed: the handler, the name, the quota", async () => {
    const call = async (name: string, named = "g2p") => {
      const functions = await LambdaFunctions.open({ names: name, region: "eu-north-1", endpoint });
      try {
        await functions.invoke(invocationOf(named, words("a")), 1769, never);
      } finally {
        await functions.close();
      }
    };
    await expect(call("batches", "broken")).rejects.toThrow("function 'batches' failed: the handler broke");
    await expect(call("other")).rejects.toThrow(
      "function 'other' could not be called: Function not found: other",
    );
    await expect(call("busy")).rejects.toMatchObject({ code: "OVERLOADED" });
  });
});

/** Functions inside this process, which note their batches. */
interface InProcess extends FunctionInvoker {
  readonly batches: [number, number][];
  /** Whether calls never end by themselves. */
  isHeld: boolean;
}

async function inProcess(): Promise<InProcess> {
  const { handle, runtime } = await batchHandler(model);
  const made: InProcess = {
    batches: [],
    isHeld: false,
    async invoke(batch, memoryMb, signal) {
      made.batches.push([batch.requests.length, memoryMb]);
      if (made.isHeld) await once(signal, "abort");
      return { answer: await handle(batch), billedMs: 1, isCold: false };
    },
    close: () => runtime.close(0),
  };
  return made;
}

describe("a gateway", { timeout: 60_000 }, () => {
  const start = async (timeoutMs: number) => {
    const invoker = await inProcess();
    const gateway = new Gateway({
      model: await servedModel(await modelDefinition(model)),
      buffers: [
        { maxBatch: 2, timeoutMs, memoryMb: 512 },
        { maxBatch: 3, timeoutMs, memoryMb: 1769 },
      ],
      route: (size) => (size <= 5 ? 0 : 1),
      invoker,
      clock: wallClock,
      maxActive: 10,
    });
    return { gateway, invoker };
  };

  it("sends full batches at once, each size to the functions of its buffer", async () => {
    const { gateway, invoker } = await start(60_000);
    const texts = ["batch", "cellular", "cat", "internet", "umbrella"];
    const results = await Promise.all(texts.map((text) => gateway.run("g2p", { text })));
    expect(results.map(({ outputs }) => outputs.phonemes).slice(0, 2)).toEqual([SPOKEN[1], SPOKEN[0]]);
    expect(invoker.batches).toEqual([
      [2, 512],
      [3, 1769],
    ]);
    expect(gateway.stats()).toMatchObject({ accepted: 5, completed: 5, failed: 0, active: 0, tasks: 2 });
    await gateway.close();
  });

  it("sends what is there when the first has waited for the timeout", async () => {
    const { gateway, invoker } = await start(5);
    await gateway.run("g2p", { text: "batch" });
    expect(invoker.batches).toEqual([[1, 512]]);
    await gateway.close();
  });

  it("refuses what no function could answer, and more than it may hold", async () => {
    const { gateway, invoker } = await start(60_000);
    await expect(gateway.run("g2p", { text: "!?" })).rejects.toMatchObject({ code: "INVALID_INPUT" });
    await expect(gateway.run("other", { text: "a" })).rejects.toThrow(
      "there is no model 'other'; there are g2p",
    );
    expect(() => gateway.session("g2p")).toThrow("functions keep no sessions");
    invoker.isHeld = true;
    const held = Array.from({ length: 10 }, () => gateway.run("g2p", { text: "cat" }));
    await expect(gateway.run("g2p", { text: "cat" })).rejects.toMatchObject({ code: "OVERLOADED" });
    const ends = Promise.allSettled(held);
    await gateway.close(0);
    for (const one of await ends)
      expect(one).toMatchObject({ status: "rejected", reason: { code: "SHUTTING_DOWN" } });
  });

  it("forgets requests that are cancelled or too late before their batch goes", async () => {
    const { gateway, invoker } = await start(60_000);
    const given = new AbortController();
    const cancelled = gateway.run("g2p", { text: "cat" }, { signal: given.signal });
    given.abort();
    await expect(cancelled).rejects.toMatchObject({ code: "CANCELLED" });
    await expect(gateway.run("g2p", { text: "cat" }, { timeoutMs: 5 })).rejects.toMatchObject({
      code: "DEADLINE_EXCEEDED",
    });
    await Promise.all(["cat", "dog"].map((text) => gateway.run("g2p", { text })));
    expect(invoker.batches).toEqual([[2, 512]]);
    await gateway.close();
  });

  it("answers what it has accepted before it closes", async () => {
    const { gateway } = await start(50);
    const last = gateway.run("g2p", { text: "batch" });
    const closed = gateway.close();
    await expect(gateway.run("g2p", { text: "batch" })).rejects.toMatchObject({ code: "SHUTTING_DOWN" });
    expect((await last).outputs.phonemes).toBe(SPOKEN[1]);
    await closed;
  });
});
