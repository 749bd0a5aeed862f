import fc from "fast-check";
import { afterEach, describe, expect, it } from "vitest";
import { faults } from "../../src/core/faults.ts";
import { createRuntime } from "../../src/runtime/create.ts";
import type { Runtime } from "../../src/runtime/types.ts";
import { datatypes } from "../../src/server/datatypes.ts";
import { parseJson } from "../../src/server/oip/json.ts";
import { jsonValuesOf } from "../../src/server/oip/write-tensors.ts";
import { type Server, type ServerSettings, startServer } from "../../src/server/server.ts";
import { chainModel, listenerModel } from "../fixtures/models.ts";

/** JSON without integers that `JSON.parse` might round. */
const exactJson = fc.json().filter((json) => !/\d{16}/.test(json));

describe("JSON of clients", () => {
  it("is read as JSON.parse reads it, where that is exact", () => {
    fc.assert(
      fc.property(exactJson, fc.constantFrom("", "NaN"), (json, token) => {
        // A token beside it takes the slow and exact way through the same text.
        const text = token ? `[${json},${token}]` : json;
        const expected: unknown = JSON.parse(json);
        expect(parseJson(text)).toEqual(token ? [expected, Number.NaN] : expected);
      }),
    );
  });

  it("keeps every digit of integers beyond 2^53, and stays a number below", () => {
    fc.assert(
      fc.property(fc.bigInt({ min: -(2n ** 70n), max: 2n ** 70n }), (integer) => {
        const value = parseJson(`{"a":[${integer}]}`) as { a: [number | bigint] };
        expect(BigInt(value.a[0])).toBe(integer);
        expect(typeof value.a[0]).toBe(Number.isSafeInteger(Number(integer)) ? "number" : "bigint");
      }),
    );
    const others = "[0.12345678901234567, 1e20, -0.5e-3]";
    expect(parseJson(others)).toEqual(JSON.parse(others));
  });

  it("that is noise is refused, with and without the tokens that JSON lacks", () => {
    const broken = [
      "",
      "[1,]",
      "{a:1}",
      '{"a"}',
      "[NaN",
      "NaN x",
      '["NaN]',
      "[--Infinity]",
      "[01NaN]",
      "\u00a0NaN",
    ];
    for (const text of broken)
      expect(() => parseJson(text), text).toThrow(/failed to parse the request JSON/);
    fc.assert(
      fc.property(fc.string(), (text) => {
        try {
          parseJson(`NaN${text}`);
        } catch (error) {
          expect(error).toMatchObject({ code: "INVALID_REQUEST" });
        }
      }),
    );
  });

  it("may be 100 deep and no deeper, however long", () => {
    const deep = (depth: number) => "[".repeat(depth) + "]".repeat(depth);
    expect(() => parseJson(deep(100))).not.toThrow();
    expect(() => parseJson(deep(101))).toThrow(/exceeds maximum allowed limit \(100\)/);
    expect(() => parseJson("[".repeat(1e6))).toThrow(/exceeds/);
    expect(parseJson(JSON.stringify(deep(200)))).toBe(deep(200));
  });

  it("has no way to a prototype", () => {
    const parsed = parseJson('{"__proto__":{"polluted":1},"a":NaN}') as object;
    expect(Object.getPrototypeOf(parsed)).toBe(Object.prototype);
    expect(Object.keys(parsed)).toEqual(["__proto__", "a"]);
  });

  it("is written with tokens that it is read with", () => {
    const data = Float32Array.of(1.5, Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY);
    const text = jsonValuesOf({ name: "h", tensor: { dtype: "float32", shape: [4], data } });
    expect(parseJson(`[${text}]`)).toEqual([...data]);
  });
});

describe("half floats", () => {
  const view = new DataView(new ArrayBuffer(4));
  const fromBits = (bits: number) => {
    view.setUint32(0, bits >>> 0);
    return view.getFloat32(0);
  };
  const read = (name: string, bits: number) => {
    view.setUint16(0, bits, true);
    return datatypes[name]!.read(view, 0);
  };

  it("FP16 are what float32 makes of the same fields, for all 65,536 of them", () => {
    for (let bits = 0; bits < 65_536; bits++) {
      const sign = (bits & 0x8000) << 16;
      const exponent = (bits & 0x7c00) << 13;
      const fraction = (bits & 0x3ff) << 13;
      // Rebased by 112, subnormals by subtraction of what the hidden bit adds; infinities keep all ones.
      const rebased = exponent === 0x0f800000 ? 0x7f800000 | fraction : exponent + 0x38000000 + fraction;
      const magnitude =
        exponent === 0 ? fromBits(0x38800000 | fraction) - fromBits(0x38800000) : fromBits(rebased);
      expect(read("FP16", bits)).toEqual(sign ? -magnitude : magnitude);
    }
  });

  it("BF16 are the upper half of a float32, for all 65,536 of them", () => {
    for (let bits = 0; bits < 65_536; bits++) {
      const value = read("BF16", bits);
      expect(value).toEqual(fromBits(bits * 65_536));
    }
  });
});

it("codes of faults have one HTTP and one gRPC status each", () => {
  for (const { http, grpc } of Object.values(faults)) {
    expect([http >= 400 && http < 600, grpc >= 1 && grpc <= 16]).toEqual([true, true]);
  }
});

describe("a server", () => {
  let runtime: Runtime;
  let server: Server;

  async function start(settings: Partial<ServerSettings>): Promise<void> {
    runtime = await createRuntime({ models: [chainModel("last", 256), listenerModel()], inline: true });
    server = await startServer({ runtime, port: 0, grpcPort: 0, ...settings });
  }
  afterEach(async () => {
    await server.close(0);
    await runtime.close(0);
  });

  const infer = async (model: string, parameters: object, steps = 1) => {
    const data = new Array(steps * 4).fill(0);
    const reply = await fetch(`http://127.0.0.1:${server.port}/v2/models/${model}/infer`, {
      method: "POST",
      body: JSON.stringify({
        parameters,
        inputs: [{ name: "x", datatype: "FP32", shape: [steps, 4], data }],
      }),
    });
    return { status: reply.status, json: (await reply.json()) as { error?: string } };
  };

  it("evicts a sequence that is idle, counts it, and tells its next request to start", async () => {
    await start({ limits: { idleMs: 100 } });
    await infer("listener", { sequence_id: 1, sequence_start: true });
    expect(runtime.stats().active).toBe(1);
    await expect.poll(() => runtime.stats().active).toBe(0);
    const metrics = await (await fetch(`http://127.0.0.1:${server.port}/metrics`)).text();
    expect(metrics).toMatch(/cellbatch_sequences_ended_total\{reason="idle"\} 1/);
    expect((await infer("listener", { sequence_id: 1 })).json.error).toMatch(/START flag/);
  });

  it("that closes lets what runs and open sequences finish, and refuses what is new", async () => {
    await start({});
    await infer("listener", { sequence_id: 1, sequence_start: true });
    const running = infer("chain", {}, 9000);
    await expect.poll(() => runtime.stats().active, { interval: 2 }).toBe(2);
    const closed = server.close(5000);
    const [fresh, ready] = await Promise.all([
      infer("chain", {}),
      fetch(`http://127.0.0.1:${server.port}/v2/health/ready`),
    ]);
    expect([fresh.status, ready.status]).toEqual([503, 503]);
    expect((await infer("listener", { sequence_id: 2, sequence_start: true })).json.error).toMatch(
      /^Server is stopping, scheduler for model has stopped accepting new inference requests/,
    );
    expect((await running).status).toBe(200);
    expect((await infer("listener", { sequence_id: 1, sequence_end: true })).status).toBe(200);
    await closed;
    await expect(infer("chain", {})).rejects.toThrow();
  });

  it("asks its repository to load and unload", async () => {
    const asked: string[] = [];
    await start({
      repository: {
        isReady: () => true,
        index: () => [{ name: "next", version: "", state: "UNAVAILABLE", reason: "not loaded" }],
        load: async (model) => void asked.push(`load ${model}`),
        unload: async (model) => void asked.push(`unload ${model}`),
      },
    });
    const post = (path: string, body = "") =>
      fetch(`http://127.0.0.1:${server.port}/v2/repository/${path}`, { method: "POST", body });
    const load = await post("models/next/load");
    expect([load.status, await load.text()]).toEqual([200, ""]);
    const unload = await post("models/next/unload", '{"parameters":{"unload_dependents":true}}');
    expect([unload.status, asked]).toEqual([200, ["load next", "unload next"]]);
    expect(await (await post("index")).json()).toHaveLength(1);
    expect(await (await post("index", '{"ready":true}')).json()).toEqual([]);
  });

  it("whose port is taken frees what it had opened", async () => {
    await start({});
    const second = startServer({ runtime, port: server.port, grpcPort: 0 });
    await expect(second).rejects.toMatchObject({ code: "EADDRINUSE" });
    await expect(startServer({ runtime, port: 0, grpcPort: server.grpcPort! })).rejects.toThrow(
      /port \d+ of 127\.0\.0\.1 for gRPC cannot be had/,
    );
  });
});
